"""Padded kernels store what the exact ones store."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import ir, relax

from relay_passes.hoist_weights import apply_changes, weight_entries
from relay_passes.pad_channels import PadChannels
from relay_passes.pipeline import fuse
from tests.relay_passes.graphs import Emit, conv_graph, graph, kernels_of, matmul_graph, run, tensor

TARGET = tvm.target.Target({"kind": "llvm", "num-cores": 1})


def outputs(module: ir.IRModule, wider: Mapping[str, int]) -> np.ndarray:
    """Run a graph with its weights padded as `wider` says; inputs and weights are always the same."""
    generator = np.random.default_rng(0)
    values: dict[str, np.ndarray] = {}
    for param in module["main"].params:
        shape = [int(extent) for extent in param.ty.shape.values]
        values[param.name] = generator.standard_normal(shape).astype("float32")
    fused = fuse(module, TARGET, wider)
    count = int(fused["main"].attrs["num_input"])
    inputs = [values[param.name] for param in fused["main"].params[:count]]
    weights = [apply_changes(values[entry["name"]], entry["changes"]) for entry in weight_entries(fused)]
    (made,) = run(fused, *inputs, *weights)
    return made


@pytest.mark.parametrize(
    ("module", "wide"),
    [
        (conv_graph((3, 17), epilogue=True), 32),
        (conv_graph((3, 5), stride=2), 8),
        (conv_graph((3, 5), dilation=2), 8),
        (conv_graph((3, 7), kernel=1), 16),
        (conv_graph((7, 7), groups=7, epilogue=True), 8),
        (conv_graph((5, 5), groups=5, stride=2), 16),
        (matmul_graph(2, 6, 10, bias=True), 16),
        (matmul_graph(1, 6, 1), 4),
    ],
    ids=["conv", "stride", "dilation", "pointwise", "depthwise", "depthwise stride", "matmul", "one column"],
)
def test_a_padded_kernel_stores_the_same_channels(module: ir.IRModule, wide: int) -> None:
    exact, padded = outputs(module, {}), outputs(module, {"weight": wide})
    assert exact.shape == padded.shape
    np.testing.assert_allclose(padded, exact, rtol=1e-5, atol=1e-5)


def test_the_weight_is_wider_and_its_record_says_so() -> None:
    padded = PadChannels({"weight": 8})(conv_graph((3, 5), epilogue=True))  # type: ignore[operator]
    *_, weight, bias = padded["main"].params
    assert [int(extent) for extent in weight.ty.shape.values] == [3, 3, 3, 8]
    assert [int(extent) for extent in bias.ty.shape.values] == [1, 1, 1, 5]
    assert weight_entries(padded) == [{"name": "weight", "changes": [["pad_last", 8]]}, {"name": "bias", "changes": []}]


def test_the_epilogue_stays_in_the_padded_kernel() -> None:
    fused = fuse(conv_graph((3, 5), epilogue=True), TARGET, {"weight": 8})
    assert list(kernels_of(fused)) == ["fused_padded_conv2d_add_add1_relu"]


def test_only_the_layers_named_are_padded() -> None:
    data, first, second = tensor("data", 2, 4), tensor("first", 4, 6), tensor("second", 6, 7)

    def body(emit: Emit) -> Any:
        return relax.op.matmul(emit(relax.op.matmul(data, first)), second)

    module = graph([data], [first, second], body)
    assert sorted(kernels_of(fuse(module, TARGET, {"second": 8}))) == ["matmul", "padded_matmul"]
    np.testing.assert_allclose(outputs(module, {"second": 8}), outputs(module, {}), rtol=1e-5)


def test_nothing_to_pad_changes_nothing() -> None:
    module = conv_graph((3, 5))
    assert PadChannels({})(module).same_as(module)  # type: ignore[operator]
