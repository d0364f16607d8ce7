"""Let the graph call kernels that are compiled elsewhere, by the symbols of their object files.

Kernels named in `symbols` leave the module; what stays is the virtual machine's own code, which compiles in a moment.
To run after the executable passes: before them a kernel's body tells, for one, whether it is a mere reshape.
"""

from collections.abc import Mapping

import tvm
from tvm import ir, relax
from tvm.relax.expr_functor import PyExprMutator, mutator

__all__ = ["ExternalKernels"]


@mutator
class _Caller(PyExprMutator):  # type: ignore[misc]  # to mypy, what tvm has is Any
    """Turns calls of global variables into calls of external functions."""

    def __init__(self, module: ir.IRModule, symbols: Mapping[str, str]) -> None:
        super().__init__(module)
        self.symbols = symbols

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = super().visit_call_(call)
        if isinstance(call.op, ir.GlobalVar) and call.op.name_hint in self.symbols:
            external = relax.ExternFunc(self.symbols[call.op.name_hint])
            return relax.Call(external, call.args, call.attrs, call.ty_args)
        return call


@tvm.transform.module_pass(opt_level=0, name="ExternalKernels")
class ExternalKernels:
    """Take the kernels in `symbols` (kernel name -> symbol) out of the module."""

    def __init__(self, symbols: Mapping[str, str]) -> None:
        self.symbols = dict(symbols)

    def transform_module(self, module: ir.IRModule, _context: tvm.transform.PassContext) -> ir.IRModule:
        """Return `module` without those kernels, calling them by their symbols."""
        main = _Caller(module, self.symbols).visit_expr(module["main"])
        rest = {
            name: function
            for name, function in module.functions.items()
            if name.name_hint not in self.symbols and name.name_hint != "main"
        }
        output = ir.IRModule({**rest, module.get_global_var("main"): main})
        return output.with_attrs(module.attrs) if module.attrs else output
