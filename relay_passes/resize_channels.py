"""The graph of a network with other channel counts, from the graph of one that was lowered before.

A search lowers hundreds of networks that differ in nothing but the extents of their weights. Tracing and importing each
of them costs more than all that follows, so the weights of a known graph are given their new shapes here and every
operator is emitted again, its type inferred anew. Only operators are taken whose attributes do not speak of channels,
with two exceptions that have a rule: the groups of a convolution, and a reshape that merges axes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tvm import ir, relax

from relay_passes.hoist_weights import Entry, weight_entries, with_weight_entries
from relay_passes.weight_changes import Change

__all__ = ["CannotResize", "resize_channels"]

_FREE_OF_CHANNELS = frozenset(
    f"relax.{name}"
    for name in (
        "abs add clip concat divide erf exp expand_dims image.resize2d matmul maximum mean minimum multiply negative "
        "permute_dims power rsqrt sigmoid sqrt squeeze subtract sum tanh "
        "nn.adaptive_avg_pool2d nn.avg_pool2d nn.gelu nn.gelu_tanh nn.leakyrelu nn.max_pool2d nn.relu nn.relu6 nn.silu "
        "nn.softmax"
    ).split()
)


class CannotResize(Exception):  # noqa: N818 - an answer, not a fault: the network is lowered from the start instead
    """The graph holds something whose form at other channel counts does not follow from the graph."""


def resize_channels(module: ir.IRModule, shapes: Mapping[str, Sequence[int]]) -> ir.IRModule:
    """Return the channels-last graph `module` for weights of other shapes, by placeholder, as they are in torch.

    The inputs keep their shapes. Raises CannotResize.
    """
    main = module["main"]
    count = int(main.attrs["num_input"])
    entries = weight_entries(module)
    values: dict[relax.Var, relax.Var] = {var: relax.Var(var.name, var.ty) for var in main.params[:count]}
    resized: list[Entry] = []
    for var, entry in zip(main.params[count:], entries, strict=True):
        shape, changes = _changed(tuple(shapes[entry["name"]]), entry, _extents(var))
        values[var] = relax.Var(var.name, relax.TensorType(list(shape), var.ty.dtype))
        resized.append({"name": entry["name"], "changes": changes})
    builder, block = relax.BlockBuilder(), []
    for binding in _bindings(main):
        value = builder.normalize(_emitted(binding.value, values))
        kind = relax.DataflowVar if isinstance(binding.var, relax.DataflowVar) else relax.Var
        values[binding.var] = kind(binding.var.name, value.ty)
        block.append(relax.VarBinding(values[binding.var], value))
    output = values[main.body.body]
    function = relax.Function(
        [values[var] for var in main.params],
        builder.normalize(relax.SeqExpr([relax.DataflowBlock(block)], output)),
        output.ty,
        main.is_pure,
        main.attrs,
    )
    return ir.IRModule({"main": with_weight_entries(function, resized)}, attrs=module.attrs)


def _bindings(main: relax.Function) -> list[Any]:
    if len(main.body.blocks) != 1:
        raise CannotResize("the graph is not one block")
    return list(main.body.blocks[0].bindings)


def _extents(value: relax.Expr) -> tuple[int, ...]:
    if not isinstance(value.ty, relax.TensorType) or value.ty.shape is None:
        raise CannotResize("a value has no static shape")
    return tuple(int(extent) for extent in value.ty.shape.values)


def _changed(shape: tuple[int, ...], entry: Entry, before: tuple[int, ...]) -> tuple[tuple[int, ...], list[Change]]:
    """Return the shape of a weight after its changes, and the changes themselves: a reshape names extents."""
    changes: list[Change] = []
    for kind, argument in entry["changes"]:
        if kind == "permute":
            shape = tuple(shape[axis] for axis in argument)
            changes.append([kind, argument])
        elif kind == "reshape" and len(shape) == 1 and sorted(argument)[:-1] == [1] * (len(argument) - 1):
            largest = max(argument)
            shape = tuple(shape[0] if extent == largest > 1 else extent for extent in argument)
            changes.append([kind, list(shape)])
        else:
            raise CannotResize(f"weight {entry['name']} is changed by {kind} {argument}")
    if len(shape) != len(before):
        raise CannotResize(f"weight {entry['name']} has another rank")
    return shape, changes


def _emitted(value: relax.Expr, values: Mapping[relax.Var, relax.Var]) -> relax.Expr:
    """Return the expression `value` on the new variables."""
    if isinstance(value, relax.Var):
        return values[value]
    if isinstance(value, relax.Tuple):
        return relax.Tuple([_emitted(field, values) for field in value.fields])
    if isinstance(value, relax.ShapeExpr):
        return value
    if isinstance(value, ir.Constant) and (
        not isinstance(value.ty, relax.TensorType) or max(_extents(value), default=1) == 1
    ):
        return value
    if not isinstance(value, relax.Call) or not isinstance(value.op, ir.Op):
        raise CannotResize(f"a {type(value).__name__} has no rule")
    arguments = [_emitted(argument, values) for argument in value.args]
    name = value.op.name
    if name == "relax.nn.conv2d":
        return _convolution(value, arguments)
    if name == "relax.reshape":
        shape = _merged(
            _extents(value.args[0]), [int(extent) for extent in value.args[1].values], _extents(arguments[0])
        )
        return relax.op.reshape(arguments[0], shape)
    if name not in _FREE_OF_CHANNELS:
        raise CannotResize(f"{name} has no rule")
    return relax.Call(value.op, arguments, value.attrs, value.ty_args)


def _convolution(call: relax.Call, arguments: list[relax.Expr]) -> relax.Expr:
    """A filter says how many channels a group reads (HWIO), so how many groups there are."""
    attributes = call.attrs
    if attributes.data_layout != "NHWC" or attributes.kernel_layout != "HWIO":
        raise CannotResize("a convolution is not channels last")
    channels, read = _extents(arguments[0])[-1], _extents(arguments[1])[2]
    if channels % read:
        raise CannotResize(f"{channels} channels do not fall into groups of {read}")
    return relax.op.nn.conv2d(
        *arguments,
        strides=attributes.strides,
        padding=attributes.padding,
        dilation=attributes.dilation,
        groups=channels // read,
        data_layout=attributes.data_layout,
        kernel_layout=attributes.kernel_layout,
        out_layout=attributes.out_layout,
        out_dtype=attributes.out_dtype,
    )


def _merged(before: Sequence[int], target: Sequence[int], after: Sequence[int]) -> list[int]:
    """Return what becomes of the reshape `before` -> `target` for `after`; each target axis is a run of source axes."""
    if tuple(before) == tuple(after):
        return list(target)
    result, start = [], 0
    for number, extent in enumerate(target):
        end = start + 1
        last = number == len(target) - 1
        while end < len(before) and (last or math.prod(before[start:end]) < extent):
            end += 1
        if math.prod(before[start:end]) != extent:
            raise CannotResize(f"a reshape of {list(before)} to {list(target)} splits an axis")
        result.append(math.prod(after[start:end]))
        start = end
    return result
