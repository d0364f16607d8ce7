"""Program space of everything without a weighted anchor: pooling, means, transposes, element-wise leftovers.

Element-wise producers are inlined; every block that stays gets its last spatial loop innermost and vectorised; the
outer spatial loops run in parallel or on one thread.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tvm_prune.oracle.program import Axis, Program
from tvm_prune.oracle.spaces.anatomy import Anatomy
from tvm_prune.oracle.spaces.candidate import Candidate, divisors, tag
from tvm_prune.oracle.target import Target

__all__ = ["KINDS", "NAME", "VERSION", "candidates"]

NAME = "loops"
VERSION = 1
KINDS = ("other",)

# Elements under which a second thread cannot pay.
_SERIAL_ELEMENTS = 16_384


def candidates(function: Any, anatomy: Anatomy, target: Target) -> Iterator[Callable[[], Candidate]]:
    """Yield makers of the plain, vectorised and parallel forms of `function`."""
    elements = 1
    for extent in function.params[-1].shape:
        elements *= int(extent)
    yield partial(_schedule, function, anatomy, target, "plain")
    yield partial(_schedule, function, anatomy, target, "vector")
    if target.threads > 1 and elements > _SERIAL_ELEMENTS // 4:
        yield partial(_schedule, function, anatomy, target, "parallel")


def _schedule(function: Any, anatomy: Anatomy, target: Target, variant: str) -> Candidate:
    from tvm.s_tir import Schedule, ScheduleError

    schedule = Schedule(function)
    for name in anatomy.after[:-1]:
        try:
            schedule.compute_inline(schedule.get_sblock(name))
        except ScheduleError:
            continue  # a reduction or an opaque block stays a stage of its own
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    parallel, lanes = 1, 1
    for block in blocks if variant != "plain" else []:
        kinds = [int(var.iter_type) for var in schedule.get(block).iter_vars]
        loops = schedule.get_loops(block)
        if len(kinds) != len(loops) or any(kind not in (0, 2) for kind in kinds):
            continue  # 0 spatial, 2 reduction; anything else keeps its order
        spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == 0]
        reduction = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == 2]
        if not spatial:
            continue
        *outer, last = spatial
        extent = int(schedule.get(last).extent)
        lanes = divisors(extent, at_most=4 * target.lanes)[-1]
        tile, lane = schedule.split(last, [None, lanes])
        schedule.reorder(*outer, tile, *reduction, lane)
        schedule.vectorize(lane)
        fused = schedule.fuse(*outer, tile) if outer else tile
        if variant == "parallel":
            parallel = int(schedule.get(fused).extent)
            schedule.parallel(fused)
        if reduction:
            schedule.decompose_reduction(block, reduction[0])
    width = int(function.params[-1].shape[-1]) if len(function.params[-1].shape) else 1
    program = Program(
        space=NAME,
        space_version=VERSION,
        variant=variant,
        axes={"out_c": Axis(extent=width, padded_extent=width, factors=(width // lanes, lanes))},
        lanes=lanes,
        parallel=parallel,
        latency_s=0.0,
    )
    return tag(schedule, program)
