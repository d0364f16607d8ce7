"""Take layout changes of weights out of the graph.

A weight that is only transposed, reshaped, flipped or padded on its way to an operator would be changed again at every
call. This pass makes the changed weight the parameter and writes down how to get it, as JSON in the attribute
``tvm_prune.weights`` of ``main``, a list with one entry for each parameter after the inputs:

    {"name": placeholder, "changes": [[op, argument], ...]}

`relay_passes/weight_changes.py` carries an entry out on a numpy array. FoldConstant would reach the same graph by
compiling and running one function for every weight, which takes seconds.
"""

import json
from typing import Any

import tvm
from tvm import ir, relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from relay_passes.weight_changes import Change

__all__ = ["WEIGHTS_ATTRIBUTE", "HoistWeights", "weight_entries", "with_weight_entries"]

WEIGHTS_ATTRIBUTE = "tvm_prune.weights"

Entry = dict[str, Any]


def weight_entries(module: ir.IRModule) -> list[Entry]:
    """Return the record of ``main``: one entry for each parameter after the inputs."""
    return list(json.loads(str(module["main"].attrs[WEIGHTS_ATTRIBUTE])))


def with_weight_entries(function: relax.Function, entries: list[Entry]) -> relax.Function:
    """Return `function` carrying the record `entries`."""
    return function.with_attr(WEIGHTS_ATTRIBUTE, json.dumps(entries))


def _change(call: relax.Call) -> Change | None:
    """Return the numpy change that `call` makes to its first argument, or None for any other operator."""
    name = call.op.name if isinstance(call.op, ir.Op) else ""
    if name == "relax.permute_dims":
        axes = call.attrs.axes
        rank = int(call.args[0].ty.ndim)
        return ["permute", [int(axis) for axis in axes] if axes is not None else list(reversed(range(rank)))]
    if name == "relax.reshape":
        return ["reshape", [int(extent) for extent in call.args[1].values]]
    if name == "relax.nn.pad" and call.attrs.pad_mode == "constant" and float(call.attrs.pad_value) == 0.0:
        return ["pad", [int(width) for width in call.attrs.pad_width]]
    if name == "relax.flip":
        return ["flip", int(call.attrs.axis)]
    return None


@mutator
class _Hoister(PyExprMutator):  # type: ignore[misc]  # to mypy, what tvm has is Any
    """Turns ``change(weight)`` into a free variable and remembers it in `known`."""

    def __init__(self, module: ir.IRModule, weights: list[relax.Var]) -> None:
        super().__init__(module)
        self.known: dict[relax.Var, Entry] = {var: {"name": var.name, "changes": []} for var in weights}
        self.made: dict[str, relax.Var] = {}

    def _weight(self, value: relax.Expr) -> relax.Var | None:
        if not isinstance(value, relax.Var):
            return None
        if value in self.known:
            return value
        bound = self.lookup_binding(value)
        return bound if isinstance(bound, relax.Var) and bound in self.known else None

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = super().visit_call_(call)
        weight = self._weight(call.args[0]) if len(call.args) else None
        change = _change(call) if weight is not None else None
        if weight is None or change is None:
            return call
        entry = {"name": self.known[weight]["name"], "changes": [*self.known[weight]["changes"], change]}
        key = json.dumps(entry)
        if key not in self.made:
            shape = self.builder_.normalize(call).ty
            self.made[key] = relax.Var(entry["name"], shape)
            self.known[self.made[key]] = entry
        return self.made[key]


@tvm.transform.module_pass(opt_level=0, name="HoistWeights")
class HoistWeights:
    """Replace every chain of layout changes of a parameter by a changed parameter."""

    def transform_module(self, module: ir.IRModule, _context: tvm.transform.PassContext) -> ir.IRModule:
        """Return `module` with changed parameters and the record of the changes on ``main``."""
        main = module["main"]
        inputs = list(main.params[: int(main.attrs["num_input"])])
        weights = list(main.params[len(inputs) :])
        hoister = _Hoister(module, weights)
        body = hoister.visit_expr(main.body)
        # A bare `a = weight` is left over from the visit and is no use of the weight.
        used = {
            var
            for block in body.blocks
            for binding in block.bindings
            if not isinstance(binding.value, relax.Var)
            for var in relax.analysis.free_vars(binding.value)
        }
        aliases = {b.var: b.value for block in body.blocks for b in block.bindings if isinstance(b.value, relax.Var)}
        used |= {aliases[var] for var in used if var in aliases}
        position = {var.name: place for place, var in enumerate(weights)}
        kept = [var for var in hoister.known if var in used]
        kept.sort(key=lambda var: position[var.name])
        everything = [*inputs, *hoister.known]
        function = relax.analysis.remove_all_unused(
            relax.Function(everything, body, main.ret_ty, main.is_pure, main.attrs)
        )
        function = relax.Function([*inputs, *kept], function.body, main.ret_ty, main.is_pure, main.attrs)
        output = module.clone()
        output["main"] = with_weight_entries(function, [hoister.known[var] for var in kept])
        return output
