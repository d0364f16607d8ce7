"""Let a convolution do the zero padding before it.

Networks of TensorFlow's "same" padding pad unevenly in an operator of their own. Left alone it is a pass over memory;
as part of the convolution its border costs next to nothing.
"""

import tvm
from tvm import ir, relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from relay_passes.rewrite import rewritten

__all__ = ["FoldPads"]


@mutator
class _Folder(PyExprMutator):  # type: ignore[misc]  # to mypy, what tvm has is Any
    def __init__(self, module: ir.IRModule) -> None:
        super().__init__(module)
        self.pad, self.conv = ir.Op.get("relax.nn.pad"), ir.Op.get("relax.nn.conv2d")

    def _zeros_around_image(self, value: relax.Expr) -> tuple[relax.Expr, list[int]] | None:
        """Return what `value` pads, and the zeros top, left, bottom, right, if it is such a padding."""
        bound = self.lookup_binding(value) if isinstance(value, relax.Var) else None
        if not isinstance(bound, relax.Call) or bound.op != self.pad:
            return None
        widths = [int(width) for width in bound.attrs.pad_width]
        if bound.attrs.pad_mode != "constant" or float(bound.attrs.pad_value) != 0.0 or len(widths) != 8:
            return None
        if any(widths[:4]) or min(widths) < 0:  # batch and channels; a negative width crops
            return None
        return bound.args[0], [widths[4], widths[6], widths[5], widths[7]]

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = super().visit_call_(call)
        if call.op != self.conv or call.attrs.data_layout != "NCHW":
            return call
        found = self._zeros_around_image(call.args[0])
        if found is None:
            return call
        data, zeros = found
        attributes = call.attrs
        return relax.op.nn.conv2d(
            data,
            call.args[1],
            strides=attributes.strides,
            padding=[int(now) + more for now, more in zip(attributes.padding, zeros, strict=True)],
            dilation=attributes.dilation,
            groups=attributes.groups,
            data_layout=attributes.data_layout,
            kernel_layout=attributes.kernel_layout,
            out_layout=attributes.out_layout,
            out_dtype=attributes.out_dtype,
        )


@tvm.transform.module_pass(opt_level=0, name="FoldPads")
class FoldPads:
    """conv2d(pad(x)) becomes conv2d(x) with that much more padding; channels first, as it is imported."""

    def transform_module(self, module: ir.IRModule, _context: tvm.transform.PassContext) -> ir.IRModule:
        """Return `module` with the paddings of every Relax function folded."""
        return rewritten(module, _Folder(module))
