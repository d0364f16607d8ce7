"""Carry a rewriting of expressions out on every function of a module: what several passes have in common."""

from typing import Any

from tvm import ir, relax

__all__ = ["rewritten"]


def rewritten(module: ir.IRModule, mutator: Any) -> ir.IRModule:
    """Return `module` with every Relax function as `mutator` (of that module) leaves it, unused bindings removed."""
    for name, function in module.functions_items():
        if isinstance(function, relax.Function):
            mutator.builder_.update_func(name, relax.analysis.remove_all_unused(mutator.visit_expr(function)))
    return mutator.builder_.get()
