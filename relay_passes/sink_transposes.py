"""Move transposes down through element-wise operators, global pooling and means, and cancel pairs.

ConvertLayout knows relu and add, but wraps what it does not know (clip, sigmoid of some importers ...) in a pair of
transposes. The pair costs two passes over memory and, worse, keeps the operator out of the convolution's kernel.
"""

import tvm
from tvm import ir, relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from relay_passes.rewrite import rewritten

__all__ = ["SinkTransposes"]

ELEMENTWISE = (
    "astype",
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
# Of a value and a constant of one element.
BINARY = ("add", "multiply", "subtract", "divide", "maximum", "minimum", "right_shift")


def _axes(call: relax.Call) -> list[int]:
    axes = call.attrs.axes
    rank = int(call.args[0].ty.ndim)
    return [int(axis) for axis in axes] if axes is not None else list(reversed(range(rank)))


@mutator
class _Sinker(PyExprMutator):  # type: ignore[misc]  # to mypy, what tvm has is Any
    def __init__(self, module: ir.IRModule) -> None:
        super().__init__(module)
        self.transpose = ir.Op.get("relax.permute_dims")
        self.mean, self.pool = ir.Op.get("relax.mean"), ir.Op.get("relax.nn.adaptive_avg_pool2d")
        self.elementwise = [ir.Op.get(f"relax.{name}") for name in ELEMENTWISE if _exists(f"relax.{name}")]
        self.binary = [ir.Op.get(f"relax.{name}") for name in BINARY]

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
        if call.op in self.binary and _is_row(call.args[1], len(_axes(inner))):
            # One number for each channel: it is turned the other way.
            other = self.builder_.emit(relax.op.permute_dims(call.args[1], _inverse(_axes(inner))))
            moved = self.builder_.emit(relax.Call(call.op, [inner.args[0], other], call.attrs, call.ty_args))
            return relax.op.permute_dims(moved, _axes(inner))
        if call.op in self.elementwise or (call.op in self.binary and _is_number(call.args[1])):
            moved = relax.Call(call.op, [inner.args[0], *call.args[1:]], call.attrs, call.ty_args)
            moved = self.builder_.emit(moved)
            return relax.op.permute_dims(moved, _axes(inner))
        if call.op == self.mean and call.attrs.axis is not None:
            axes = _axes(inner)
            reduced = [axes[int(axis) % len(axes)] for axis in call.attrs.axis]
            moved = relax.op.mean(inner.args[0], reduced, call.attrs.keepdims)
            kept = axes if call.attrs.keepdims else _ranks([axis for axis in axes if axis not in reduced])
            if kept == sorted(kept):
                return moved
            return relax.op.permute_dims(self.builder_.emit(moved), kept)
        if call.op == self.pool and call.attrs.layout == "NCHW" and _axes(inner) == [0, 3, 1, 2]:
            pooled = relax.op.nn.adaptive_avg_pool2d(inner.args[0], call.attrs.output_size, "NHWC", "NHWC")
            return relax.op.permute_dims(self.builder_.emit(pooled), [0, 3, 1, 2])
        return call


def _ranks(axes: list[int]) -> list[int]:
    """Return the place of each axis among all of them."""
    return [sorted(axes).index(axis) for axis in axes]


def _inverse(axes: list[int]) -> list[int]:
    return [axes.index(axis) for axis in range(len(axes))]


def _is_row(value: relax.Expr, rank: int) -> bool:
    """Whether a variable has the rank, and more than one element along one axis alone."""
    if not isinstance(value, relax.Var) or value.ty.shape is None:
        return False
    extents = [int(extent) for extent in value.ty.shape.values]
    return len(extents) == rank and sum(extent != 1 for extent in extents) == 1


def _is_number(value: relax.Expr) -> bool:
    return isinstance(value, ir.Constant) and all(int(extent) == 1 for extent in value.ty.shape.values)


def _exists(name: str) -> bool:
    return name in ir.Op.list_op_names()


@tvm.transform.module_pass(opt_level=0, name="SinkTransposes")
class SinkTransposes:
    """op(permute(x)) becomes permute(op(x)) for the ops above; permute(permute(x)) becomes one permute or none."""

    def transform_module(self, module: ir.IRModule, _context: tvm.transform.PassContext) -> ir.IRModule:
        """Return `module` with the transposes of every Relax function sunk."""
        return rewritten(module, _Sinker(module))
