"""ONNX operators that have weights, as torch layers, so that they can be pruned; and pooling."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tvm_prune.models.onnx.builder import Builder
from tvm_prune.models.onnx.value import OnnxNode, Unsupported, Value

__all__ = ["LAYERS", "with_bias"]

_CONVS: dict[int, tuple[type[nn.Module], type[nn.Module]]] = {
    1: (nn.Conv1d, nn.ConvTranspose1d),
    2: (nn.Conv2d, nn.ConvTranspose2d),
    3: (nn.Conv3d, nn.ConvTranspose3d),
}
_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_MAX_POOLS = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_MEAN_POOLS: dict[int, Callable[..., Any]] = {
    1: functional.avg_pool1d,
    2: functional.avg_pool2d,
    3: functional.avg_pool3d,
}


def _name(node: OnnxNode, place: int = 1) -> str:
    """Return a layer's name: its weight's without the ending, else the node's."""
    weight = node.input_names[place] if place < len(node.input_names) else ""
    stem = re.sub(r"[._/](w|weight|weights|b|W|scale|gamma|w_\d+|b_\d+)(_deepcopy_\d+)?$", "", weight)
    return stem if stem and not stem.isdigit() else node.name or node.outputs[0] or node.op


def _weight(node: OnnxNode, place: int) -> torch.Tensor:
    value = node.required(place)
    if not value.constant:
        raise Unsupported(f"{node.op} with a weight that is computed from the inputs")
    return value.tensor.detach().clone()


def _fill(module: nn.Module, **values: torch.Tensor | None) -> nn.Module:
    with torch.no_grad():
        for name, value in values.items():
            if value is not None:
                getattr(module, name).copy_(value)
    return module


def _window(node: OnnxNode, size: Sequence[int], kernel: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Return strides, dilations and pads (begin of each axis, then end) of a window over an image of `size`."""
    strides = list(node.attributes.get("strides", [1] * len(kernel)))
    dilations = list(node.attributes.get("dilations", [1] * len(kernel)))
    auto = node.attributes.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", "VALID"):
        pads = [0] * 2 * len(kernel) if auto == "VALID" else node.attributes.get("pads", [0] * 2 * len(kernel))
        return strides, dilations, list(pads)
    begin, end = [], []
    for extent, taps, stride, dilation in zip(size, kernel, strides, dilations, strict=True):
        missing = max(0, (math.ceil(extent / stride) - 1) * stride + (taps - 1) * dilation + 1 - extent)
        less, more = missing // 2, missing - missing // 2
        begin.append(less if auto == "SAME_UPPER" else more)
        end.append(more if auto == "SAME_UPPER" else less)
    return strides, dilations, [*begin, *end]


def _padded(builder: Builder, source: Value, pads: Sequence[int], fill: float) -> tuple[Value, list[int]]:
    """Return the source and the pads that are left to the layer, which knows symmetric ones alone."""
    half = len(pads) // 2
    if list(pads[:half]) == list(pads[half:]):
        return source, list(pads[:half])
    flat = [amount for axis in reversed(range(half)) for amount in (pads[axis], pads[half + axis])]
    return builder.call(functional.pad, source, flat, value=fill), [0] * half


def _conv(builder: Builder, node: OnnxNode) -> Value:
    source, weight, bias = node.required(0), _weight(node, 1), node.optional(2)
    rank = weight.dim() - 2
    strides, dilations, pads = _window(node, source.tensor.shape[2:], weight.shape[2:])
    source, padding = _padded(builder, source, pads, 0.0)
    groups = int(node.attributes.get("group", 1))
    make: Any = _CONVS[rank][0]
    module = make(
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(weight.shape[2:]),
        stride=tuple(strides),
        padding=tuple(padding),
        dilation=tuple(dilations),
        groups=groups,
        bias=bias is not None,
    )
    return builder.layer(
        _name(node), _fill(module, weight=weight, bias=None if bias is None else _weight(node, 2)), source
    )


def _conv_transpose(builder: Builder, node: OnnxNode) -> Value:
    source, weight, bias = node.required(0), _weight(node, 1), node.optional(2)
    rank = weight.dim() - 2
    if "output_shape" in node.attributes or node.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise Unsupported("ConvTranspose whose padding follows from its output")
    strides, dilations, pads = _window(node, source.tensor.shape[2:], weight.shape[2:])
    if pads[:rank] != pads[rank:]:
        raise Unsupported("ConvTranspose with different padding at both ends")
    groups = int(node.attributes.get("group", 1))
    make: Any = _CONVS[rank][1]
    module = make(
        weight.shape[0],
        weight.shape[1] * groups,
        tuple(weight.shape[2:]),
        stride=tuple(strides),
        padding=tuple(pads[:rank]),
        output_padding=tuple(node.attributes.get("output_padding", [0] * rank)),
        dilation=tuple(dilations),
        groups=groups,
        bias=bias is not None,
    )
    return builder.layer(
        _name(node), _fill(module, weight=weight, bias=None if bias is None else _weight(node, 2)), source
    )


def _batch_norm(builder: Builder, node: OnnxNode) -> Value:
    source = node.required(0)
    scale, shift, mean, variance = (_weight(node, place) for place in (1, 2, 3, 4))
    module = _NORMS[source.tensor.dim()](len(scale), eps=float(node.attributes.get("epsilon", 1e-5)))
    _fill(module, weight=scale, bias=shift, running_mean=mean, running_var=variance)
    return builder.layer(_name(node), module, source)


def _layer_norm(builder: Builder, node: OnnxNode) -> Value:
    source, scale = node.required(0), _weight(node, 1)
    axis = int(node.attributes.get("axis", -1))
    if axis not in (-1, source.tensor.dim() - 1):
        raise Unsupported("LayerNormalization over several axes")
    module = nn.LayerNorm(len(scale), eps=float(node.attributes.get("epsilon", 1e-5)))
    shift = _weight(node, 2) if node.optional(2) is not None else torch.zeros_like(scale)
    return builder.layer(_name(node), _fill(module, weight=scale, bias=shift), source)


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Module:
    module = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    return _fill(module, weight=weight, bias=bias)


def _gemm(builder: Builder, node: OnnxNode) -> Value:
    source = node.required(0)
    if node.attributes.get("transA", 0):
        source = builder.call(torch.transpose, source, 0, 1)
    if not node.required(1).constant:
        raise Unsupported("Gemm of two values that depend on the inputs")
    weight = _weight(node, 1)
    weight = weight if node.attributes.get("transB", 0) else weight.t()
    bias = node.optional(2)
    shift = None
    if bias is not None:
        shift = (float(node.attributes.get("beta", 1.0)) * _weight(node, 2)).flatten().expand(weight.shape[0])
    return builder.layer(_name(node), _linear(float(node.attributes.get("alpha", 1.0)) * weight, shift), source)


def _matmul(builder: Builder, node: OnnxNode) -> Value:
    left, right = node.required(0), node.required(1)
    if right.constant and right.tensor.dim() == 2 and not left.constant:
        return builder.layer(_name(node), _linear(_weight(node, 1).t(), None), left)
    return builder.call(torch.matmul, left, right)


def _prelu(builder: Builder, node: OnnxNode) -> Value:
    slope = _weight(node, 1).flatten()
    return builder.layer(_name(node), _fill(nn.PReLU(len(slope)), weight=slope), node.required(0))


def _max_pool(builder: Builder, node: OnnxNode) -> Value:
    if len(node.outputs) > 1:
        raise Unsupported("MaxPool that also returns places")
    source, kernel = node.required(0), list(node.attributes["kernel_shape"])
    strides, dilations, pads = _window(node, source.tensor.shape[2:], kernel)
    source, padding = _padded(builder, source, pads, -math.inf)
    ceil = bool(node.attributes.get("ceil_mode", 0))
    pool = _MAX_POOLS[len(kernel)]
    return builder.call(pool, source, kernel, strides, padding, dilations, ceil_mode=ceil)


def _average_pool(builder: Builder, node: OnnxNode) -> Value:
    source, kernel = node.required(0), list(node.attributes["kernel_shape"])
    strides, dilations, pads = _window(node, source.tensor.shape[2:], kernel)
    counted = bool(node.attributes.get("count_include_pad", 0))
    if any(step != 1 for step in dilations):
        raise Unsupported("AveragePool with dilation")
    if pads[: len(kernel)] != pads[len(kernel) :] and not counted:
        raise Unsupported("AveragePool with different padding at both ends that does not count")
    source, padding = _padded(builder, source, pads, 0.0)
    pool, ceil = _MEAN_POOLS[len(kernel)], bool(node.attributes.get("ceil_mode", 0))
    return builder.call(pool, source, kernel, strides, padding, ceil_mode=ceil, count_include_pad=counted)


def with_bias(builder: Builder, source: Value, constant: torch.Tensor) -> Value | None:
    """Put an added constant into the layer that computes `source`; None if it is no bias of that layer."""
    layer: Any = builder.layer_of(source)
    if getattr(layer, "bias", True) is not None or getattr(layer, "weight", None) is None:
        return None
    linear = isinstance(layer, nn.Linear)
    axis = source.tensor.dim() - 1 if linear else 1
    channels = source.tensor.shape[axis]
    shape = [1] * (source.tensor.dim() - constant.dim()) + list(constant.shape)
    if shape != [channels if place == axis else 1 for place in range(source.tensor.dim())]:
        return None
    layer.bias = nn.Parameter(constant.detach().clone().flatten())
    return Value(source.tensor + constant, source.node)


LAYERS: Mapping[str, Callable[[Builder, OnnxNode], Value]] = {
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "LayerNormalization": _layer_norm,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "PRelu": _prelu,
}
