"""A main that only calls kernels becomes one function; what it computes stays, and any other main stays as it is."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import ir, relax
from tvm.support.cc import create_shared

from relay_passes.pipeline import executable_passes, fuse
from tests.relay_passes.graphs import Emit, conv_graph, graph, kernels_of, operators, tensor, unary_graph

TARGET = tvm.target.Target({"kind": "llvm", "num-cores": 1})


def arrays_for(module: ir.IRModule) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    shapes = [[int(extent) for extent in param.ty.shape.values] for param in module["main"].params]
    return [generator.standard_normal(shape).astype("float32") for shape in shapes]


def elsewhere(module: ir.IRModule) -> dict[str, str]:
    """Return a symbol for each kernel."""
    return {name: f"elsewhere_{name}" for name in kernels_of(module)}


def outputs(
    module: ir.IRModule, folder: Path, symbols: Mapping[str, str] | None = None
) -> tuple[list[np.ndarray], list[str]]:
    """Return what a fused module computes, and the functions there are when it is built.

    With `symbols` the kernels are compiled elsewhere, so that one function calls them.
    """
    arrays = arrays_for(module)
    objects = []
    for symbol, name in {symbol: name for name, symbol in (symbols or {}).items()}.items():
        named = tvm.IRModule({symbol: module[name].with_attr("global_symbol", symbol)})
        objects.append(str(folder / f"{symbol}.o"))
        tvm.compile(named, target=TARGET).mod.write_to_file(objects[-1])
    with TARGET, tvm.transform.PassContext(opt_level=3):
        ready = executable_passes(symbols)(module)
        library = folder / f"whole{len(objects)}.so"
        relax.build(ready, target=TARGET, relax_pipeline=None).export_library(str(library), addons=objects)
    main = relax.VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())["main"]
    made = main(*(tvm.runtime.tensor(array) for array in arrays))
    found = [made.numpy()] if hasattr(made, "numpy") else [part.numpy() for part in made]
    return found, sorted(name.name_hint for name in ready.functions)


def twice(data: relax.Var) -> Callable[[Emit], Any]:
    """Return the body of a graph that calls one kernel two times, with a reshape and another kernel between."""

    def body(emit: Emit) -> Any:
        first = emit(relax.op.nn.softmax(data))
        flat = emit(relax.op.reshape(first, [8]))
        turned = emit(relax.op.reshape(emit(relax.op.nn.relu(emit(relax.op.negative(flat)))), [2, 4]))
        return relax.op.nn.softmax(turned)

    return body


def two_results(data: relax.Var) -> Callable[[Emit], Any]:
    """Return the body of a graph with two results."""

    def body(emit: Emit) -> Any:
        soft = emit(relax.op.nn.softmax(data))
        return relax.Tuple([soft, emit(relax.op.sum(soft, axis=[1]))])

    return body


def split(data: relax.Var) -> Callable[[Emit], Any]:
    """Return the body of a graph one of whose kernels has two results."""

    def body(emit: Emit) -> Any:
        parts = emit(relax.op.split(data, 2, axis=1))
        return relax.op.nn.softmax(emit(relax.op.multiply(parts[0], parts[1])))

    return body


def made_of(body: Callable[[relax.Var], Callable[[Emit], Any]]) -> ir.IRModule:
    data = tensor("data", 2, 4)
    return graph([data], [], body(data))


def input_again(data: relax.Var) -> Callable[[Emit], Any]:
    """Return the body of a graph one of whose results is its input."""
    return lambda emit: relax.Tuple([emit(relax.op.nn.softmax(data)), data])


GRAPHS = {
    "residual convolution": lambda: conv_graph((3, 5), epilogue=True),
    "one kernel": lambda: unary_graph((2, 4), relax.op.nn.softmax),
    "one kernel twice": lambda: made_of(twice),
    "two results": lambda: made_of(two_results),
    "a result that is the input": lambda: made_of(input_again),
    "a kernel of two results": lambda: made_of(split),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_one_function_computes_what_the_virtual_machine_does(name: str, tmp_path: Path) -> None:
    module = fuse(GRAPHS[name](), TARGET)
    expected, _ = outputs(module, tmp_path)
    found, functions = outputs(module, tmp_path, elsewhere(module))
    assert "network" in functions
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_main_does_nothing_but_make_the_result_and_call_it() -> None:
    module = fuse(made_of(twice), TARGET)
    with TARGET, tvm.transform.PassContext(opt_level=3):
        ready = executable_passes(elsewhere(module))(module)
    calls = [name for name in operators(ready) if not name.startswith(("vm.", "memory.", "null"))]
    assert calls == []
    called = [
        binding.value.op.name_hint
        for block in ready["main"].body.blocks
        for binding in block.bindings
        if isinstance(binding.value, relax.Call) and isinstance(binding.value.op, ir.GlobalVar)
    ]
    assert called == ["network"]


def test_a_main_that_calls_anything_else_stays_as_it_is() -> None:
    data = tensor("data", 2, 4)

    def body(emit: Emit) -> Any:
        soft = emit(relax.op.nn.softmax(data))
        return relax.op.call_dps_packed("elsewhere.sort", relax.Tuple([soft]), out_ty=data.ty)

    module = fuse(graph([data], [], body), TARGET)
    with TARGET, tvm.transform.PassContext(opt_level=3):
        ready = executable_passes(elsewhere(module))(module)
    assert [name.name_hint for name in ready.functions] == ["main"]


def test_kernels_of_two_names_may_share_a_symbol(tmp_path: Path) -> None:
    data = tensor("data", 2, 4)

    def body(emit: Emit) -> Any:
        soft = emit(relax.op.nn.softmax(emit(relax.op.nn.relu(data))))
        return relax.op.nn.softmax(emit(relax.op.negative(soft)))

    module = fuse(graph([data], [], body), TARGET)
    symbols = {"relu": "other", "fused_softmax_tir_negative": "one", "softmax": "one"}
    assert kernels_of(module).keys() == symbols.keys()
    found, functions = outputs(module, tmp_path, symbols)
    assert functions == ["call_one", "call_other", "main", "network"]
    (array,) = arrays_for(module)

    def soft(values: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(values) / np.exp(values).sum(axis=1, keepdims=True))

    # "one" is compiled from the kernel named last.
    np.testing.assert_allclose(found[0], soft(soft(np.maximum(array, 0))), rtol=1e-6)


def test_a_kernel_that_is_not_compiled_elsewhere_keeps_main_as_it_is() -> None:
    module = fuse(conv_graph((3, 5)), TARGET)
    with TARGET, tvm.transform.PassContext(opt_level=3):
        ready = executable_passes({"another": "elsewhere"})(module)
    assert "network" not in [name.name_hint for name in ready.functions]
    assert kernels_of(ready)


def library_of(ready: ir.IRModule, kernels: str, folder: Path) -> Callable[..., Any]:
    """Return main of a module whose kernels are written in C."""
    source, object_file, library = folder / "kernels.cc", folder / "kernels.o", folder / "whole.so"
    source.write_text(f'extern "C" {{\n{kernels}\n}}\n')
    create_shared(str(object_file), [str(source)], options=["-c"])
    with TARGET, tvm.transform.PassContext(opt_level=3):
        relax.build(ready, target=TARGET, relax_pipeline=None).export_library(str(library), addons=[str(object_file)])
    main: Callable[..., Any] = relax.VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())["main"]
    return main


FAILS = """
void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message);
int __tvm_ffi_fails(void *self, void *args, int count, void *result) {
  TVMFFIErrorSetRaisedFromCStr("MemoryError", "no memory left");
  return -1;
}
"""


def test_a_failing_kernel_is_named(tmp_path: Path) -> None:
    module = fuse(unary_graph((2, 4), relax.op.nn.softmax), TARGET)
    (name,) = kernels_of(module)
    with TARGET, tvm.transform.PassContext(opt_level=3):
        ready = executable_passes({name: "fails"})(module)
    main = library_of(ready, FAILS, tmp_path)
    with pytest.raises(RuntimeError, match=f"the kernel {name} failed"):
        main(tvm.runtime.tensor(np.zeros((2, 4), "float32")))


def test_a_failing_kernel_leaves_no_memory_behind(tmp_path: Path) -> None:
    data = tensor("data", 1024, 1024)

    def body(emit: Emit) -> Any:
        return relax.op.nn.softmax(emit(relax.op.nn.softmax(data)))

    module = fuse(graph([data], [], body), TARGET)
    (name,) = kernels_of(module)
    with TARGET, tvm.transform.PassContext(opt_level=3):
        ready = executable_passes({name: "fails"})(module)
    main = library_of(ready, FAILS, tmp_path)
    image = tvm.runtime.tensor(np.zeros((1024, 1024), "float32"))
    mapped = []
    for _ in range(20):
        with pytest.raises(RuntimeError, match="failed"):
            main(image)
        mapped.append(int(Path("/proc/self/statm").read_text().split()[0]))
    # Pages: a block that is kept would be a thousand of them a call.
    assert mapped[-1] - mapped[2] < 4 * 1024
