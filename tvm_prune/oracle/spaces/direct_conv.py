"""Program space of direct convolutions, channels last: dense, grouped and depthwise, any kernel, stride and dilation.

Loops, outer to inner: the threads' shares; then channel tile, row tile and column tile in one of two orders; kernel and
input channels; then a register tile of rows x columns x channel vectors, unrolled and vectorised, whose accumulators
are written back once with the inlined epilogue. What varies:

    lanes      SIMD elements of one vector; a divisor of the computed channels
    vectors    channel vectors in the register tile
    rows, columns  output pixels in the register tile
    share      rows      each thread takes a band of rows
               channels  each thread takes a share of the channels, so its share of the weights stays in its cache
               items     every row and channel tile is an item of work, where neither divides evenly
               serial    one thread: what is smaller than the cost of waking a second one
    order      rows      a row of pixels meets all weights before the next row: weights fit the cache
               weights   a tile of weights meets all pixels before the next tile: weights pass the cache once
    border     copied    each thread pads its share of the image
               inline    zero padding becomes a condition at the load: no extra pass, no extra buffer

A kernel whose channels are padded (relay_passes/choose_forms.py) computes all of them at once per column tile, so
that one store of the exact count follows; its tail needs no condition.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from tvm_prune.oracle.program import Axis, Program
from tvm_prune.oracle.spaces import dot_product
from tvm_prune.oracle.spaces.anatomy import Anatomy
from tvm_prune.oracle.spaces.candidate import Point, copy_border, divisors
from tvm_prune.oracle.target import Target

__all__ = ["KINDS", "NAME", "VERSION", "points"]

NAME = "direct_conv"
VERSION = 4
KINDS = ("conv2d", "grouped", "depthwise")

# Multiply-accumulates under which one thread can win: a parallel loop costs a quarter of a microsecond (launcher.cc).
_SERIAL_MACS = 200_000
# Points that are expected to take so many times the best one's time are not tried.
_WORTH_TRYING = 1.5


@dataclass(frozen=True)
class _Choice:
    """The choices behind one point of the space; the fields are those of the list above."""

    lanes: int
    vectors: int
    rows: int
    columns: int
    share: str
    order: str
    border: str

    @property
    def accumulators(self) -> int:
        return self.vectors * self.rows * self.columns

    @property
    def variant(self) -> str:
        words = [self.share]
        if self.order == "weights":
            words.append("weights")
        if self.border == "inline":
            words.append("inline")
        return " ".join(words)


def points(function: Any, anatomy: Anatomy, target: Target) -> Iterator[Point]:
    """Yield the points of the space for `function`, the likeliest first."""
    choices = list(_choices(function, anatomy, target))
    expected = {choice: _expected(choice, anatomy, target) for choice in choices}
    limit = _WORTH_TRYING * min(expected.values(), default=0.0)
    for choice in sorted(choices, key=expected.__getitem__):
        if expected[choice] <= limit:
            schedule = partial(_schedule, function, anatomy, target, choice)
            yield Point(_program(anatomy, target, choice), schedule)


def _choices(function: Any, anatomy: Anatomy, target: Target) -> Iterator[_Choice]:
    batch, height, width, wide, *reduction = anatomy.extents
    exact = wide == anatomy.channels
    macs = batch * height * width * wide
    for extent in reduction:
        macs *= extent
    speed = target.dot_product.speed if anatomy.dot and target.dot_product is not None else 1.0
    borders = ("inline", "copied") if anatomy.border else ("inline",)
    if anatomy.dot and anatomy.before:
        borders = ("copied",)  # an instruction takes its bytes as they lie in memory
    for lanes, vectors, rows, columns in _tiles(function, anatomy, target):
        shares = []
        if target.threads == 1:
            shares = ["serial"]
        else:
            even = batch * height // rows % target.threads == 0
            if even:
                shares.append("rows")
            if exact and wide // (lanes * vectors) % target.threads == 0 and (height < 16 or not even):
                shares.append("channels")
            if not shares:
                shares.append("items")
            if macs <= _SERIAL_MACS * speed:
                shares.append("serial")
        for share, border in product(shares, borders):
            for order in _orders(anatomy, share, exact, batch * height // rows):
                yield _Choice(lanes, vectors, rows, columns, share, order, border)


def _orders(anatomy: Anatomy, share: str, exact: bool, row_tiles: int) -> tuple[str, ...]:
    if not exact or share == "items" or anatomy.kind == "depthwise":
        return ("rows",)
    if row_tiles == 1:
        return ("weights",)
    return ("rows", "weights") if share == "rows" else ("weights",) if share == "channels" else ("rows",)


def _tiles(function: Any, anatomy: Anatomy, target: Target) -> Iterator[tuple[int, int, int, int]]:
    """Yield (lanes, vectors, rows, columns) whose accumulators fit the registers."""
    _, height, width, wide, *_ = anatomy.extents
    per_group = wide
    if anatomy.kind == "grouped":
        # All lanes of a vector must read the same input channels.
        groups = int(function.params[0].shape[-1]) // anatomy.extents[-1]
        per_group = wide // groups
    if anatomy.packed:
        best_lanes = [anatomy.packed]
    else:
        usable = divisors(per_group, at_most=target.lanes)
        best_lanes = usable[-2:] if usable[-1] < target.lanes else usable[-1:]
    pixels = product(divisors(height, at_most=4), divisors(width, at_most=16))
    for lanes, vectors, (rows, columns) in product(best_lanes, (1, 2, 3, 4, 6, 8), list(pixels)):
        if wide % (lanes * vectors) == 0 and vectors * rows * columns <= target.accumulators:
            yield lanes, vectors, rows, columns


def _expected(choice: _Choice, anatomy: Anatomy, target: Target) -> float:
    """Return the expected cost of a choice against others of the same kernel, before anything is measured."""
    pixels = choice.rows * choice.columns
    # Full vectors; enough accumulators to hide latency; loads that keep up with the multiplications.
    cost = target.lanes / choice.lanes
    cost *= max(1.0, 8 / choice.accumulators)
    if anatomy.kind == "depthwise":
        # An input serves one output channel only: wide vectors save nothing, columns share their inputs.
        cost *= 1 + 0.1 * (choice.vectors - 1) + 0.2 * (choice.rows - 1)
        return cost * (1.3 if choice.border == "copied" else 1.0)
    loads = (choice.vectors + pixels) / (choice.vectors * pixels)
    return cost * (1 + 0.3 * loads)


def _program(anatomy: Anatomy, target: Target, choice: _Choice) -> Program:
    batch, height, width, wide, *_ = anatomy.extents
    lanes, vectors, rows, columns = choice.lanes, choice.vectors, choice.rows, choice.columns
    tiles = wide // (vectors * lanes)
    items = batch * height // rows * (tiles if wide == anatomy.channels else 1)
    parallel = {"serial": 1, "items": items}.get(choice.share, target.threads)
    return Program(
        space=NAME,
        space_version=VERSION,
        variant=choice.variant,
        axes={
            "out_c": Axis(extent=anatomy.channels, padded_extent=wide, factors=(tiles, vectors, lanes)),
            "h": Axis(extent=height, padded_extent=height, factors=(height // rows, rows)),
            "w": Axis(extent=width, padded_extent=width, factors=(width // columns, columns)),
            "in_c": Axis(extent=anatomy.depth, padded_extent=anatomy.depth, factors=(anatomy.depth,)),
        },
        lanes=lanes,
        parallel=parallel,
        latency_s=0.0,
    )


def _schedule(function: Any, anatomy: Anatomy, target: Target, choice: _Choice) -> Any:
    from tvm.s_tir import Schedule

    lanes, vectors, rows, columns = choice.lanes, choice.vectors, choice.rows, choice.columns
    exact = anatomy.computed_channels == anatomy.channels
    instruction = dot_product.instruction(target, lanes) if anatomy.dot else None
    schedule = Schedule(function)
    conv = schedule.get_sblock(anatomy.anchor)
    pads = [schedule.get_sblock(name) for name in anatomy.before[-1:]]
    for name in anatomy.before[:-1]:
        schedule.compute_inline(schedule.get_sblock(name))
    for name in anatomy.after[:-1]:
        schedule.compute_inline(schedule.get_sblock(name))
    out = schedule.get_sblock(anatomy.after[-1]) if anatomy.after else schedule.cache_write(conv, 0, "local")

    n, h, w, c, *inner = schedule.get_loops(conv)
    channel_tile, vector, lane = schedule.split(c, [None, vectors, lanes])
    row_tile, row = schedule.split(h, [None, rows])
    column_tile, column = schedule.split(w, [None, columns])
    pairs = [inner.pop()] if anatomy.dot else []
    within = (*inner, row, column, vector, lane, *pairs)
    schedule.reorder(n, row_tile, column_tile, channel_tile, *within)
    tile_rows = schedule.fuse(n, row_tile)
    outer, tile_rows, channel_tile = _share(schedule, choice, target.threads, tile_rows, channel_tile)
    if not exact:
        schedule.reorder(tile_rows, column_tile, channel_tile)
    elif choice.order == "weights":
        schedule.reorder(channel_tile, tile_rows, column_tile)
    else:
        schedule.reorder(tile_rows, channel_tile, column_tile)
    if choice.share == "items":
        outer = schedule.fuse(tile_rows, channel_tile) if exact else tile_rows

    schedule.reverse_compute_at(out, column_tile, preserve_unit_loops=True)
    if anatomy.after:
        schedule.set_scope(conv, 0, "local")
    *_, out_row, out_column, out_channel = schedule.get_loops(out)
    if instruction is None:
        schedule.vectorize(lane)
        for pair in pairs:
            schedule.unroll(pair)
    for loop in (vector, column, row, out_row, out_column):
        schedule.unroll(loop)
    if exact and vectors > 1:
        out_vector, out_lane = schedule.split(out_channel, [vectors, lanes])
        schedule.unroll(out_vector)
        schedule.vectorize(out_lane)
    else:
        schedule.vectorize(out_channel)
    for pad in pads:
        if choice.border == "inline":
            schedule.compute_inline(pad)
            continue
        copy_border(schedule, pad, outer, target.lanes)
    if choice.share != "serial" and int(schedule.get(outer).extent) > 1:
        schedule.parallel(outer)
    start = schedule.decompose_reduction(conv, inner[0])
    if instruction is not None:
        schedule.vectorize(schedule.get_loops(start)[-1])
        schedule.tensorize(lane, instruction)
    if anatomy.kind == "depthwise":
        schedule.unroll(inner[1])  # neighbours in a row share most of their inputs, which then stay in registers
    return schedule


def _share(schedule: Any, choice: _Choice, threads: int, tile_rows: Any, channel_tile: Any) -> tuple[Any, Any, Any]:
    """Cut the threads' shares off; return (loop of the shares, row tiles, channel tiles) of one share."""
    if choice.share == "channels":
        share, channel_tile = schedule.split(channel_tile, [threads, None])
        schedule.reorder(share, tile_rows)
        return share, tile_rows, channel_tile
    share, tile_rows = schedule.split(tile_rows, [threads if choice.share == "rows" else 1, None])
    return share, tile_rows, channel_tile
