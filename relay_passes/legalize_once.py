"""Operators to kernels, each distinct one only once in the life of the process.

Writing the kernel of a convolution takes milliseconds, and a search lowers hundreds of networks that differ in a few
layers only. A kernel follows from its operator, attributes, argument types and target alone, so what the stock pass
made of a call is kept and handed out again to the next equal call.
"""

from collections.abc import Callable
from typing import Any

import tvm
from tvm import ir, relax

__all__ = ["LegalizeOnce", "operators_left"]

# Kernels kept; a search over a large network makes some thousand.
_KEPT = 20_000

_Key = tuple[str, ...]
# The kernel, its name, the type of its result.
_Kernel = tuple[ir.BaseFunc, str, ir.Type]
_CALL_TIR = ir.Op.get("relax.call_tir")
_known: dict[_Key, _Kernel | None] = {}


def _key(call: relax.Call, target: str) -> _Key | None:
    """Return what the kernel of `call` follows from; None where that is more than types, such as a constant's value."""
    if not all(isinstance(arg, relax.Var) and isinstance(arg.ty, relax.TensorType) for arg in call.args):
        return None
    attributes = "" if call.attrs is None else str(call.attrs)
    return (target, call.op.name, attributes, *(str(arg.ty) for arg in call.args))


def _written(stock: Any, call: relax.Call) -> _Kernel | None:
    """Return what becomes of `call` if that is one kernel on the call's own arguments."""
    # A builder of its own: in that of a module the name would depend on what else the module holds.
    builder = relax.BlockBuilder()
    made = stock(builder, call)
    if not isinstance(made, relax.Call) or made.op != _CALL_TIR or len(made.args) != 2:
        return None
    kernel, arguments = made.args
    if not isinstance(arguments, relax.Tuple) or len(arguments.fields) != len(call.args):
        return None
    if not all(mine.same_as(theirs) for mine, theirs in zip(arguments.fields, call.args, strict=True)):
        return None
    return builder.get()[kernel], kernel.name_hint, made.ty_args[0]


def _remembering(stock: Any, target: str) -> Callable[[relax.BlockBuilder, relax.Call], relax.Expr]:
    def legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        key = _key(call, target)
        if key is None:
            return stock(builder, call)
        if key not in _known:
            if len(_known) >= _KEPT:
                _known.clear()
            _known[key] = _written(stock, call)
        found = _known[key]
        if found is None:
            return stock(builder, call)
        kernel, name, result = found
        arguments = [builder.add_func(kernel, name), relax.Tuple(list(call.args))]
        return relax.Call(_CALL_TIR, arguments, None, [result])

    return legalize


def operators_left(module: ir.IRModule) -> tuple[str, ...]:
    """Return the names of operators in ``main`` that no kernel was written for, as nn.conv2d."""
    found: dict[str, None] = {}
    for block in module["main"].body.blocks:
        for binding in block.bindings:
            operator = getattr(binding.value, "op", None)
            if isinstance(operator, ir.Op) and operator.name.startswith(("relax.nn.", "relax.image.")):
                found[operator.name.removeprefix("relax.")] = None
    return tuple(found)


@tvm.transform.module_pass(opt_level=0, name="LegalizeOnce")
class LegalizeOnce:
    """LegalizeOps that writes equal kernels only once; to be run under a target, as that is."""

    def transform_module(self, module: ir.IRModule, _context: tvm.transform.PassContext) -> ir.IRModule:
        """Return `module` with calls of kernels in place of operators."""
        target = str(tvm.target.Target.current(allow_none=False))
        operators = (ir.Op.get(name) for name in ir.Op.list_op_names() if name.startswith("relax."))
        stock = {operator.name: operator.get_attr("FLegalize") for operator in operators}
        remembering = {name: _remembering(rule, target) for name, rule in stock.items() if rule is not None}
        return relax.transform.LegalizeOps(remembering)(module)
