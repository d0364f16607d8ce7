"""ONNX operators without weights, as calls of torch: arithmetic, activations, and what moves elements about."""

import math
import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from tvm_prune.models.onnx.builder import Builder
from tvm_prune.models.onnx.value import OnnxNode, Unsupported, Value

__all__ = ["FUNCTIONS"]

Made = Value | list[Value]
Handler = Callable[[Builder, OnnxNode], Made]

_DTYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
}


def _unary(function: Callable[..., Any]) -> Handler:
    return lambda builder, node: builder.call(function, node.required(0))


def _binary(function: Callable[..., Any]) -> Handler:
    return lambda builder, node: builder.call(function, node.required(0), node.required(1))


def _chain(function: Callable[..., Any]) -> Handler:
    def handle(builder: Builder, node: OnnxNode) -> Value:
        result = node.required(0)
        for place in range(1, len(node.inputs)):
            result = builder.call(function, result, node.required(place))
        return result

    return handle


def _divide(builder: Builder, node: OnnxNode) -> Value:
    left, right = node.required(0), node.required(1)
    if not left.tensor.is_floating_point():
        return builder.call(partial(torch.div, rounding_mode="trunc"), left, right)
    return builder.call(operator.truediv, left, right)


def _identity(_builder: Builder, node: OnnxNode) -> Value:
    return node.required(0)


def _constant(_builder: Builder, node: OnnxNode) -> Value:
    for name in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        if name in node.attributes:
            found = node.attributes[name]
            return Value(found if isinstance(found, torch.Tensor) else torch.tensor(found))
    raise Unsupported("Constant that holds no numbers")


def _constant_of_shape(_builder: Builder, node: OnnxNode) -> Value:
    fill = node.attributes.get("value", torch.zeros(1))
    return Value(torch.full(node.required(0).numbers(), fill.item(), dtype=fill.dtype))


def _shape(_builder: Builder, node: OnnxNode) -> Value:
    shape = list(node.required(0).tensor.shape)
    return Value(torch.tensor(shape[node.attributes.get("start", 0) : node.attributes.get("end", len(shape))]))


def _cast(builder: Builder, node: OnnxNode) -> Value:
    source, code = node.required(0), int(node.attributes["to"])
    if code not in _DTYPES:
        raise Unsupported(f"Cast to the type of number {code}")
    if source.tensor.dtype == _DTYPES[code]:
        return source
    return builder.call(torch.Tensor.to, source, _DTYPES[code])


def _clip(builder: Builder, node: OnnxNode) -> Value:
    limits = []
    for place, name in ((1, "min"), (2, "max")):
        value = node.optional(place)
        limits.append(node.attributes.get(name) if value is None else value.numbers()[0])
    if limits == [0, 6]:
        return builder.call(functional.relu6, node.required(0))
    return builder.call(torch.clamp, node.required(0), *limits)


def _hard_sigmoid(builder: Builder, node: OnnxNode) -> Value:
    scaled = builder.call(operator.mul, node.required(0), float(node.attributes.get("alpha", 0.2)))
    return builder.call(torch.clamp, builder.call(operator.add, scaled, float(node.attributes.get("beta", 0.5))), 0, 1)


def _leaky_relu(builder: Builder, node: OnnxNode) -> Value:
    return builder.call(functional.leaky_relu, node.required(0), float(node.attributes.get("alpha", 0.01)))


def _elu(builder: Builder, node: OnnxNode) -> Value:
    return builder.call(functional.elu, node.required(0), float(node.attributes.get("alpha", 1.0)))


def _gelu(builder: Builder, node: OnnxNode) -> Value:
    return builder.call(functional.gelu, node.required(0), approximate=node.attributes.get("approximate", "none"))


def _softmax(builder: Builder, node: OnnxNode) -> Value:
    source = node.required(0)
    last = source.tensor.dim() - 1
    axis = int(node.attributes.get("axis", -1 if node.opset >= 13 else 1))
    if node.opset < 13 and axis not in (-1, last):
        raise Unsupported("Softmax over several axes, as operator sets below 13 have it")
    return builder.call(functional.softmax, source, axis)


def _local_response_norm(builder: Builder, node: OnnxNode) -> Value:
    given = node.attributes
    return builder.call(
        functional.local_response_norm,
        node.required(0),
        int(given["size"]),
        float(given.get("alpha", 1e-4)),
        float(given.get("beta", 0.75)),
        float(given.get("bias", 1.0)),
    )


def _global_mean(builder: Builder, node: OnnxNode) -> Value:
    source = node.required(0)
    pools: Any = {3: functional.adaptive_avg_pool1d, 4: functional.adaptive_avg_pool2d}
    if source.tensor.dim() not in pools:
        raise Unsupported("GlobalAveragePool of volumes")
    return builder.call(pools[source.tensor.dim()], source, 1)


def _reduce(function: Callable[..., Any]) -> Handler:
    def handle(builder: Builder, node: OnnxNode) -> Value:
        source = node.required(0)
        axes = node.numbers("axes", 1) or list(range(source.tensor.dim()))
        return builder.call(function, source, axes, keepdim=bool(node.attributes.get("keepdims", 1)))

    return handle


def _reshape(builder: Builder, node: OnnxNode) -> Value:
    source, wanted = node.required(0), node.required(1).numbers()
    if not node.attributes.get("allowzero", 0):
        wanted = [source.tensor.shape[place] if size == 0 else size for place, size in enumerate(wanted)]
    return _reshaped(builder, source, wanted)


def _reshaped(builder: Builder, source: Value, wanted: list[int]) -> Value:
    """Reshape. What only joins the last axes does so at any size, so that the channels can be pruned.

    Else a first axis that stays the batch is left open, so that the module takes any batch.
    """
    shape, before = list(source.tensor.reshape(wanted).shape), list(source.tensor.shape)
    if 1 < len(shape) <= len(before) and shape[:-1] == before[: len(shape) - 1]:
        return builder.call(torch.flatten, source, len(shape) - 1)
    if shape and source.tensor.dim() and shape[0] == source.tensor.shape[0]:
        shape[0] = -1
    return builder.call(torch.reshape, source, shape)


def _flatten(builder: Builder, node: OnnxNode) -> Value:
    source, axis = node.required(0), int(node.attributes.get("axis", 1))
    if axis == 1:
        return builder.call(torch.flatten, source, 1)
    axis %= source.tensor.dim() + 1
    return _reshaped(builder, source, [math.prod(source.tensor.shape[:axis]), -1])


def _transpose(builder: Builder, node: OnnxNode) -> Value:
    source = node.required(0)
    order = node.attributes.get("perm", list(reversed(range(source.tensor.dim()))))
    return builder.call(torch.permute, source, list(order))


def _squeeze(builder: Builder, node: OnnxNode) -> Value:
    source, axes = node.required(0), node.numbers("axes", 1)
    if axes is None:
        axes = [place for place, size in enumerate(source.tensor.shape) if size == 1]
    return builder.call(torch.squeeze, source, tuple(axes))


def _unsqueeze(builder: Builder, node: OnnxNode) -> Value:
    result, axes = node.required(0), node.numbers("axes", 1) or []
    rank = result.tensor.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        result = builder.call(torch.unsqueeze, result, axis)
    return result


def _concat(builder: Builder, node: OnnxNode) -> Value:
    parts = [node.required(place) for place in range(len(node.inputs))]
    return builder.call(torch.cat, parts, int(node.attributes["axis"]))


def _slice(builder: Builder, node: OnnxNode) -> Value:
    source = node.required(0)
    starts, ends = node.numbers("starts", 1) or [], node.numbers("ends", 2) or []
    axes = node.numbers("axes", 3) or list(range(len(starts)))
    steps = node.numbers("steps", 4) or [1] * len(starts)
    if any(step < 1 for step in steps):
        raise Unsupported("Slice backwards")
    where = [slice(None)] * source.tensor.dim()
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        size = source.tensor.shape[axis]
        first, last, stride = slice(start, end, step).indices(size)
        where[axis] = slice(None) if (first, last, stride) == (0, size, 1) else slice(first, last, stride)
    return builder.call(operator.getitem, source, tuple(where))


def _split(builder: Builder, node: OnnxNode) -> list[Value]:
    source, axis = node.required(0), int(node.attributes.get("axis", 0))
    sizes = node.numbers("split", 1)
    if sizes is None:
        each = math.ceil(source.tensor.shape[axis] / len(node.outputs))
        return builder.calls(torch.split, source, each, axis)
    return builder.calls(torch.split, source, sizes, axis)


def _gather(builder: Builder, node: OnnxNode) -> Value:
    source, places, axis = node.required(0), node.required(1), int(node.attributes.get("axis", 0))
    if not places.constant:
        raise Unsupported("Gather at places that depend on the inputs")
    if places.tensor.dim() == 0:
        return builder.call(torch.select, source, axis, int(places.tensor))
    if places.tensor.dim() > 1:
        raise Unsupported("Gather at a table of places")
    return builder.call(torch.index_select, source, axis, places)


def _expand(builder: Builder, node: OnnxNode) -> Value:
    source = node.required(0)
    shape = torch.broadcast_shapes(tuple(source.tensor.shape), tuple(node.required(1).numbers()))
    return builder.call(torch.Tensor.expand, source, list(shape))


def _pad(builder: Builder, node: OnnxNode) -> Value:
    source, pads = node.required(0), node.numbers("pads", 1) or []
    axes = node.numbers("axes", 3) or list(range(len(pads) // 2))
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}.get(
        node.attributes.get("mode", "constant")
    )
    if mode is None:
        raise Unsupported(f"Pad of mode {node.attributes['mode']}")
    value = node.optional(2)
    fill = float(node.attributes.get("value", 0.0)) if value is None else float(value.numbers()[0])
    amounts = {axis % source.tensor.dim(): (pads[n], pads[len(axes) + n]) for n, axis in enumerate(axes)}
    first = min((axis for axis, amount in amounts.items() if any(amount)), default=source.tensor.dim() - 1)
    flat = [size for axis in reversed(range(first, source.tensor.dim())) for size in amounts.get(axis, (0, 0))]
    return builder.call(functional.pad, source, flat, mode, fill if mode == "constant" else None)


def _resize(builder: Builder, node: OnnxNode) -> Value:
    source, given = node.required(0), node.attributes
    old = node.opset < 11
    scales, sizes = node.optional(1 if old else 2), None if old else node.optional(3)
    shape = list(source.tensor.shape)
    if sizes is not None and sizes.tensor.numel():
        target = sizes.numbers()
    elif scales is not None and scales.tensor.numel():
        target = [math.floor(size * scale) for size, scale in zip(shape, scales.numbers(), strict=True)]
    else:
        raise Unsupported(f"{node.op} that names neither a scale nor a size")
    if target[:2] != shape[:2] or len(shape) != 4:
        raise Unsupported(f"{node.op} of other axes than the rows and columns of an image")
    mode = given.get("mode", "nearest")
    placed = given.get("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    whole = all(new % size == 0 for new, size in zip(target, shape, strict=True))
    floors = old or given.get("nearest_mode", "round_prefer_floor") == "floor" or whole
    if mode == "nearest" and floors and (placed == "asymmetric" or (placed == "half_pixel" and whole)):
        return builder.call(functional.interpolate, source, tuple(target[2:]), mode="nearest")
    if mode == "linear" and placed in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        corners = placed == "align_corners"
        return builder.call(functional.interpolate, source, tuple(target[2:]), mode="bilinear", align_corners=corners)
    raise Unsupported(f"{node.op} of mode {mode} and coordinates {placed}")


FUNCTIONS: Mapping[str, Handler] = {
    "Abs": _unary(torch.abs),
    "Add": _binary(operator.add),
    "Cast": _cast,
    "Ceil": _unary(torch.ceil),
    "Clip": _clip,
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Div": _divide,
    "Dropout": _identity,
    "Elu": _elu,
    "Erf": _unary(torch.erf),
    "Exp": _unary(torch.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Floor": _unary(torch.floor),
    "Gather": _gather,
    "Gelu": _gelu,
    "GlobalAveragePool": _global_mean,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _unary(functional.hardswish),
    "Identity": _identity,
    "LRN": _local_response_norm,
    "LeakyRelu": _leaky_relu,
    "Log": _unary(torch.log),
    "Max": _chain(torch.maximum),
    "Min": _chain(torch.minimum),
    "Mul": _binary(operator.mul),
    "Neg": _unary(operator.neg),
    "Pad": _pad,
    "Pow": _binary(torch.pow),
    "Reciprocal": _unary(torch.reciprocal),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Relu": _unary(functional.relu),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Sigmoid": _unary(torch.sigmoid),
    "Slice": _slice,
    "Softmax": _softmax,
    "Softplus": _unary(functional.softplus),
    "Split": _split,
    "Sqrt": _unary(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _binary(operator.sub),
    "Sum": _chain(operator.add),
    "Tanh": _unary(torch.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Upsample": _resize,
}
