"""What the latency of a kernel may depend on, as numbers, and a rough count of its work.

Amounts are logarithms to the base 2, so that one step means a doubling on every axis; what makes another kind of
kernel is two or four such steps away.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tvm_prune.oracle.spaces.anatomy import Anatomy
from tvm_prune.oracle.target import Target

__all__ = ["NAMES", "KernelShape", "features", "shape_of", "work_s"]

# Multiply-accumulates of one lane, and bytes, in a second: only the order of magnitude matters, the rest is learned.
_LANE_MACS_PER_S = 5e9
_BYTES_PER_S = 1e10
_LAUNCH_S = 0.5e-6

NAMES = (
    "depthwise",
    "winograd",
    "dense",
    "grouped",
    "integer",
    "packed",
    "winograd_tile",
    "side",
    "window",
    "stride",
    "channels",
    "depth",
    "padding",
    "whole_vectors",
    "border",
    "stages_after",
    "lanes",
)


@dataclass(frozen=True)
class KernelShape:
    """The shape of one kernel: its anatomy, and the bytes of its data, weight, result and other buffers."""

    anatomy: Anatomy
    data_bytes: int
    weight_bytes: int
    result_bytes: int
    other_bytes: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates; results of a kernel that has none."""
        return math.prod(self.anatomy.extents) if self.anatomy.extents else self.result_bytes // 4


def shape_of(function: Any, anatomy: Anatomy) -> KernelShape:
    """Return the shape of a PrimFunc with that anatomy."""
    sizes = [
        math.prod(int(extent) for extent in param.shape) * np.dtype(str(param.dtype)).itemsize
        for param in function.params
    ]
    if anatomy.kind == "other":
        return KernelShape(anatomy, sizes[0], 0, sizes[-1], sum(sizes[1:-1]))
    return KernelShape(anatomy, sizes[0], sizes[1], sizes[-1], sum(sizes[2:-1]))


def _lanes(anatomy: Anatomy, target: Target) -> int:
    """Return the elements of the widest vector that divides the computed channels."""
    channels = max(1, anatomy.computed_channels)
    return anatomy.packed or max(lanes for lanes in range(1, target.lanes + 1) if channels % lanes == 0)


def work_s(shape: KernelShape, target: Target) -> float:
    """Return roughly the seconds that the arithmetic and the memory of a kernel need, and its launch."""
    moved = shape.data_bytes + shape.weight_bytes + shape.result_bytes + shape.other_bytes
    speed = _LANE_MACS_PER_S * _lanes(shape.anatomy, target) * target.threads
    if shape.anatomy.dot and target.dot_product is not None:
        known = target.dot_product
        speed *= known.word_speed if shape.anatomy.kind == "winograd" else known.speed
    return _LAUNCH_S + shape.macs / speed + moved / _BYTES_PER_S


def features(shape: KernelShape, target: Target) -> list[float]:
    """Return the numbers that `NAMES` names."""
    anatomy = shape.anatomy
    extents = anatomy.extents
    channels, computed = max(1, anatomy.channels), max(1, anatomy.computed_channels)
    window, pixels, tile = 1, max(1, shape.result_bytes // 4 // channels), 0
    if anatomy.kind in ("conv2d", "depthwise", "grouped"):
        pixels, window = extents[1] * extents[2], extents[4] * extents[5]
    elif anatomy.kind == "winograd":
        window, tile = 9, extents[0] - 2
    return [
        4.0 * (anatomy.kind == "depthwise"),
        4.0 * (anatomy.kind == "winograd"),
        2.0 * (anatomy.kind == "dense"),
        2.0 * (anatomy.kind == "grouped"),
        4.0 * anatomy.integer,
        2.0 * (anatomy.packed > 0),
        tile / 2,
        math.log2(pixels) / 2,
        math.log2(window),
        math.log2(max(1, anatomy.stride)),
        math.log2(channels),
        math.log2(anatomy.depth),
        math.log2(computed / channels),
        float(computed % target.lanes == 0),
        float(anatomy.border),
        float(len(anatomy.after)),
        math.log2(_lanes(anatomy, target)),
    ]
