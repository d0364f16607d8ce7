"""Kernels that are compiled elsewhere leave the module, which then calls them by symbol."""

from pathlib import Path

import numpy as np
import tvm
from tvm import relax

from relay_passes.external_kernels import ExternalKernels
from relay_passes.pipeline import executable_passes, fuse
from tests.relay_passes.graphs import conv_graph, run

TARGET = tvm.target.Target({"kind": "llvm", "num-cores": 1})


def test_a_module_without_its_kernels_computes_the_same_with_their_objects(tmp_path: Path) -> None:
    fused = fuse(conv_graph((3, 5), epilogue=True), TARGET)
    generator = np.random.default_rng(0)
    arrays = [
        generator.standard_normal([int(extent) for extent in param.ty.shape.values]).astype("float32")
        for param in fused["main"].params
    ]
    (expected,) = run(fused, *arrays)

    with TARGET, tvm.transform.PassContext(opt_level=3):
        module = executable_passes()(fused)
    kernels = {name.name_hint: found for name, found in module.functions.items() if name.name_hint != "main"}
    symbols = {name: f"elsewhere_{name}" for name in kernels}
    objects = []
    for name, function in kernels.items():
        named = tvm.IRModule({symbols[name]: function.with_attr("global_symbol", symbols[name])})
        objects.append(str(tmp_path / f"{name}.o"))
        tvm.compile(named, target=TARGET).mod.write_to_file(objects[-1])

    alone = ExternalKernels(symbols)(module)  # type: ignore[operator]
    assert [name.name_hint for name in alone.functions] == ["main"]
    library = tmp_path / "whole.so"
    relax.build(alone, target=TARGET, relax_pipeline=None).export_library(str(library), addons=objects)
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())
    output = machine["main"](*(tvm.runtime.tensor(array) for array in arrays))
    np.testing.assert_array_equal(output.numpy() if hasattr(output, "numpy") else output[0].numpy(), expected)


def test_kernels_that_are_not_named_stay() -> None:
    fused = fuse(conv_graph((3, 5)), TARGET)
    with TARGET, tvm.transform.PassContext(opt_level=3):
        module = executable_passes()(fused)
    rest = ExternalKernels({"another": "elsewhere"})(module)  # type: ignore[operator]
    tvm.ir.assert_structural_equal(rest, module)
