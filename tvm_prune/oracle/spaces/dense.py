"""Program space of matrix products with a constant right-hand side: linear layers.

Output columns are tiled into `vectors` x `lanes` accumulators; the depth runs inside; rows outside. Large products
run in parallel over column tiles, so that each thread streams its own part of the weights.
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

NAME = "dense"
VERSION = 1
KINDS = ("dense",)

# Weights under which one thread can win.
_SERIAL_WEIGHTS = 100_000


def points(function: Any, anatomy: Anatomy, target: Target) -> Iterator[Point]:
    """Yield the points of the space for `function`, the likeliest first."""
    *_, wide, depth = anatomy.extents
    exact = wide == anatomy.channels
    usable = divisors(wide, at_most=target.lanes)
    for lanes in reversed(usable[-2:]):
        for vectors in (v for v in (8, 4, 2, 1) if wide % (lanes * v) == 0):
            tiles = wide // (lanes * vectors)
            # A padded product is stored in one piece, so its tiles cannot go to several threads.
            variants = ["parallel"] if exact and target.threads > 1 and tiles >= target.threads else ["serial"]
            if variants == ["parallel"] and wide * depth <= _SERIAL_WEIGHTS:
                variants.append("serial")
            for variant in variants:
                schedule = partial(_schedule, function, anatomy, variant, lanes, vectors)
                yield Point(_program(anatomy, variant, lanes, vectors), schedule)


def _program(anatomy: Anatomy, variant: str, lanes: int, vectors: int) -> Program:
    *rows, wide, depth = anatomy.extents
    row_count, tiles = math.prod(rows), wide // (vectors * lanes)
    return Program(
        space=NAME,
        space_version=VERSION,
        variant=variant,
        axes={
            "out_c": Axis(extent=anatomy.channels, padded_extent=wide, factors=(tiles, vectors, lanes)),
            "h": Axis(extent=row_count, padded_extent=row_count, factors=(row_count,)),
            "in_c": Axis(extent=depth, padded_extent=depth, factors=(depth,)),
        },
        lanes=lanes,
        parallel=tiles if variant == "parallel" else 1,
        latency_s=0.0,
    )


def _schedule(function: Any, anatomy: Anatomy, variant: str, lanes: int, vectors: int) -> Any:
    from tvm.s_tir import Schedule

    exact = anatomy.computed_channels == anatomy.channels
    schedule = Schedule(function)
    for name in anatomy.before:
        schedule.compute_inline(schedule.get_sblock(name))
    product = schedule.get_sblock(anatomy.anchor)
    for name in anatomy.after[:-1]:
        schedule.compute_inline(schedule.get_sblock(name))
    out = schedule.get_sblock(anatomy.after[-1]) if anatomy.after else schedule.cache_write(product, 0, "local")
    *rows, columns, k = schedule.get_loops(product)
    tile, vector, lane = schedule.split(columns, [None, vectors, lanes])
    schedule.reorder(*rows, tile, k, vector, lane)
    row = schedule.fuse(*rows) if len(rows) > 1 else rows[0]
    schedule.vectorize(lane)
    schedule.unroll(vector)
    if exact:
        schedule.reorder(tile, row)
        schedule.reverse_compute_at(out, row, preserve_unit_loops=True)
        if variant == "parallel":
            schedule.parallel(tile)
    else:
        schedule.reverse_compute_at(out, row, preserve_unit_loops=True)
    if anatomy.after:
        schedule.set_scope(product, 0, "local")
    *_, out_column = schedule.get_loops(out)
    if int(schedule.get(out_column).extent) <= 64:
        schedule.vectorize(out_column)
    schedule.decompose_reduction(product, k)
    return schedule
