"""Program space of convolutions, channels last: dense, grouped and depthwise, any kernel, stride and dilation.

Loops, outer to inner: rows (and, by variant, channel tiles) in parallel; channel tile; column tile; kernel and input
channels; then a register tile of columns x channel vectors, unrolled and vectorised, whose accumulators are written
back once with the inlined epilogue. What varies:

    lanes     SIMD elements of one vector; a divisor of the computed channels
    vectors   channel vectors in the register tile
    columns   output columns in the register tile
    variant   rows      each thread takes a band of rows and pads just that band
              inline    zero padding becomes a condition at the load: no extra pass, no extra buffer
              channels  each thread takes a share of the channels, so its share of the weights stays in its cache
              serial    one thread: what is smaller than the cost of waking a second one

A kernel whose channels are padded (relay_passes/pad_channels.py) computes all of them at once per column tile, so
that one store of the exact count follows; its tail needs no condition.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

from tvm_prune.oracle.program import Axis, Program
from tvm_prune.oracle.spaces.anatomy import Anatomy
from tvm_prune.oracle.spaces.candidate import Candidate, divisors, tag
from tvm_prune.oracle.target import Target

__all__ = ["KINDS", "NAME", "VERSION", "candidates"]

NAME = "direct_conv"
VERSION = 1
KINDS = ("conv2d", "grouped", "depthwise")

# Registers that weights and a broadcast input need: with so few left, accumulators spill.
_OTHERS = 4
# Multiply-accumulates under which one thread can win: waking the second costs about 2 us.
_SERIAL_MACS = 600_000


def candidates(function: Any, anatomy: Anatomy, target: Target) -> Iterator[Callable[[], Candidate]]:
    """Yield a maker of each point of the space for `function`, the likeliest first."""
    batch, height, width, wide, *reduction = anatomy.extents
    macs = batch * height * width * wide
    for extent in reduction:
        macs *= extent
    exact = wide == anatomy.channels
    tiles = sorted(_tiles(function, anatomy, target), key=lambda tile: -_merit(tile, target))[:8]
    for lanes, vectors, columns in tiles:
        for variant in _variants(anatomy, target, macs, lanes * vectors, exact):
            yield partial(_schedule, function, anatomy, target, variant, lanes, vectors, columns)


def _tiles(function: Any, anatomy: Anatomy, target: Target) -> Iterator[tuple[int, int, int]]:
    """Yield (lanes, vectors, columns) whose accumulators fit the registers."""
    _, _, width, wide, *_ = anatomy.extents
    per_group = wide
    if anatomy.kind == "grouped":
        # All lanes of a vector must read the same input channels.
        groups = int(function.params[0].shape[-1]) // anatomy.extents[-1]
        per_group = wide // groups
    usable = divisors(per_group, at_most=target.lanes)
    best_lanes = usable[-2:] if usable[-1] < target.lanes else usable[-1:]
    column_tiles = divisors(width, at_most=16)
    for lanes, vectors, columns in product(best_lanes, (1, 2, 4, 8), column_tiles):
        if wide % (lanes * vectors) == 0 and vectors * columns <= target.registers - _OTHERS:
            yield lanes, vectors, columns


def _merit(tile: tuple[int, int, int], target: Target) -> float:
    """Rank of a tile before anything is measured: full vectors, then enough accumulators to hide latency."""
    lanes, vectors, columns = tile
    accumulators = vectors * columns
    busy = min(1.0, accumulators / 8)
    reuse = 1 / (1 / columns + 1 / vectors)  # loads saved: each weight serves `columns`, each input `vectors`
    return lanes / target.lanes * busy * (1 + 0.02 * min(reuse, 6))


def _variants(anatomy: Anatomy, target: Target, macs: int, tile_channels: int, exact: bool) -> list[str]:
    batch, height, _, wide, *_ = anatomy.extents
    padded_image = bool(anatomy.before)
    if target.threads == 1:
        return ["serial", "inline"] if padded_image else ["serial"]
    variants = []
    if batch * height % target.threads == 0:
        variants += ["rows", "inline"] if padded_image else ["rows"]
    else:
        variants += ["inline"]
    if exact and wide // tile_channels % target.threads == 0 and (height < 16 or batch * height % target.threads):
        variants.append("channels")
    if macs <= _SERIAL_MACS:
        variants.append("serial")
    return variants


def _schedule(
    function: Any, anatomy: Anatomy, target: Target, variant: str, lanes: int, vectors: int, columns: int
) -> Candidate:
    from tvm.s_tir import Schedule

    batch, height, width, wide, *reduction = anatomy.extents
    exact = wide == anatomy.channels
    schedule = Schedule(function)
    conv = schedule.get_sblock(anatomy.anchor)
    pads = [schedule.get_sblock(name) for name in anatomy.before[:1]]
    for name in anatomy.before[1:]:
        schedule.compute_inline(schedule.get_sblock(name))
    for name in anatomy.after[:-1]:
        schedule.compute_inline(schedule.get_sblock(name))
    out = schedule.get_sblock(anatomy.after[-1]) if anatomy.after else schedule.cache_write(conv, 0, "local")

    n, h, w, c, *inner = schedule.get_loops(conv)
    channel_tile, vector, lane = schedule.split(c, [None, vectors, lanes])
    column_tile, column = schedule.split(w, [None, columns])
    if exact:
        schedule.reorder(n, h, channel_tile, column_tile, *inner, column, vector, lane)
    else:
        schedule.reorder(n, h, column_tile, channel_tile, *inner, column, vector, lane)
    rows = schedule.fuse(n, h)
    threads = target.threads
    if variant == "channels":
        share, channel_tile = schedule.split(channel_tile, [threads, None])
        schedule.reorder(share, rows, channel_tile, column_tile)
        outer = share
    elif variant == "serial":
        outer, _ = schedule.split(rows, [1, None])
    elif batch * height % threads == 0:
        outer, _ = schedule.split(rows, [threads, None])
    elif exact:
        outer = schedule.fuse(rows, channel_tile)
    else:
        outer = rows

    schedule.reverse_compute_at(out, column_tile, preserve_unit_loops=True)
    if anatomy.after:
        schedule.set_scope(conv, 0, "local")
    *_, out_column, out_channel = schedule.get_loops(out)
    schedule.vectorize(lane)
    schedule.unroll(vector)
    schedule.unroll(column)
    schedule.unroll(out_column)
    if exact and vectors > 1:
        out_vector, out_lane = schedule.split(out_channel, [vectors, lanes])
        schedule.unroll(out_vector)
        schedule.vectorize(out_lane)
    else:
        schedule.vectorize(out_channel)
    if variant == "inline":
        for pad in pads:
            schedule.compute_inline(pad)
    else:
        for pad in pads:
            schedule.compute_at(pad, outer, preserve_unit_loops=True)
            *_, pad_channel = schedule.get_loops(pad)
            if int(schedule.get(pad_channel).extent) <= 4 * target.lanes:
                schedule.vectorize(pad_channel)
    parallel = 1 if variant == "serial" else int(schedule.get(outer).extent)
    if parallel > 1:
        schedule.parallel(outer)
    schedule.decompose_reduction(conv, inner[0])
    channel_axis = Axis(
        extent=anatomy.channels,
        padded_extent=wide,
        factors=(wide // (vectors * lanes), vectors, lanes),
    )
    program = Program(
        space=NAME,
        space_version=VERSION,
        variant=variant,
        axes={
            "out_c": channel_axis,
            "h": Axis(extent=height, padded_extent=height, factors=(height,)),
            "w": Axis(extent=width, padded_extent=width, factors=(width // columns, columns)),
            "in_c": Axis(extent=reduction[-1], padded_extent=reduction[-1], factors=(reduction[-1],)),
        },
        lanes=lanes,
        parallel=parallel,
        latency_s=0.0,
    )
    return tag(schedule, program)
