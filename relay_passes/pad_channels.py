"""Widen chosen convolutions and matmuls to a friendlier output channel count inside their own kernel.

17 channels make no full vectors; 32 do. The kernel then computes 32 channels from zero-padded weights and stores 17,
so the rest of the graph does not notice. Which layers are widened, and to what, is the oracle's choice: padded and
exact programs of a count compete.
"""

import json
from collections.abc import Mapping

import tvm
from tvm import ir, relax, te, topi
from tvm.relax.expr_functor import PyExprMutator, mutator

from relay_passes.hoist_weights import weight_entries, with_weight_entries

__all__ = ["PadChannels"]


def _crop(wide: te.Tensor, channels: int) -> te.Tensor:
    return te.compute([*wide.shape[:-1], channels], lambda *index: wide[index], name="crop")


def _conv2d(data: te.Tensor, weight: te.Tensor, attrs: ir.Attrs, channels: int) -> te.Tensor:
    ints = [[int(value) for value in field] for field in (attrs.strides, attrs.padding, attrs.dilation)]
    return _crop(topi.nn.conv2d_nhwc(data, weight, *ints), channels)


def _depthwise(data: te.Tensor, weight: te.Tensor, attrs: ir.Attrs, channels: int) -> te.Tensor:
    """Depthwise: the input is widened too, by the stage that pads the image."""
    stride, padding, dilation = (
        [int(value) for value in field] for field in (attrs.strides, attrs.padding, attrs.dilation)
    )
    wide = int(weight.shape[-1])
    top, left, bottom, right = padding
    padded = topi.nn.pad(data, [0, top, left, 0], [0, bottom, right, wide - channels], name="pad_temp")
    return _crop(topi.nn.group_conv2d_nhwc(padded, weight, stride, 0, dilation, wide), channels)


def _matmul(data: te.Tensor, weight: te.Tensor, channels: int) -> te.Tensor:
    depth = te.reduce_axis((0, weight.shape[0]), name="k")
    wide = te.compute(
        [*data.shape[:-1], weight.shape[1]],
        lambda *index: te.sum(data[(*index[:-1], depth)] * weight[depth, index[-1]], axis=depth),
        name="matmul",
    )
    return _crop(wide, channels)


@mutator
class _Padder(PyExprMutator):  # type: ignore[misc]
    def __init__(self, module: ir.IRModule, wider: dict[relax.Var, relax.Var]) -> None:
        super().__init__(module)
        self.wider = wider

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = super().visit_call_(call)
        if len(call.args) != 2 or call.args[1] not in self.wider or not isinstance(call.op, ir.Op):
            return call
        data, weight = call.args[0], self.wider[call.args[1]]
        channels = int(call.args[1].ty.shape.values[-1])
        if call.op.name not in ("relax.matmul", "relax.nn.conv2d"):
            return call
        if call.op.name == "relax.matmul":
            return self.builder_.call_te(_matmul, data, weight, channels, primfunc_name_hint="padded_matmul")
        if int(call.attrs.groups) == 1:
            compute, name = _conv2d, "padded_conv2d"
        else:
            compute, name = _depthwise, "padded_depthwise"
        return self.builder_.call_te(compute, data, weight, call.attrs, channels, primfunc_name_hint=name)


@tvm.transform.module_pass(opt_level=0, name="PadChannels")
class PadChannels:
    """Compute ``wider[placeholder]`` output channels where the weight of that name has fewer; store as many as before.

    `wider` maps the placeholder name of a conv (HWIO, groups 1 or depthwise) or matmul weight to its padded channel
    count.
    """

    def __init__(self, wider: Mapping[str, int]) -> None:
        self.wider = dict(wider)

    def transform_module(self, module: ir.IRModule, _context: tvm.transform.PassContext) -> ir.IRModule:
        """Return `module` with wider weight parameters and kernels."""
        if not self.wider:
            return module
        main = module["main"]
        count = int(main.attrs["num_input"])
        entries = json.loads(json.dumps(weight_entries(module)))
        replaced: dict[relax.Var, relax.Var] = {}
        for var, entry in zip(main.params[count:], entries, strict=True):
            shape = [int(extent) for extent in var.ty.shape.values]
            if entry["name"] in self.wider and len(shape) > 1:
                wide = self.wider[entry["name"]]
                entry["changes"].append(["pad_last", wide])
                replaced[var] = relax.Var(var.name, relax.TensorType([*shape[:-1], wide], var.ty.dtype))
        padder = _Padder(module, replaced)
        body = padder.visit_expr(main.body)
        params = [replaced.get(var, var) for var in main.params]
        output = padder.builder_.get()
        function = relax.Function(params, body, main.ret_ty, main.is_pure, main.attrs)
        output["main"] = with_weight_entries(function, entries)
        return output
