"""What the latency of a program may depend on, as numbers: the kernel's shape and how the program runs it.

Amounts are logarithms: a predictor that cuts ranges in two then meets the same question at every size.
"""

import math
from dataclasses import dataclass
from typing import Any

from tvm_prune.oracle.program import Axis, Program
from tvm_prune.oracle.spaces.anatomy import Anatomy
from tvm_prune.oracle.target import Target

__all__ = ["NAMES", "KernelShape", "features", "shape_of", "work_s"]

_KINDS = ("conv2d", "winograd", "depthwise", "grouped", "dense", "other")
_WORDS = ("rows", "channels", "items", "serial", "parallel", "plain", "vector", "weights", "inline")
# Multiply-accumulates of one lane, and bytes, in a second: only the order of magnitude matters, the rest is learned.
_LANE_MACS_PER_S = 5e9
_BYTES_PER_S = 1e10
_LAUNCH_S = 2e-6
_ONE = Axis(extent=1, padded_extent=1, factors=(1,))

NAMES = (
    *(f"kind_{kind}" for kind in _KINDS),
    *(f"word_{word}" for word in _WORDS),
    "log_macs",
    "log_data_bytes",
    "log_weight_bytes",
    "log_result_bytes",
    "log_other_bytes",
    "height",
    "width",
    "log_channels",
    "log_computed",
    "log_depth",
    "depth_in_lanes",
    "channels_in_lanes",
    "window",
    "stride",
    "border",
    "packed",
    "stages_after",
    "winograd_side",
    "lanes",
    "vectors",
    "rows",
    "columns",
    "accumulators",
    "loads_per_mac",
    "log_parallel",
    "channel_tiles",
    "row_tiles",
    "column_tiles",
    "log_work_s",
)


@dataclass(frozen=True)
class KernelShape:
    """The shape of one kernel: its anatomy, and the bytes of its data, weight, result and other buffers."""

    anatomy: Anatomy
    data_bytes: int
    weight_bytes: int
    result_bytes: int
    other_bytes: int


def shape_of(function: Any, anatomy: Anatomy) -> KernelShape:
    """Return the shape of a PrimFunc with that anatomy."""
    sizes = [4 * math.prod(int(extent) for extent in param.shape) for param in function.params]
    if anatomy.kind == "other":
        return KernelShape(anatomy, sizes[0], 0, sizes[-1], sum(sizes[1:-1]))
    return KernelShape(anatomy, sizes[0], sizes[1], sizes[-1], sum(sizes[2:-1]))


def work_s(shape: KernelShape, program: Program, target: Target) -> float:
    """Return roughly the seconds that the arithmetic and the memory of a program need, and its launch."""
    macs = math.prod(shape.anatomy.extents) if shape.anatomy.extents else shape.result_bytes // 4
    threads = max(1, min(target.threads, program.parallel))
    moved = shape.data_bytes + shape.weight_bytes + shape.result_bytes + shape.other_bytes
    return _LAUNCH_S + macs / (_LANE_MACS_PER_S * program.lanes * threads) + moved / _BYTES_PER_S


def features(shape: KernelShape, program: Program, target: Target) -> list[float]:
    """Return the numbers that `NAMES` names."""
    anatomy = shape.anatomy
    extents = anatomy.extents
    window, depth, side = 1, 1, 0
    if anatomy.kind in ("conv2d", "depthwise", "grouped"):
        window, depth = extents[4] * extents[5], extents[-1]
    elif anatomy.kind in ("winograd", "dense"):
        depth, side = extents[-1], extents[0] if anatomy.kind == "winograd" else 0
    rows_axis, columns_axis = program.axes.get("h", _ONE), program.axes.get("w", _ONE)
    channel_tiles, vectors = 1, 1
    if "out_c" in program.axes and len(program.axes["out_c"].factors) == 3:
        channel_tiles, vectors, _ = program.axes["out_c"].factors
    rows = rows_axis.factors[1] if len(rows_axis.factors) > 1 else 1
    columns = columns_axis.factors[1] if len(columns_axis.factors) > 1 else 1
    words = program.variant.split()
    lanes = target.lanes
    macs = math.prod(extents) if extents else shape.result_bytes // 4
    pixels = rows * columns
    return [
        *(float(anatomy.kind == kind) for kind in _KINDS),
        *(float(word in words) for word in _WORDS),
        math.log(max(1, macs)),
        math.log(max(1, shape.data_bytes)),
        math.log(max(1, shape.weight_bytes)),
        math.log(max(1, shape.result_bytes)),
        math.log(max(1, shape.other_bytes)),
        float(rows_axis.extent),
        float(columns_axis.extent),
        math.log(max(1, anatomy.channels)),
        math.log(max(1, anatomy.computed_channels)),
        math.log(max(1, depth)),
        (depth % lanes) / lanes,
        (anatomy.channels % lanes) / lanes,
        float(window),
        float(anatomy.stride),
        float(anatomy.border),
        float(anatomy.packed),
        float(len(anatomy.after)),
        float(side),
        float(program.lanes),
        float(vectors),
        float(rows),
        float(columns),
        float(vectors * pixels),
        (vectors + pixels) / (vectors * pixels),
        math.log(max(1, program.parallel)),
        float(channel_tiles),
        float(rows_axis.factors[0]),
        float(columns_axis.factors[0]),
        math.log(work_s(shape, program, target)),
    ]
