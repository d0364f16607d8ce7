"""Program space of 3x3 convolutions of stride 1 by Winograd's minimal filtering (stages: relay_passes/winograd.py).

Of floats, and of bytes with the instructions for dot products of words.

A share of the image runs through all stages while it is in the cache: transform of the input, unrolled, a vector of
channels at a time; the matrix products of the (m + 2)^2 places, in register tiles of rows x columns x vectors; the
transform back, unrolled, with the inlined epilogue. What varies:

    vectors        channel vectors in the register tile of the products; their lanes are those of the packed weight
    rows, columns  tiles of the image in that register tile
    group          tile rows that go through the stages together: more of them share one pass over the weights
    share          rows      each thread takes a band of tile rows
                   channels  all threads transform the input, then each takes a share of the output channels
                   repeated  each takes a share of the output channels, and transforms the whole input for itself
                   serial    one thread
    border         copied    a padded copy of the image is made
                   inline    zero padding becomes a condition at the load
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from relay_passes.winograd_matrices import input_vector
from tvm_prune.oracle.program import Axis, Program
from tvm_prune.oracle.spaces import dot_product
from tvm_prune.oracle.spaces.anatomy import Anatomy
from tvm_prune.oracle.spaces.candidate import Point, copy_border, divisors
from tvm_prune.oracle.target import Target

__all__ = ["KINDS", "NAME", "VERSION", "points"]

NAME = "winograd"
VERSION = 4
KINDS = ("winograd",)

# Stages by the names that relay_passes/winograd.py gives them, those before the anchor and those after it.
_BEFORE = ("pad_temp", "winograd_patch", "winograd_input_rows", "winograd_input")
_AFTER = ("winograd_output_rows", "winograd_output")
_SERIAL_MACS = 100_000
# Bytes of transformed tiles that go through the stages together: they should stay in a core's second cache.
_GROUP_BYTES = 768 * 1024
# Bytes of weights from which it pays that each thread reads only its share of them.
_SHARED_BYTES = 128 * 1024


@dataclass(frozen=True)
class _Choice:
    """The choices behind one point of the space; the fields are those of the list above."""

    vectors: int
    rows: int
    columns: int
    group: int
    share: str
    border: str

    @property
    def by_channels(self) -> bool:
        """Whether each thread takes a share of the output channels."""
        return self.share in ("channels", "repeated")

    @property
    def variant(self) -> str:
        words = [self.share] if self.by_channels else [f"{self.share} by {self.group}"]
        return " ".join([*words, "inline"] if self.border == "inline" else words)


def points(function: Any, anatomy: Anatomy, target: Target) -> Iterator[Point]:
    """Yield the points of the space for `function`, the likeliest first."""
    for choice in sorted(_choices(anatomy, target), key=_expected):
        schedule = partial(_schedule, function, anatomy, target, choice)
        yield Point(_program(function, anatomy, target, choice), schedule)


def _choices(anatomy: Anatomy, target: Target) -> Iterator[_Choice]:
    side, _, tile_rows, tile_columns, wide, *_ = anatomy.extents
    depth, lanes = anatomy.depth, anatomy.packed
    exact = wide == anatomy.channels
    macs = side * side * tile_rows * tile_columns * wide * depth
    source_bytes = 2 if anatomy.dot else 4
    weight_bytes = source_bytes * side * side * wide * depth
    tile_row_bytes = side * side * tile_columns * (4 * wide + source_bytes * depth)
    speed = target.dot_product.word_speed if anatomy.dot and target.dot_product is not None else 1.0
    even = tile_rows % target.threads == 0
    share_rows = tile_rows // target.threads if even else 1
    tiles = [
        (vectors, rows, columns)
        for vectors, rows, columns in product((1, 2, 3, 4, 6), divisors(tile_rows, at_most=8), divisors(tile_columns))
        if wide % (lanes * vectors) == 0 and vectors * rows * columns <= target.accumulators
    ]
    for (vectors, rows, columns), border in product(tiles, ("copied", "inline")):
        if target.threads > 1:
            for group in divisors(share_rows):
                if group % rows == 0 and (group == rows or group * tile_row_bytes <= _GROUP_BYTES):
                    yield _Choice(vectors, rows, columns, group, "rows", border)
            if exact and wide // (lanes * vectors) % target.threads == 0 and weight_bytes >= _SHARED_BYTES:
                for share in ("channels", "repeated"):
                    yield _Choice(vectors, rows, columns, tile_rows, share, border)
        if target.threads == 1 or macs <= _SERIAL_MACS * speed:
            for group in divisors(tile_rows):
                if group % rows == 0 and (group == rows or group * tile_row_bytes <= _GROUP_BYTES):
                    yield _Choice(vectors, rows, columns, group, "serial", border)


def _expected(choice: _Choice) -> float:
    """Return the expected cost of a choice against others of the same kernel, before anything is measured."""
    pixels = choice.rows * choice.columns
    cost = max(1.0, 8 / (pixels * choice.vectors))
    return cost * (1 + 0.3 * (choice.vectors + pixels) / (choice.vectors * pixels))


def _program(function: Any, anatomy: Anatomy, target: Target, choice: _Choice) -> Program:
    side, _, tile_rows, tile_columns, wide, *_ = anatomy.extents
    batch, height, width, _ = (int(extent) for extent in function.params[-1].shape)
    tile, lanes = side - 2, anatomy.packed
    shares = target.threads if choice.by_channels else _shares(choice, tile_rows, target)
    return Program(
        space=NAME,
        space_version=VERSION,
        variant=choice.variant,
        axes={
            "out_c": Axis(
                extent=anatomy.channels,
                padded_extent=wide,
                factors=(wide // (choice.vectors * lanes), choice.vectors, lanes),
            ),
            "h": Axis(
                extent=batch * height,
                padded_extent=tile_rows * tile,
                factors=(tile_rows // choice.rows, choice.rows, tile),
            ),
            "w": Axis(
                extent=width,
                padded_extent=tile_columns * tile,
                factors=(tile_columns // choice.columns, choice.columns, tile),
            ),
            "in_c": Axis(extent=anatomy.depth, padded_extent=anatomy.depth, factors=(anatomy.depth,)),
        },
        lanes=lanes,
        parallel=shares,
        latency_s=0.0,
    )


def _shares(choice: _Choice, tile_rows: int, target: Target) -> int:
    """Return into how many bands the tile rows are cut."""
    if choice.share == "serial":
        return 1
    return target.threads if tile_rows % target.threads == 0 else tile_rows


def _schedule(function: Any, anatomy: Anatomy, target: Target, choice: _Choice) -> Any:
    from tvm.s_tir import Schedule

    side, _, tile_rows, tile_columns, wide, *_ = anatomy.extents
    batch = int(function.params[-1].shape[0])
    tile, lanes, exact = side - 2, anatomy.packed, wide == anatomy.channels
    schedule = Schedule(function)
    for name in (*anatomy.before, *anatomy.after[:-1]):
        if name not in (*_BEFORE, *_AFTER):
            schedule.compute_inline(schedule.get_sblock(name))
    pad, patch, rows_in, tiles_in = (schedule.get_sblock(name) for name in _BEFORE)
    products = schedule.get_sblock(anatomy.anchor)
    rows_out, tiles_out = (schedule.get_sblock(name) for name in _AFTER)
    out = schedule.get_sblock(anatomy.after[-1])

    # The image in whole tiles is the frame: all stages before and after it are put into its loops.
    n, h, w, k = schedule.get_loops(tiles_out)
    down, pixel_row = schedule.split(h, [tile_rows // batch, tile])
    across, pixel_column = schedule.split(w, [tile_columns, tile])
    chunk, lane = schedule.split(k, [None, lanes])
    schedule.reorder(n, down, across, chunk, pixel_row, pixel_column, lane)
    down = schedule.fuse(n, down)
    if choice.by_channels:
        outer, chunk = schedule.split(chunk, [target.threads, None])
        schedule.reorder(outer, down, across, chunk)
        stages = outer
    else:
        outer, stages, _ = schedule.split(down, [_shares(choice, tile_rows, target), None, choice.group])
    schedule.set_scope(tiles_out, 0, "local")
    schedule.reverse_compute_at(out, chunk if exact else across, preserve_unit_loops=True)
    *_, out_row, out_column, out_channel = schedule.get_loops(out)
    for loop in (pixel_row, pixel_column, out_row, out_column):
        schedule.unroll(loop)
    schedule.vectorize(lane)
    schedule.vectorize(out_channel)
    schedule.compute_at(rows_out, chunk, preserve_unit_loops=True)
    schedule.set_scope(rows_out, 0, "local")
    *_, row, column, lane = schedule.get_loops(rows_out)
    for loop in (row, column):
        schedule.unroll(loop)
    schedule.vectorize(lane)

    schedule.compute_at(products, stages, preserve_unit_loops=True)
    if int(schedule.get(outer).extent) > 1:
        schedule.parallel(outer)
    # Last of all that looks at the frame: the initialisation that it splits off is one writer too many for the rest.
    instruction = dot_product.instruction(target, lanes, dot_product.WORDS) if anatomy.dot else None
    lane = _multiply(schedule, products, choice, lanes, instruction)
    source = None if choice.share == "channels" else stages
    vector = input_vector(int(function.params[0].shape[-1]), 2 * lanes if anatomy.dot else lanes)
    padded_at = _transform_input(schedule, tiles_in, rows_in, patch, source, vector)
    if choice.border == "inline":
        schedule.compute_inline(pad)
    else:
        copy_border(schedule, pad, outer if source is not None else padded_at, target.lanes)
    if instruction is not None:
        schedule.tensorize(lane, instruction)
    return schedule


def _multiply(schedule: Any, products: Any, choice: _Choice, lanes: int, instruction: str | None) -> Any:
    """Tile the matrix products of all places; their accumulators are registers. Returns the loop over the lanes."""
    *_, y, x, down, across, k, depth = schedule.get_loops(products)[: None if instruction is None else -1]
    channel_tile, vector, lane = schedule.split(k, [None, choice.vectors, lanes])
    row_tile, row = schedule.split(down, [None, choice.rows])
    column_tile, column = schedule.split(across, [None, choice.columns])
    schedule.reorder(y, x, channel_tile, row_tile, column_tile, depth, row, column, vector, lane)
    if instruction is None:
        schedule.vectorize(lane)
    for loop in (vector, column, row):
        schedule.unroll(loop)
    products_lane = lane
    written = schedule.cache_write(products, 0, "local")
    schedule.reverse_compute_at(written, column_tile, preserve_unit_loops=True)
    *_, row, column, k = schedule.get_loops(written)
    vector, lane = schedule.split(k, [choice.vectors, lanes])
    for loop in (row, column, vector):
        schedule.unroll(loop)
    schedule.vectorize(lane)
    start = schedule.decompose_reduction(products, depth)
    if instruction is not None:
        schedule.vectorize(schedule.get_loops(start)[-1])
    return products_lane


def _transform_input(schedule: Any, tiles_in: Any, rows_in: Any, patch: Any, at: Any, vector: int) -> Any:
    """Put the transform of the input at `at`, unrolled; without `at` it is a parallel pass of its own.

    Returns the loop over the tile rows.
    """
    if at is not None:
        schedule.compute_at(tiles_in, at, preserve_unit_loops=True)
    *_, y, x, down, across, c = schedule.get_loops(tiles_in)
    chunk, c = schedule.split(c, [None, vector])
    schedule.reorder(down, across, chunk, y, x, c)
    if at is None:
        schedule.parallel(down)
    for loop in (y, x):
        schedule.unroll(loop)
    schedule.vectorize(c)
    schedule.compute_at(rows_in, chunk, preserve_unit_loops=True)
    schedule.set_scope(rows_in, 0, "local")
    *_, y, x, c = schedule.get_loops(rows_in)
    # Column by column: no more than one column of inputs needs registers.
    schedule.reorder(x, y, c)
    schedule.compute_at(patch, x, preserve_unit_loops=True)
    schedule.set_scope(patch, 0, "local")
    *_, row, column, channel = schedule.get_loops(patch)
    for loop in (y, x, row, column):
        schedule.unroll(loop)
    schedule.vectorize(c)
    schedule.vectorize(channel)
    return down
