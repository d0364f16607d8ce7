"""Program space of packing alone, of kernels that do nothing else: it says what part of a convolution packing is.

Whether a bit is set in each byte of a vector is one word of a plane (relay_passes/bit_serial.py): what is left to
choose is whether one thread packs or all do.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from tvm_prune.oracle.program import Axis, Program
from tvm_prune.oracle.spaces.anatomy import Anatomy
from tvm_prune.oracle.spaces.candidate import Point, divisors
from tvm_prune.oracle.target import Target

__all__ = ["KINDS", "NAME", "VERSION", "pad_in_vectors", "points"]

NAME = "bit_planes"
VERSION = 2
KINDS = ("bit_packing",)

_VECTOR_BYTES = 64


def points(function: Any, anatomy: Anatomy, target: Target) -> Iterator[Point]:
    """Yield packing on one thread and on all."""
    for variant in ("serial", "parallel") if target.threads > 1 else ("serial",):
        yield Point(_program(function, target, variant), partial(_schedule, function, anatomy, target, variant))


def _program(function: Any, target: Target, variant: str) -> Program:
    _, height, width, words, _ = (int(extent) for extent in function.params[-1].shape)
    bits = int(str(function.params[-1].dtype).removeprefix("uint"))
    return Program(
        space=NAME,
        space_version=VERSION,
        variant=variant,
        axes={
            "h": Axis(extent=height, padded_extent=height, factors=(height,)),
            "w": Axis(extent=width, padded_extent=width, factors=(width,)),
            "in_c": Axis(extent=words * bits, padded_extent=words * bits, factors=(words, bits)),
        },
        lanes=bits,
        parallel=1 if variant == "serial" else target.threads,
        latency_s=0.0,
    )


def _schedule(function: Any, anatomy: Anatomy, target: Target, variant: str) -> Any:
    from tvm.s_tir import Schedule

    schedule = Schedule(function)
    n, height, *_ = schedule.get_loops(schedule.get_sblock("bit_planes"))
    rows = schedule.fuse(n, height)
    if variant == "parallel":
        rows, _ = schedule.split(rows, [target.threads, None])
    if len(anatomy.after) > 1:
        pad_in_vectors(schedule, schedule.get_sblock(anatomy.after[0]), rows)
    if variant == "parallel":
        schedule.parallel(rows)
    return schedule


def pad_in_vectors(schedule: Any, pad: Any, at: Any) -> None:
    """Make the padded copy of an image of bytes at loop `at` (None = before all else), a vector at a time."""
    if at is not None:
        schedule.compute_at(pad, at, preserve_unit_loops=True)
    *_, channel = schedule.get_loops(pad)
    extent = int(schedule.get(channel).extent)
    _, lane = schedule.split(channel, [None, divisors(extent, at_most=_VECTOR_BYTES)[-1]])
    schedule.vectorize(lane)
