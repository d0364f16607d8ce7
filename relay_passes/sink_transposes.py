"""Move transposes down through element-wise operators and cancel pairs.

ConvertLayout knows relu and add, but wraps what it does not know (clip, sigmoid of some importers ...) in a pair of
transposes. The pair costs two passes over memory and, worse, keeps the operator out of the convolution's kernel.
"""

import tvm
from tvm import ir, relax
from tvm.relax.expr_functor import PyExprMutator, mutator

__all__ = ["SinkTransposes"]

ELEMENTWISE = (
    "clip",
    "nn.relu",
    "nn.relu6",
    "nn.leakyrelu",
    "nn.silu",
    "nn.gelu",
    "sigmoid",
    "tanh",
    "exp",
    "negative",
)


def _axes(call: relax.Call) -> list[int]:
    axes = call.attrs.axes
    rank = int(call.args[0].ty.ndim)
    return [int(axis) for axis in axes] if axes is not None else list(reversed(range(rank)))


@mutator
class _Sinker(PyExprMutator):  # type: ignore[misc]
    def __init__(self, module: ir.IRModule) -> None:
        super().__init__(module)
        self.transpose = ir.Op.get("relax.permute_dims")
        self.elementwise = [ir.Op.get(f"relax.{name}") for name in ELEMENTWISE if _exists(f"relax.{name}")]

    def _transposed(self, value: relax.Expr) -> relax.Call | None:
        bound = self.lookup_binding(value) if isinstance(value, relax.Var) else value
        return bound if isinstance(bound, relax.Call) and bound.op == self.transpose else None

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = super().visit_call_(call)
        if not call.args:
            return call
        inner = self._transposed(call.args[0])
        if inner is None:
            return call
        if call.op == self.transpose:
            first, second = _axes(inner), _axes(call)
            combined = [first[axis] for axis in second]
            if combined == sorted(combined):
                return inner.args[0]
            return relax.op.permute_dims(inner.args[0], combined)
        if call.op in self.elementwise:
            moved = relax.Call(call.op, [inner.args[0], *call.args[1:]], call.attrs, call.ty_args)
            moved = self.builder_.emit(moved)
            return relax.op.permute_dims(moved, _axes(inner))
        return call


def _exists(name: str) -> bool:
    return name in ir.Op.list_op_names()


@tvm.transform.module_pass(opt_level=0, name="SinkTransposes")
class SinkTransposes:
    """op(permute(x)) becomes permute(op(x)) for element-wise op; permute(permute(x)) becomes one permute or none."""

    def transform_module(self, module: ir.IRModule, _context: tvm.transform.PassContext) -> ir.IRModule:
        """Return `module` with the transposes of every Relax function sunk."""
        worker = _Sinker(module)
        for name, function in module.functions_items():
            if isinstance(function, relax.Function):
                worker.builder_.update_func(name, relax.analysis.remove_all_unused(worker.visit_expr(function)))
        return worker.builder_.get()
