"""Follow the weight argument of every fused call back to its parameter: task <-> layer, without a guess by name."""

from dataclasses import dataclass

from tvm import ir, relax, tirx

from relay_passes.hoist_weights import weight_entries

__all__ = ["CallSite", "call_sites"]


@dataclass(frozen=True)
class CallSite:
    """One kernel call of ``main``, in order: the kernel's name and the placeholder names of the weights it reads."""

    kernel: str
    weights: tuple[str, ...]


def call_sites(module: ir.IRModule) -> tuple[CallSite, ...]:
    """Return every ``call_tir`` of ``main`` in execution order. `module` is fused and its weights are parameters."""
    main = module["main"]
    count = int(main.attrs["num_input"])
    names = {var: str(entry["name"]) for var, entry in zip(main.params[count:], weight_entries(module), strict=True)}
    sites = []
    call_tir = ir.Op.get("relax.call_tir")
    for block in main.body.blocks:
        for binding in block.bindings:
            value = binding.value
            if isinstance(value, relax.Var) and value in names:
                names[binding.var] = names[value]
            if isinstance(value, relax.Call) and value.op == call_tir:
                kernel, arguments = value.args[0], value.args[1]
                assert isinstance(module[kernel], tirx.PrimFunc)
                read = tuple(names[argument] for argument in arguments.fields if argument in names)
                sites.append(CallSite(kernel=kernel.name_hint, weights=read))
    return tuple(sites)
