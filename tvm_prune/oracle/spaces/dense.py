"""Program space of matrix products: linear layers, and the products of attention.

Loops, outer to inner: the threads' shares; column tile, row tile; the depth; then a register tile of rows x column
vectors, unrolled and vectorised, whose accumulators are written back once with the inlined epilogue. What varies:

    lanes      SIMD elements of one vector; a divisor of the computed columns
    vectors    column vectors in the register tile
    rows       rows in the register tile, all of one matrix where several are multiplied at once
    share      channels  each thread streams its own part of the weights
               rows      each thread takes a band of rows, or some of the matrices
               serial    one thread: what is smaller than the cost of waking a second one

A product whose columns are padded computes all of them at once per row tile, so that one store of the exact count
follows: its columns cannot go to several threads.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from tvm_prune.oracle.program import Axis, Program
from tvm_prune.oracle.spaces.anatomy import Anatomy
from tvm_prune.oracle.spaces.candidate import Point, divisors
from tvm_prune.oracle.target import Target

__all__ = ["KINDS", "NAME", "VERSION", "points"]

NAME = "dense"
VERSION = 4
KINDS = ("dense",)

# Multiply-accumulates under which one thread can win.
_SERIAL_MACS = 50_000
# Stored columns up to which a padded product's store is one vector operation.
_WHOLE_STORE = 64


@dataclass(frozen=True)
class _Choice:
    """The choices behind one point of the space; the fields are those of the list above."""

    lanes: int
    vectors: int
    rows: int
    share: str


def points(function: Any, anatomy: Anatomy, target: Target) -> Iterator[Point]:
    """Yield the points of the space for `function`, the likeliest first."""
    for choice in sorted(_choices(anatomy, target), key=_expected):
        yield Point(_program(anatomy, target, choice), partial(_schedule, function, anatomy, target, choice))


def _choices(anatomy: Anatomy, target: Target) -> Iterator[_Choice]:
    *matrices, height, wide, depth = anatomy.extents
    exact = wide == anatomy.channels
    lanes_worth = divisors(wide, at_most=target.lanes)[-2:]
    for lanes, vectors, rows in product(lanes_worth, (8, 4, 2, 1), divisors(height, at_most=8)):
        if wide % (lanes * vectors) or vectors * rows > target.accumulators:
            continue
        shares = []
        if target.threads > 1:
            if exact and wide // (lanes * vectors) >= target.threads:
                shares.append("channels")
            if math.prod(matrices) * height // rows % target.threads == 0:
                shares.append("rows")
        if not shares or math.prod(matrices) * height * wide * depth <= _SERIAL_MACS:
            shares.append("serial")
        for share in shares:
            yield _Choice(lanes, vectors, rows, share)


def _expected(choice: _Choice) -> tuple[int, float]:
    """Return what sorts the choices of a kernel before anything is measured: the widest vectors, the least cost."""
    accumulators = choice.vectors * choice.rows
    # Enough accumulators to hide latency; loads that keep up with the multiplications.
    loads = (choice.vectors + choice.rows) / accumulators
    return -choice.lanes, max(1.0, 8 / accumulators) * (1 + 0.3 * loads)


def _program(anatomy: Anatomy, target: Target, choice: _Choice) -> Program:
    *rows, wide, depth = anatomy.extents
    row_count, tiles = math.prod(rows), wide // (choice.vectors * choice.lanes)
    return Program(
        space=NAME,
        space_version=VERSION,
        variant=choice.share,
        axes={
            "out_c": Axis(extent=anatomy.channels, padded_extent=wide, factors=(tiles, choice.vectors, choice.lanes)),
            "h": Axis(extent=row_count, padded_extent=row_count, factors=(row_count // choice.rows, choice.rows)),
            "in_c": Axis(extent=depth, padded_extent=depth, factors=(depth,)),
        },
        lanes=choice.lanes,
        parallel={"channels": tiles, "rows": target.threads, "serial": 1}[choice.share],
        latency_s=0.0,
    )


def _schedule(function: Any, anatomy: Anatomy, target: Target, choice: _Choice) -> Any:
    from tvm.s_tir import Schedule

    exact = anatomy.computed_channels == anatomy.channels
    schedule = Schedule(function)
    for name in anatomy.before:
        schedule.compute_inline(schedule.get_sblock(name))
    product_block = schedule.get_sblock(anatomy.anchor)
    for name in anatomy.after[:-1]:
        schedule.compute_inline(schedule.get_sblock(name))
    out = schedule.get_sblock(anatomy.after[-1]) if anatomy.after else schedule.cache_write(product_block, 0, "local")
    *matrices, height, columns, depth = schedule.get_loops(product_block)
    column_tile, vector, lane = schedule.split(columns, [None, choice.vectors, choice.lanes])
    row_tile, row = schedule.split(height, [None, choice.rows])
    schedule.reorder(*matrices, row_tile, column_tile, depth, row, vector, lane)
    rows = schedule.fuse(*matrices, row_tile) if matrices else row_tile
    outer = column_tile
    if choice.share == "rows":
        outer, rows = schedule.split(rows, [target.threads, None])
    if exact:
        schedule.reorder(column_tile, rows)
    schedule.reverse_compute_at(out, rows, preserve_unit_loops=True)
    if anatomy.after:
        schedule.set_scope(product_block, 0, "local")
    schedule.vectorize(lane)
    schedule.unroll(vector)
    schedule.unroll(row)
    *_, out_column = schedule.get_loops(out)
    if exact and choice.vectors > 1:
        out_vector, out_lane = schedule.split(out_column, [choice.vectors, choice.lanes])
        schedule.unroll(out_vector)
        schedule.vectorize(out_lane)
    elif exact or int(schedule.get(out_column).extent) <= _WHOLE_STORE:
        schedule.vectorize(out_column)
    if choice.share != "serial" and int(schedule.get(outer).extent) > 1:
        schedule.parallel(outer)
    schedule.decompose_reduction(product_block, depth)
    return schedule
