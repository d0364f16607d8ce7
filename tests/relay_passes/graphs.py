"""Small Relax graphs as lowering makes them (inputs first, then named weights), and a way to run them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm
from tvm import ir, relax

from relay_passes.hoist_weights import with_weight_entries
from relay_passes.pipeline import executable_passes

__all__ = ["conv_graph", "graph", "kernels_of", "matmul_graph", "operators", "run", "tensor", "unary_graph"]

Emit = Callable[[Any], Any]

# What is computed does not depend on how hard LLVM tries, and that is most of a build.
_QUICK = {"kind": "llvm", "opt-level": 0}


def tensor(name: str, *shape: int) -> relax.Var:
    """Return a float32 variable."""
    return relax.Var(name, relax.TensorType(list(shape), "float32"))


def graph(inputs: Sequence[relax.Var], weights: Sequence[relax.Var], body: Callable[[Emit], Any]) -> ir.IRModule:
    """Return a module whose ``main`` takes inputs and weights and computes `body` with the emitter it is given."""
    builder = relax.BlockBuilder()
    with builder.function("main", [*inputs, *weights]):
        with builder.dataflow():
            result = builder.emit_output(body(builder.emit))
        builder.emit_func_output(result)
    module = builder.get()
    entries: list[dict[str, Any]] = [{"name": weight.name, "changes": []} for weight in weights]
    module["main"] = with_weight_entries(module["main"].with_attr("num_input", len(inputs)), entries)
    return module


def conv_graph(
    channels: tuple[int, int],
    *,
    size: tuple[int, int] = (4, 4),
    batch: int = 1,
    kernel: int = 3,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    epilogue: bool = False,
) -> ir.IRModule:
    """Return a convolution, channels last, that keeps the size at stride 1; with bias, residual and relu if asked."""
    source, result = channels
    padding = dilation * (kernel - 1) // 2
    rows, columns = ((extent + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for extent in size)
    data, weight = tensor("data", batch, *size, source), tensor("weight", kernel, kernel, source // groups, result)
    residual, bias = tensor("residual", batch, rows, columns, result), tensor("bias", 1, 1, 1, result)

    def body(emit: Emit) -> Any:
        made = emit(
            relax.op.nn.conv2d(
                data,
                weight,
                strides=stride,
                padding=padding,
                dilation=dilation,
                groups=groups,
                data_layout="NHWC",
                kernel_layout="HWIO",
            )
        )
        if not epilogue:
            return made
        return relax.op.nn.relu(emit(relax.op.add(emit(relax.op.add(made, bias)), residual)))

    return graph([data, residual] if epilogue else [data], [weight, bias] if epilogue else [weight], body)


def matmul_graph(rows: int, depth: int, columns: int, *, bias: bool = False) -> ir.IRModule:
    """Return rows x depth times depth x columns, with a bias if asked."""
    data, weight, added = tensor("data", rows, depth), tensor("weight", depth, columns), tensor("bias", columns)

    def body(emit: Emit) -> Any:
        made = emit(relax.op.matmul(data, weight))
        return relax.op.add(made, added) if bias else made

    return graph([data], [weight, added] if bias else [weight], body)


def unary_graph(shape: tuple[int, ...], operator: Callable[[Any], Any]) -> ir.IRModule:
    """Return `operator` of one input, without weights."""
    data = tensor("data", *shape)
    return graph([data], [], lambda emit: operator(data))


def operators(module: ir.IRModule) -> list[str]:
    """Return the operators of ``main`` in order, without the prefix ``relax.``."""
    values = [binding.value for block in module["main"].body.blocks for binding in block.bindings]
    return [
        value.op.name.removeprefix("relax.")
        for value in values
        if isinstance(value, relax.Call) and isinstance(value.op, ir.Op)
    ]


def kernels_of(module: ir.IRModule) -> dict[str, Any]:
    """Return the kernels of a fused module by name."""
    return {name.name_hint: part for name, part in module.functions_items() if isinstance(part, tvm.tirx.PrimFunc)}


def run(module: ir.IRModule, *arguments: Any) -> list[np.ndarray]:
    """Compile `module` as it is, without tuning, and return what ``main`` makes of all its parameters.

    Arguments are arrays, or tensors of TVM that the module may write to.
    """
    target = tvm.target.Target(_QUICK)
    with target, tvm.transform.PassContext(opt_level=3):
        ready = executable_passes()(relax.transform.LegalizeOps()(module))
        library = relax.build(ready, target=target, relax_pipeline=None)
    main = relax.VirtualMachine(library, tvm.cpu())["main"]
    made = main(*(tvm.runtime.tensor(item) if isinstance(item, np.ndarray) else item for item in arguments))
    return [made.numpy()] if hasattr(made, "numpy") else [part.numpy() for part in made]
