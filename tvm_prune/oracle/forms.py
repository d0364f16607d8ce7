"""The forms that a kernel's weight may take on a target: which are worth a program of their own."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from relay_passes.weight_form import Layout, Planes, WeightForm
from relay_passes.winograd_matrices import largest_output
from tvm_prune.oracle.dot_products import DotProduct
from tvm_prune.oracle.spaces.anatomy import Anatomy
from tvm_prune.oracle.spaces.candidate import divisors
from tvm_prune.oracle.target import Target

__all__ = ["fits", "forms", "lowest_by_table", "plain_pays", "word_sizes"]

# Weights in bytes from which the order of a plain filter in memory costs: smaller ones stay in the first cache.
_PACKED_BYTES = 64 * 1024
# Weights in bytes from which reading them costs as much as multiplying by them.
_MANY_BYTES = 512 * 1024
# The products of words may take so much of the time of the kernel for bytes, since transforms come on top.
_WHOLE_PAYS = 0.75
# Inputs are bytes without a sign, weights signed ones.
_LARGEST_INPUT, _LARGEST_WEIGHT = 255, 128
_DOT: Layout = "dot"
# Populations of all words of a window are counted in a lane as wide as a word.
_MOST_COUNTED = {16: 2**16 - 1, 32: 2**32 - 1, 64: 2**64 - 1}
# Pairs of planes that bytes can be slower than (search/bit_verdict.py).
_MOST_PLANE_PAIRS = 4
_WINOGRAD: tuple[tuple[Layout, int], ...] = (("winograd4", 4), ("winograd2", 2))


def forms(anatomy: Anatomy, function: Any, target: Target, bits: tuple[int, int] | None = None) -> Iterator[WeightForm]:
    """Yield the forms other than the plain one that the weight of a kernel may take on `target`.

    `bits` are those that integer weights and activations have, if they are few.
    """
    if anatomy.kind not in ("conv2d", "depthwise", "dense"):
        return
    channels, lanes = anatomy.channels, target.lanes
    counts = (None, *_padded_counts(channels, target))
    if anatomy.integer:
        # Other instructions take as long for integers as for floats.
        if anatomy.kind == "conv2d" and target.dot_product is not None:
            for layout in (_DOT, *_whole_winograd(anatomy, target.dot_product)):
                yield from _dot_forms(channels, target.dot_product.lanes, layout)
        if anatomy.kind == "conv2d" and anatomy.square and bits is not None:
            yield from _plane_forms(anatomy, target, *bits)
        return
    for count in counts[1:]:
        yield WeightForm(channels=count)
    if anatomy.kind == "depthwise":
        return
    weight_bytes = 4 * math.prod(int(extent) for extent in function.params[1].shape)
    if weight_bytes >= _PACKED_BYTES:
        for count in counts:
            # Half a vector serves too where the memory is what a kernel waits for.
            if vector := next((size for size in (lanes, lanes // 2) if (count or channels) % size == 0), 0):
                yield WeightForm(count, "packed", vector)
    if not _filterable(anatomy):
        return
    depth = anatomy.extents[-1]
    layouts: list[Layout] = []
    for layout, tile in _WINOGRAD:
        # Less than half as many products must be left.
        if depth >= 4 and _products_left(anatomy, tile) < 0.5:
            layouts.append(layout)
        # The smaller tile has more products and fewer weights, which counts where these are many.
        if layouts and 4 * (tile + 2) ** 2 * depth * anatomy.computed_channels < _MANY_BYTES:
            break
    for layout in layouts:
        for count in counts:
            vector = next((size for size in (lanes, lanes // 2, lanes // 4) if (count or channels) % size == 0), 0)
            if vector >= 4:
                yield WeightForm(count, layout, vector)


def _filterable(anatomy: Anatomy) -> bool:
    """Whether Winograd's minimal filtering can compute a kernel."""
    return anatomy.kind == "conv2d" and anatomy.adjacent and anatomy.extents[4:6] == (3, 3)


def _products_left(anatomy: Anatomy, tile: int) -> float:
    """Return the products of whole Winograd tiles over those of the direct kernel."""
    height, width = anatomy.extents[1:3]
    return math.ceil(height / tile) * math.ceil(width / tile) * (tile + 2) ** 2 / (9 * height * width)


def fits(form: WeightForm, weight: np.ndarray) -> bool:
    """Whether a kernel computes exactly with `weight` (output channels first) in `form`, whatever its inputs hold.

    Winograd's filtering in whole numbers does as long as no output is too large.
    """
    if not (form.tile and form.dot):
        return True
    magnitudes = np.abs(weight.reshape(len(weight), -1).astype("int64")).sum(axis=1)
    return _LARGEST_INPUT * int(magnitudes.max()) <= largest_output(form.tile)


def _whole_winograd(anatomy: Anatomy, instruction: DotProduct) -> Iterator[Layout]:
    """Yield the layouts of Winograd's filtering in whole numbers that may be faster than bytes as they are."""
    if not _filterable(anatomy) or anatomy.extents[-1] < 4:
        return
    layouts: tuple[tuple[Layout, int], ...] = (("winograd4_dot", 4), ("winograd2_dot", 2))
    for layout, tile in layouts:
        if _products_left(anatomy, tile) * instruction.speed / instruction.word_speed < _WHOLE_PAYS:
            yield layout
            if _LARGEST_INPUT * _LARGEST_WEIGHT * 9 * anatomy.extents[-1] <= largest_output(tile):
                return  # it fits any weights: the smaller tile, with more products, is for those that it does not


def _dot_forms(channels: int, widths: tuple[int, ...], layout: Layout) -> Iterator[WeightForm]:
    """Yield the forms for dot products: vectors of all lanes, and narrower ones that compute fewer channels in vain."""
    least = 0
    for lanes in widths:
        computed = -(-channels // lanes) * lanes
        if not least or computed < least:
            least = computed
            yield WeightForm(None if computed == channels else computed, layout, lanes)


def _plane_forms(anatomy: Anatomy, target: Target, w_bits: int, a_bits: int) -> Iterator[WeightForm]:
    """Yield the forms of planes, where there are few enough pairs of them to be faster than bytes."""
    if w_bits * a_bits > _MOST_PLANE_PAIRS:
        return
    rows, columns, depth = anatomy.extents[-3:]
    for word, lanes in word_sizes(depth, rows * columns * depth, anatomy.channels, target):
        planes = Planes(w_bits, a_bits, word, lowest_by_table(target))
        yield WeightForm(layout="planes", lanes=lanes, planes=planes)


def word_sizes(in_channels: int, depth: int, out_channels: int, target: Target) -> Iterator[tuple[int, int]]:
    """Yield words of 16, 32 and 64 bits that leave few of their bits empty, each by as many channels as fill a vector.

    Which is fastest depends on how a processor counts ones (in words of any size with AVX-512's VPOPCNTDQ and BITALG,
    by a table of half bytes with AVX2), on the channels, and on the conversion of the counts; it is measured. `depth`
    are the products of a sum.
    """
    filled = {bits: -(-in_channels // bits) * bits for bits in _MOST_COUNTED}
    for bits, most in _MOST_COUNTED.items():
        if depth <= most and filled[bits] <= 2 * min(filled.values()):
            yield bits, divisors(out_channels, at_most=target.vector_bits // bits)[-1]


def lowest_by_table(target: Target) -> bool:
    """Whether the lowest bits of bytes are read by a table, which LLVM's mistake with AVX-512BW asks for."""
    return target.architecture == "x86_64" and target.has_feature("avx512bw")


def plain_pays(anatomy: Anatomy, target: Target) -> bool:
    """Whether the plain weight may be the fastest: not where padding it at least halves the registers it fills."""
    if anatomy.integer and anatomy.kind == "conv2d" and target.dot_product is not None:
        return False
    counts = _padded_counts(anatomy.channels, target) if anatomy.kind in ("conv2d", "depthwise", "dense") else ()
    least = min((_registers(count, target.lanes) for count in counts), default=math.inf)
    return 2 * least > _registers(anatomy.channels, target.lanes) if counts else True


def _registers(channels: int, lanes: int) -> int:
    """Return how many registers `channels` fill at best: a vector of 7 is cut into 4 + 2 + 1."""
    return min(channels // width * width.bit_count() for width in range(1, lanes + 1) if channels % width == 0)


def _padded_counts(channels: int, target: Target) -> tuple[int, ...]:
    """Return larger counts that may run faster than `channels` since they fill fewer registers; none if none do.

    That is the next count of whole vectors and, where that computes many channels in vain (17 -> 32), the next multiple
    of 4 that is better at all (17 -> 20).
    """
    if channels < 3:
        return ()
    lanes = target.lanes
    whole = -(-channels // lanes) * lanes if channels > lanes else 1 << (channels - 1).bit_length()
    now = _registers(channels, lanes)
    better = [count for count in range(channels // 4 * 4 + 4, whole + 1, 4) if _registers(count, lanes) < now]
    if not better:
        return ()
    return (better[0], whole) if whole - better[0] >= 8 else (whole,)
