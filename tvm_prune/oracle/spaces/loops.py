"""Program space of everything without a weighted anchor: pooling, means, transposes, element-wise leftovers.

Element-wise producers are inlined; every block that stays gets its last spatial loop innermost and vectorised; the
outer spatial loops run in parallel or on one thread. Where the last loop is over a few channels only, "columns"
vectorises the one before: what brings an image of three planes to three channels a pixel reads whole vectors then.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

from tvm_prune.oracle.program import Axis, Program
from tvm_prune.oracle.spaces.anatomy import Anatomy
from tvm_prune.oracle.spaces.candidate import Point, divisors
from tvm_prune.oracle.target import Target

__all__ = ["KINDS", "NAME", "VERSION", "points"]

NAME = "loops"
VERSION = 4
KINDS = ("other",)

# Channels that are no vector worth the name: an image's three.
_FEW = 4
# Elements under which a second thread cannot pay.
_SERIAL_ELEMENTS = 16_384


def points(function: Any, anatomy: Anatomy, target: Target) -> Iterator[Point]:
    """Yield the plain, the vectorised and the parallel form of `function`."""
    extents = [int(extent) for extent in function.params[-1].shape]
    variants = ["plain", "vector"]
    if len(extents) > 2 and extents[-1] <= _FEW and extents[-2] >= target.lanes:
        variants.append("columns")
    if target.threads > 1 and math.prod(extents) > _SERIAL_ELEMENTS // 4:
        variants.append("parallel")
    for variant in variants:
        yield Point(_program(extents, target, variant), partial(_schedule, function, anatomy, target, variant))


def _program(extents: list[int], target: Target, variant: str) -> Program:
    width = extents[-1] if extents else 1
    lanes = 1 if variant in ("plain", "columns") else divisors(width, at_most=4 * target.lanes)[-1]
    parallel = math.prod(extents) // lanes if variant == "parallel" else 1
    if variant == "columns" and target.threads > 1:
        parallel = math.prod(extents[:-2])
    return Program(
        space=NAME,
        space_version=VERSION,
        variant=variant,
        axes={"out_c": Axis(extent=width, padded_extent=width, factors=(width // lanes, lanes))},
        lanes=lanes,
        parallel=parallel,
        latency_s=0.0,
    )


def _schedule(function: Any, anatomy: Anatomy, target: Target, variant: str) -> Any:
    from tvm.s_tir import Schedule, ScheduleError

    schedule = Schedule(function)
    for name in anatomy.after[:-1]:
        try:
            schedule.compute_inline(schedule.get_sblock(name))
        except ScheduleError:
            continue  # a reduction or an opaque block stays a stage of its own
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    if variant == "columns":
        return _columns(schedule, blocks, target)
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
            schedule.parallel(fused)
        if reduction:
            schedule.decompose_reduction(block, reduction[0])
    return schedule


def _columns(schedule: Any, blocks: Any, target: Target) -> Any:
    from tvm.s_tir import ScheduleError

    if len(blocks) != 1:
        raise ScheduleError("only a kernel of one stage is vectorised over its columns")
    *rows, column, channel = schedule.get_loops(blocks[0])
    tile, lane = schedule.split(column, [None, target.lanes])
    schedule.reorder(*rows, tile, channel, lane)
    schedule.vectorize(lane)
    schedule.unroll(channel)
    if target.threads > 1:
        schedule.parallel(schedule.fuse(*rows))
    return schedule
