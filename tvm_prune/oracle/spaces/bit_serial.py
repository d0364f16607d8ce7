"""Program space of convolutions of few bits: AND and a count of ones, over words of the operands' planes.

Loops, outer to inner: the threads' shares; then channel tile, row and column tile in one of two orders; planes that are
taken one after another; window and words; then a register tile of pairs of planes x columns x channel vectors, whose
populations are shifted and added into the sums once. A word of an activation is broadcast to all lanes, each of which
has the weights of one channel. What varies:

    vectors  channel vectors in the register tile
    columns  output pixels in the register tile
    planes   all      the populations of every pair of planes stay in registers: each word is loaded once
             weights  those of one plane of the weights do
             pairs    those of one pair of planes do
    share    rows     each thread takes a band of rows
             channels each thread takes a share of the channels
             serial   one thread: what is smaller than the cost of waking a second one
    packing  shared   each thread packs the rows it reads
             apart    the image is packed before, by all threads

Sums of shifted populations: Umuroglu and Jahre 2017, "Streamlined Deployment for Quantized Neural Networks". As loops
that a compiler tiles: Cowan et al. 2020, "Automatic Generation of High-Performance Quantized Machine Learning Kernels".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from tvm_prune.oracle.program import Axis, Program
from tvm_prune.oracle.spaces.anatomy import Anatomy
from tvm_prune.oracle.spaces.bit_planes import pad_in_vectors
from tvm_prune.oracle.spaces.candidate import Point, divisors
from tvm_prune.oracle.target import Target

__all__ = ["KINDS", "NAME", "VERSION", "points"]

NAME = "bit_serial"
VERSION = 3
KINDS = ("bit_serial",)

# Word operations under which one thread can win: a parallel loop costs a quarter of a microsecond (launcher.cc).
_SERIAL_OPERATIONS = 50_000
_MOST_COLUMNS = 16
# Stages behind the anchor that look at the activations again.
_WINDOWS = ("activation_sum", "window_sum")
# Points that are expected to take so many times the best one's time are not tried.
_WORTH_TRYING = 1.6


@dataclass(frozen=True)
class _Extents:
    """The loops of the stage of populations: image, planes of both operands, channels, window, words."""

    batch: int
    height: int
    width: int
    w_bits: int
    a_bits: int
    channels: int
    rows: int
    columns: int
    words: int
    lanes: int
    word_bits: int


@dataclass(frozen=True)
class _Choice:
    """The choices behind one point of the space; the fields are those of the list above."""

    vectors: int
    columns: int
    planes: str
    share: str
    packing: str

    def accumulators(self, extents: _Extents) -> int:
        """Return the registers of the tile; sums that wait for further planes are among them."""
        pairs = {"all": extents.w_bits * extents.a_bits, "weights": extents.a_bits, "pairs": 1}[self.planes]
        waiting = 0 if pairs == extents.w_bits * extents.a_bits else 1
        return self.vectors * self.columns * (pairs + waiting)


def points(function: Any, anatomy: Anatomy, target: Target) -> Iterator[Point]:
    """Yield the points of the space for `function`, the likeliest first."""
    extents = _extents(function, anatomy)
    choices = list(_choices(extents, target))
    expected = {choice: _expected(choice, extents) for choice in choices}
    limit = _WORTH_TRYING * min(expected.values(), default=0.0)
    for choice in sorted(choices, key=expected.__getitem__):
        if expected[choice] <= limit:
            schedule = partial(_schedule, function, anatomy, extents, target, choice)
            yield Point(_program(extents, target, choice), schedule)


def _extents(function: Any, anatomy: Anatomy) -> _Extents:
    weight = function.params[1]
    batch, height, width, w_bits, a_bits, channels, rows, columns, words = anatomy.extents
    lanes, word_bits = int(weight.shape[-1]), int(str(weight.dtype).removeprefix("uint"))
    return _Extents(batch, height, width, w_bits, a_bits, channels, rows, columns, words, lanes, word_bits)


def _choices(extents: _Extents, target: Target) -> Iterator[_Choice]:
    tiles = extents.channels // extents.lanes
    operations = extents.batch * extents.height * extents.width * tiles * extents.w_bits * extents.a_bits
    operations *= extents.rows * extents.columns * extents.words
    shares = ["serial"] if target.threads == 1 or operations <= _SERIAL_OPERATIONS else []
    if target.threads > 1:
        if extents.batch * extents.height % target.threads == 0:
            shares.append("rows")
        if tiles % target.threads == 0:
            shares.append("channels")
        shares = shares or ["serial"]
    tilings = product((1, 2, 4, 8), divisors(extents.width, at_most=_MOST_COLUMNS), _planes(extents))
    for (vectors, columns, planes), share in product(list(tilings), shares):
        own = tiles // target.threads if share == "channels" else tiles
        for packing in ("shared",) if share == "serial" else ("shared", "apart"):
            choice = _Choice(vectors, columns, planes, share, packing)
            if own % vectors == 0 and choice.accumulators(extents) <= target.accumulators:
                yield choice


def _planes(extents: _Extents) -> list[str]:
    found = ["all"]
    if extents.w_bits > 1:
        found.append("weights")
    if extents.a_bits > 1:
        found.append("pairs")
    return found


def _expected(choice: _Choice, extents: _Extents) -> float:
    """Return the expected cost of a choice against others of the same kernel, before anything is measured."""
    weight_planes = extents.w_bits if choice.planes == "all" else 1
    activation_planes = 1 if choice.planes == "pairs" else extents.a_bits
    weights, activations = choice.vectors * weight_planes, choice.columns * activation_planes
    # Three instructions for a pair; loads of both operands are shared by the other's.
    cost = 1 + 0.3 * (1 / weights + 1 / activations)
    cost *= max(1.0, 6 / (weights * activations))
    # Packing by every thread of all it reads: the whole image, if it has only some of the channels.
    return cost * (1.1 if (choice.share == "channels") == (choice.packing == "shared") else 1.0)


def _program(extents: _Extents, target: Target, choice: _Choice) -> Program:
    wide, width, lanes = extents.channels, extents.width, extents.lanes
    tiles = wide // (choice.vectors * lanes)
    bits = extents.words * extents.word_bits
    return Program(
        space=NAME,
        space_version=VERSION,
        variant=f"{choice.share}, planes {choice.planes}, packing {choice.packing}",
        axes={
            "out_c": Axis(extent=wide, padded_extent=wide, factors=(tiles, choice.vectors, lanes)),
            "h": Axis(extent=extents.height, padded_extent=extents.height, factors=(extents.height,)),
            "w": Axis(extent=width, padded_extent=width, factors=(width // choice.columns, choice.columns)),
            "in_c": Axis(extent=bits, padded_extent=bits, factors=(extents.words, extents.word_bits)),
        },
        lanes=lanes,
        parallel=1 if choice.share == "serial" else target.threads,
        latency_s=0.0,
    )


def _schedule(function: Any, anatomy: Anatomy, extents: _Extents, target: Target, choice: _Choice) -> Any:
    from tvm.s_tir import Schedule

    schedule = Schedule(function)
    products, sums = schedule.get_sblock(anatomy.anchor), schedule.get_sblock(anatomy.after[0])
    for name in anatomy.after[1:-1]:
        if name not in _WINDOWS:
            schedule.compute_inline(schedule.get_sblock(name))
    out = schedule.get_sblock(anatomy.after[-1])
    if len(anatomy.after) == 1:
        out = schedule.cache_write(sums, 0, "local")
    else:
        schedule.set_scope(sums, 0, "local")

    n, h, w, c = schedule.get_loops(out)
    channel_tile, out_vector, out_lane = schedule.split(c, [None, choice.vectors, extents.lanes])
    column_tile, out_column = schedule.split(w, [None, choice.columns])
    rows = schedule.fuse(n, h)
    if choice.share == "channels":
        outer, channel_tile = schedule.split(channel_tile, [target.threads, None])
        schedule.reorder(outer, channel_tile, rows, column_tile, out_column, out_vector, out_lane)
    else:
        outer, rows = schedule.split(rows, [target.threads if choice.share == "rows" else 1, None])
        schedule.reorder(outer, rows, channel_tile, column_tile, out_column, out_vector, out_lane)
    schedule.compute_at(sums, column_tile, preserve_unit_loops=True)
    *_, column, channel, i, j = schedule.get_loops(sums)
    vector, lane = schedule.split(channel, [choice.vectors, extents.lanes])
    if choice.planes == "all":
        schedule.reorder(column, vector, i, j, lane)
    elif choice.planes == "weights":
        schedule.reorder(i, column, vector, j, lane)
    else:
        schedule.reorder(i, j, column, vector, lane)
    _multiply(schedule, products, {"all": column_tile, "weights": i, "pairs": j}[choice.planes], choice, extents.lanes)
    for loop in (i, j, column, vector, out_column, out_vector):
        schedule.unroll(loop)
    schedule.vectorize(lane)
    schedule.vectorize(out_lane)
    own = outer if choice.packing == "shared" else None
    # The last of the stages first: what it reads is made where it is.
    for name in reversed([*anatomy.before, *(name for name in anatomy.after if name in _WINDOWS)]):
        _prepare(schedule, name, own, target)
    if choice.share != "serial":
        schedule.parallel(outer)
    # Last, as the initialisations that these split off are one writer too many for the rest.
    schedule.decompose_reduction(products, schedule.get_loops(products)[-8])
    schedule.decompose_reduction(sums, column if choice.planes == "all" else i)
    return schedule


def _multiply(schedule: Any, products: Any, at: Any, choice: _Choice, lanes: int) -> None:
    """Tile the populations; their accumulators are registers."""
    schedule.compute_at(products, at, preserve_unit_loops=True)
    schedule.set_scope(products, 0, "local")
    *_, column, i, j, channel, ry, rx, rw = schedule.get_loops(products)
    vector, lane = schedule.split(channel, [choice.vectors, lanes])
    schedule.reorder(ry, rx, rw, j, column, i, vector, lane)
    for loop in (j, column, i, vector):
        schedule.unroll(loop)
    schedule.vectorize(lane)


def _prepare(schedule: Any, name: str, at: Any, target: Target) -> None:
    """Put a stage of the activations into loop `at`; without one it is a parallel pass of its own."""
    block = schedule.get_sblock(name)
    if name == "padded":
        pad_in_vectors(schedule, block, at)
        return
    if at is not None:
        schedule.compute_at(block, at, preserve_unit_loops=True)
    elif target.threads > 1:
        n, h, *_ = schedule.get_loops(block)
        schedule.parallel(schedule.fuse(n, h))
