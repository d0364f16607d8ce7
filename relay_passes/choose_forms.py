"""Give the weights of chosen convolutions and matrix products another form, and their kernels with it.

17 channels make no full vectors; 32 do: the kernel then computes 32 channels from zero-padded weights and stores 17, so
the rest of the graph does not notice. 512 channels of a plain filter lie 2 KB apart for each input channel; packed,
they are one stream. A 3x3 filter can be brought to Winograd's domain. Which layers get which form is the oracle's
choice: programs of all forms compete.
"""

import json
from collections.abc import Mapping
from typing import Any

import tvm
from tvm import ir, relax, te
from tvm.relax.expr_functor import PyExprMutator, mutator

from relay_passes.bit_serial import BitWork, bit_serial_function
from relay_passes.hoist_weights import weight_entries, with_weight_entries
from relay_passes.weight_form import WeightForm
from relay_passes.weighted_kernels import Window, conv2d, depthwise, matmul

__all__ = ["ChooseForms"]

# TVM's pattern of operators that what works on single elements is fused with behind.
_FUSED_WITH_ELEMENTWISE = 4
# Kernels kept; a search over a large network makes some thousand.
_KEPT = 20_000
_known: dict[str, Any] = {}


def _kernel(call: relax.Call, weight: relax.Var, form: WeightForm) -> tuple[Any, str]:
    """Return the PrimFunc of `call` on a weight in another form, and its name; each is written only once."""
    data, plain = call.args
    # Two counts padded to the same one have data and weight of equal types: the plain weight tells them apart.
    key = json.dumps([call.op.name, str(call.attrs), str(data.ty), str(plain.ty), str(weight.ty), repr(form)])
    name: str = "padded" if form.layout == "plain" else form.layout
    if form.tile:
        name = "dot_winograd" if form.dot else "winograd"
    channels = int(plain.ty.shape.values[-1])
    if call.op.name == "relax.matmul":
        name += "_matmul"
    else:
        name += "_conv2d" if int(call.attrs.groups) == 1 else "_depthwise"
    if key not in _known:
        if len(_known) >= _KEPT:
            _known.clear()
        if form.planes is not None:
            # Packing bytes by vectors is nothing that TVM knows to be fused with what follows.
            made = bit_serial_function(_bit_work(call, form, channels))
            _known[key] = made.with_attr("op_pattern", _FUSED_WITH_ELEMENTWISE)
            return _known[key], name
        source, factor = (
            te.placeholder([int(extent) for extent in var.ty.shape.values], var.ty.dtype) for var in (data, weight)
        )
        if call.op.name == "relax.matmul":
            result = matmul(source, factor, form, channels)
        else:
            fields = (call.attrs.strides, call.attrs.padding, call.attrs.dilation)
            window = Window(*([int(value) for value in field] for field in fields))
            if int(call.attrs.groups) == 1:
                result = conv2d(source, factor, window, form, channels)
            else:
                result = depthwise(source, factor, window, channels)
        function = te.create_prim_func([source, factor, result], index_dtype_override="int64")
        _known[key] = function.without_attr("global_symbol")
    return _known[key], name


def _bit_work(call: relax.Call, form: WeightForm, channels: int) -> BitWork:
    """Return a convolution of square strides in the planes of `form`; its border, if it has one, is zeros."""
    data, weight = call.args
    planes = form.planes
    assert planes is not None
    batch, height, width, depth = (int(extent) for extent in data.ty.shape.values)
    rows, columns, *_ = (int(extent) for extent in weight.ty.shape.values)
    top, left, bottom, right = (int(wide) for wide in call.attrs.padding)
    return BitWork(
        image=(batch, height, width, depth),
        out_channels=channels,
        kernel=(rows, columns),
        stride=int(call.attrs.strides[0]),
        padding=(top, left, bottom, right),
        zero=0,
        w_bits=planes.w_bits,
        a_bits=planes.a_bits,
        word=planes.word,
        lanes=form.lanes,
        table=planes.table,
    )


@mutator
class _Chooser(PyExprMutator):  # type: ignore[misc]  # to mypy, what tvm has is Any
    def __init__(self, module: ir.IRModule, weights: dict[relax.Var, tuple[relax.Var, WeightForm]]) -> None:
        super().__init__(module)
        self.weights = weights

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        ty = call.ty
        call = super().visit_call_(call)
        if len(call.args) != 2 or call.args[1] not in self.weights or not isinstance(call.op, ir.Op):
            return call
        if call.op.name not in ("relax.matmul", "relax.nn.conv2d"):
            return call
        weight, form = self.weights[call.args[1]]
        function, name = _kernel(call, weight, form)
        return relax.call_tir(self.builder_.add_func(function, name), [call.args[0], weight], ty)


@tvm.transform.module_pass(opt_level=0, name="ChooseForms")
class ChooseForms:
    """Bring the weight of each placeholder in `forms` to its form; its kernel stores as many channels as before.

    A form is for a filter (HWIO, groups 1; padded channels for depthwise too) or the matrix of a product.
    """

    def __init__(self, forms: Mapping[str, WeightForm]) -> None:
        self.forms = dict(forms)

    def transform_module(self, module: ir.IRModule, _context: tvm.transform.PassContext) -> ir.IRModule:
        """Return `module` with weight parameters and kernels in their forms."""
        if not self.forms:
            return module
        main = module["main"]
        count = int(main.attrs["num_input"])
        entries = json.loads(json.dumps(weight_entries(module)))
        replaced: dict[relax.Var, tuple[relax.Var, WeightForm]] = {}
        for var, entry in zip(main.params[count:], entries, strict=True):
            shape = tuple(int(extent) for extent in var.ty.shape.values)
            form = self.forms.get(entry["name"])
            if form is not None and len(shape) > 1:
                entry["changes"] += form.changes()
                changed = relax.Var(var.name, relax.TensorType(list(form.shape(shape)), form.dtype(str(var.ty.dtype))))
                replaced[var] = (changed, form)
        chooser = _Chooser(module, replaced)
        body = chooser.visit_expr(main.body)
        params = [replaced[var][0] if var in replaced else var for var in main.params]
        output = chooser.builder_.get()
        function = relax.Function(params, body, main.ret_ty, main.is_pure, main.attrs)
        output["main"] = with_weight_entries(function, entries)
        return output
