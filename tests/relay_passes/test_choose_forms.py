"""Kernels with their weight in another form store what the plain ones store."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import ir, relax

from relay_passes.choose_forms import ChooseForms
from relay_passes.hoist_weights import weight_entries
from relay_passes.pipeline import fuse
from relay_passes.weight_changes import apply_changes
from relay_passes.weight_form import WeightForm
from tests.relay_passes.graphs import Emit, conv_graph, graph, kernels_of, matmul_graph, run, tensor

TARGET = tvm.target.Target({"kind": "llvm", "num-cores": 1})


def outputs(module: ir.IRModule, forms: Mapping[str, WeightForm]) -> np.ndarray:
    """Run a graph with its weights in `forms`; inputs and weights are always the same."""
    generator = np.random.default_rng(0)
    values: dict[str, np.ndarray] = {}
    for param in module["main"].params:
        shape = [int(extent) for extent in param.ty.shape.values]
        values[param.name] = generator.standard_normal(shape).astype("float32")
    fused = fuse(module, TARGET, forms)
    count = int(fused["main"].attrs["num_input"])
    inputs = [values[param.name] for param in fused["main"].params[:count]]
    weights = [apply_changes(values[entry["name"]], entry["changes"]) for entry in weight_entries(fused)]
    (made,) = run(fused, *inputs, *weights)
    return made


@pytest.mark.parametrize(
    ("module", "form"),
    [
        (conv_graph((3, 17), epilogue=True), WeightForm(32)),
        (conv_graph((3, 5), stride=2), WeightForm(8)),
        (conv_graph((3, 5), dilation=2), WeightForm(8)),
        (conv_graph((3, 7), kernel=1), WeightForm(16)),
        (conv_graph((7, 7), groups=7, epilogue=True), WeightForm(8)),
        (conv_graph((5, 5), groups=5, stride=2), WeightForm(16)),
        (matmul_graph(2, 6, 10, bias=True), WeightForm(16)),
        (matmul_graph(1, 6, 1), WeightForm(4)),
        (conv_graph((3, 16), epilogue=True), WeightForm(None, "packed", 8)),
        (conv_graph((3, 5), stride=2, dilation=2), WeightForm(8, "packed", 4)),
        (conv_graph((3, 16), kernel=1), WeightForm(None, "packed", 16)),
        (matmul_graph(2, 6, 16, bias=True), WeightForm(None, "packed", 4)),
        (matmul_graph(2, 6, 13), WeightForm(16, "packed", 8)),
        (conv_graph((4, 8), epilogue=True), WeightForm(None, "winograd2", 4)),
        (conv_graph((4, 8), epilogue=True, size=(8, 8)), WeightForm(None, "winograd4", 8)),
        (conv_graph((5, 7), epilogue=True, size=(7, 5)), WeightForm(8, "winograd4", 4)),
        (conv_graph((3, 6), size=(5, 9), batch=2), WeightForm(8, "winograd2", 8)),
    ],
    ids=str,
)
def test_a_kernel_in_another_form_stores_the_same_channels(module: ir.IRModule, form: WeightForm) -> None:
    plain, formed = outputs(module, {}), outputs(module, {"weight": form})
    assert plain.shape == formed.shape
    np.testing.assert_allclose(formed, plain, rtol=1e-4, atol=1e-4)


def test_the_weight_is_wider_and_its_record_says_so() -> None:
    padded = ChooseForms({"weight": WeightForm(8)})(conv_graph((3, 5), epilogue=True))  # type: ignore[operator]
    *_, weight, bias = padded["main"].params
    assert [int(extent) for extent in weight.ty.shape.values] == [3, 3, 3, 8]
    assert [int(extent) for extent in bias.ty.shape.values] == [1, 1, 1, 5]
    assert weight_entries(padded) == [{"name": "weight", "changes": [["pad_last", 8]]}, {"name": "bias", "changes": []}]


def test_the_epilogue_stays_in_the_padded_kernel() -> None:
    fused = fuse(conv_graph((3, 5), epilogue=True), TARGET, {"weight": WeightForm(8)})
    assert list(kernels_of(fused)) == ["fused_padded_conv2d_add_add1_relu"]


def test_only_the_layers_named_are_padded() -> None:
    data, first, second = tensor("data", 2, 4), tensor("first", 4, 6), tensor("second", 6, 7)

    def body(emit: Emit) -> Any:
        return relax.op.matmul(emit(relax.op.matmul(data, first)), second)

    module = graph([data], [first, second], body)
    assert sorted(kernels_of(fuse(module, TARGET, {"second": WeightForm(8)}))) == ["matmul", "padded_matmul"]
    np.testing.assert_allclose(outputs(module, {"second": WeightForm(8)}), outputs(module, {}), rtol=1e-5)


def test_nothing_to_pad_changes_nothing() -> None:
    module = conv_graph((3, 5))
    assert ChooseForms({})(module).same_as(module)  # type: ignore[operator]


def test_counts_padded_to_the_same_one_store_what_each_of_them_has() -> None:
    data, first, second = tensor("data", 2, 4), tensor("first", 4, 5), tensor("second", 4, 6)
    forms = {"first": WeightForm(8), "second": WeightForm(8)}

    def body(emit: Emit) -> Any:
        left, right = emit(relax.op.matmul(data, first)), emit(relax.op.matmul(data, second))
        return relax.op.concat([left, right], axis=1)

    module = graph([data], [first, second], body)
    np.testing.assert_allclose(outputs(module, forms), outputs(module, {}), rtol=1e-5)
