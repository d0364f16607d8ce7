"""The arrays of an integer graph, worked out from the float weights and biases of the network.

Weights are symmetric, one scale for each output channel: w = scale * integer, the largest of a channel being 127.
Activations have one scale and zero point: x = scale * (integer - zero point).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = ["SPREAD", "WEIGHT_LIMIT", "ArrayKind", "IntegerArray", "integer_array", "weight_scales"]

# Largest magnitude of an integer weight: -128 is left out, so that the range is symmetric.
WEIGHT_LIMIT = 127
# How much larger than a channel's own the scale of a layer's largest channel may be.
SPREAD = 4096

ArrayKind = Literal["weight", "bias", "multiplier", "residual"]


@dataclass(frozen=True)
class IntegerArray:
    """How one array follows from the float weight `weight` (output channels first) and the float `bias` (None = 0).

    weight      int8: the weight in units of its scales
    bias        int32: the bias in units of source_scale * scales, less what the zero point of the source adds
    multiplier  float32: source_scale * scales / result_scale, from a sum to the units of the result
    residual    int32: result_scale / (source_scale * scales), from the units of another tensor to those of the sum
    """

    kind: ArrayKind
    weight: str
    bias: str | None = None
    source_scale: float = 1.0
    source_zero: int = 0
    result_scale: float = 1.0


def weight_scales(weight: np.ndarray) -> np.ndarray:
    """Return the scale of each output channel (the first axis) as float32; 1 for weights that are all zero.

    A channel whose largest weight is below 1/4096 of the layer's has the scale of that: its bias, counted in units of
    the scale, would not fit 32 bits else.
    """
    largest = np.abs(weight.reshape(len(weight), -1)).max(axis=1).astype(np.float32)
    largest = np.maximum(largest, largest.max() / np.float32(SPREAD))
    return np.where(largest > 0, largest / np.float32(WEIGHT_LIMIT), np.float32(1))


def integer_array(made: IntegerArray, state: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the array; all but a weight have one entry for each output channel."""
    weight = state[made.weight]
    scales = weight_scales(weight)
    integers = np.asarray(np.rint(weight / scales.reshape(-1, *[1] * (weight.ndim - 1))), np.int8)
    if made.kind == "weight":
        return integers
    sums = np.float64(made.source_scale) * scales.astype(np.float64)
    if made.kind == "multiplier":
        return np.asarray(sums / made.result_scale, np.float32)
    if made.kind == "residual":
        return np.asarray(np.rint(made.result_scale / sums), np.int32)
    bias = np.zeros(len(weight)) if made.bias is None else state[made.bias].astype(np.float64)
    added = made.source_zero * integers.reshape(len(weight), -1).astype(np.int64).sum(axis=1)
    return np.asarray(np.rint(bias / sums).astype(np.int64) - added, np.int32)
