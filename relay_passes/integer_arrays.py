"""The arrays of an integer graph, worked out from the float weights and biases of the network.

Weights are symmetric, one scale for each output channel: w = scale * integer; of N bits they go up to 2^(N-1) - 1, of
one bit they are -1 and 1. Activations have one scale and zero point: x = scale * (integer - zero point).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

__all__ = [
    "LARGEST_SUM",
    "SPREAD",
    "ArrayKind",
    "IntegerArray",
    "WeightFormat",
    "integer_array",
    "largest_sums",
    "weight_limit",
    "weight_scales",
]

# What the sums of 32 bits hold, and the largest integer of a stored tensor.
LARGEST_SUM = 2**31 - 1
_MOST = 255
# Places of a factor behind the point, at most.
_MOST_SHIFT = 16
# How much larger than a channel's own the scale of a layer's largest channel may be.
SPREAD = 4096

ArrayKind = Literal["weight", "bias", "multiplier", "residual", "residual_half", "residual_shift"]


@dataclass(frozen=True)
class WeightFormat:
    """Bits of a weight's integers, and the name of its float32 scales (None: they follow from the weight)."""

    bits: int = 8
    scales: str | None = None


@dataclass(frozen=True)
class IntegerArray:
    """How one array follows from the float weight `weight` (output channels first) and the float `bias` (None = 0).

    weight      int8: the weight in units of its scales
    bias        int32: the bias in units of source_scale * scales, less what the zero point of the source adds
    multiplier  float32: source_scale * scales / result_scale, from a sum to the units of the result
    residual    int32: result_scale / (source_scale * scales), from the units of another tensor to those of the sum,
                times two to the power of residual_shift, as many places as 32 bits have room for; residual_half is
                half of that power: (value * residual + residual_half) >> residual_shift is rounded half up
    """

    kind: ArrayKind
    weight: str
    bias: str | None = None
    source_scale: float = 1.0
    source_zero: int = 0
    result_scale: float = 1.0
    format: WeightFormat = WeightFormat()


def weight_limit(bits: int) -> int:
    """Return the largest magnitude of an integer weight: -128 and the like are left out, the range is symmetric."""
    return max(1, (1 << bits - 1) - 1)


def weight_scales(weight: np.ndarray, bits: int = 8) -> np.ndarray:
    """Return the scale of each output channel (the first axis) as float32; 1 for weights that are all zero.

    The largest weight of a channel becomes its largest integer; of one bit the scale is the mean magnitude. A channel
    below 1/4096 of the layer's largest has the scale of that: its bias, counted in units of the scale, would not fit 32
    bits else.
    """
    magnitudes = np.abs(weight.reshape(len(weight), -1))
    largest = (magnitudes.max(axis=1) if bits > 1 else magnitudes.mean(axis=1)).astype(np.float32)
    largest = np.maximum(largest, largest.max() / np.float32(SPREAD))
    # A subnormal divided by 127 is zero: no scale is smaller than the smallest normal number.
    scales = np.maximum(largest / np.float32(weight_limit(bits)), np.finfo(np.float32).tiny)
    return np.where(largest > 0, scales, np.float32(1))


def largest_sums(arrays: Iterable[IntegerArray], state: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return how large a sum of each weight's layer can get at most, whatever its inputs hold.

    That is 255 times the magnitudes of a channel's weights, the largest bias, and 255 times the largest factor of what
    is added. Below `LARGEST_SUM` no sum overflows, in whatever order it is taken.
    """
    found: dict[str, float] = {}
    for made in arrays:
        values = np.abs(_exact(made, state)).astype(np.float64)
        if made.kind == "weight":
            values = _MOST * values.reshape(len(values), -1).sum(axis=1)
        elif made.kind == "residual":
            # The product has 32 bits too; shifted back it is what counts.
            product = _MOST * values + _exact(replace(made, kind="residual_half"), state)
            values = product * np.exp2(-_exact(replace(made, kind="residual_shift"), state)) + 1
            if float(product.max()) > LARGEST_SUM:
                values = product
        if made.kind in ("weight", "bias", "residual"):
            found[made.weight] = found.get(made.weight, 0.0) + float(values.max())
    return found


def integer_array(made: IntegerArray, state: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the array; all but a weight have one entry for each output channel."""
    kinds: dict[str, type] = {"weight": np.int8, "multiplier": np.float32}
    return np.asarray(_exact(made, state), kinds.get(made.kind, np.int32))


def _exact(made: IntegerArray, state: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the array in float64, which holds it exactly whether its own type does or not."""
    weight, bits = state[made.weight], made.format.bits
    scales = weight_scales(weight, bits) if made.format.scales is None else state[made.format.scales]
    scaled = weight / scales.reshape(-1, *[1] * (weight.ndim - 1))
    limit = weight_limit(bits)
    rounded = np.rint(np.clip(scaled, -limit, limit)) if bits > 1 else np.where(scaled < 0, -1, 1)
    integers = np.asarray(rounded, np.float64)
    if made.kind == "weight":
        return integers
    sums = np.float64(made.source_scale) * scales.astype(np.float64)
    if made.kind == "multiplier":
        return np.asarray(sums / made.result_scale)
    if made.kind.startswith("residual"):
        factor = made.result_scale / sums
        shift = np.clip(np.floor(np.log2(LARGEST_SUM / (_MOST + 1) / factor)), 0, _MOST_SHIFT)
        if made.kind == "residual_shift":
            return np.asarray(shift)
        return np.asarray(np.floor(np.exp2(shift - 1)) if made.kind == "residual_half" else np.rint(factor * 2**shift))
    bias = np.zeros(len(weight)) if made.bias is None else state[made.bias].astype(np.float64)
    added = made.source_zero * integers.reshape(len(weight), -1).sum(axis=1)
    return np.asarray(np.rint(bias / sums) - added)
