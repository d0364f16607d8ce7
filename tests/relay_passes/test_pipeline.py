"""The pipeline as a whole: channels last, weights named, and the same numbers."""

from typing import Any

import numpy as np
import tvm
from tvm import relax

from relay_passes.hoist_weights import weight_entries
from relay_passes.pipeline import fuse, graph_passes
from relay_passes.weight_changes import apply_changes
from relay_passes.weight_form import WeightForm
from tests.relay_passes.graphs import Emit, graph, kernels_of, operators, run, tensor

TARGET = tvm.target.Target({"kind": "llvm", "num-cores": 1})


def imported() -> Any:
    """Return what an importer makes of four convolutions with a residual, a clip, a mean and a linear layer."""
    data = tensor("data", 1, 3, 6, 6)
    stem, first, bias = tensor("stem", 4, 3, 3, 3), tensor("first", 4, 4, 3, 3), tensor("bias", 4)
    depthwise, point, head = tensor("depthwise", 4, 1, 3, 3), tensor("point", 6, 4, 1, 1), tensor("head", 5, 6)

    def body(emit: Emit) -> Any:
        before = emit(relax.op.nn.relu(emit(relax.op.nn.conv2d(data, stem, padding=1))))
        made = emit(relax.op.nn.conv2d(before, first, padding=1))
        made = emit(relax.op.add(made, emit(relax.op.reshape(bias, (1, 4, 1, 1)))))
        made = emit(relax.op.nn.relu(emit(relax.op.add(made, before))))
        made = emit(relax.op.nn.conv2d(made, depthwise, padding=1, groups=4))
        made = emit(relax.op.nn.conv2d(emit(relax.op.clip(made, 0.0, 6.0)), point))
        made = emit(relax.op.mean(emit(relax.op.nn.relu(made)), axis=[2, 3]))
        return relax.op.matmul(made, emit(relax.op.permute_dims(head)))

    return graph([data], [stem, first, bias, depthwise, point, head], body)


def test_the_graph_becomes_channels_last_without_changes_of_weights() -> None:
    ready = graph_passes()(imported())
    convs = ["nn.conv2d", "nn.relu", "nn.conv2d", "add", "add", "nn.relu", "nn.conv2d", "clip", "nn.conv2d", "nn.relu"]
    assert operators(ready) == ["permute_dims", *convs, "mean", "matmul"]
    names = [entry["name"] for entry in weight_entries(ready)]
    assert names == ["stem", "first", "bias", "depthwise", "point", "head"]
    shapes = [[int(extent) for extent in param.ty.shape.values] for param in ready["main"].params[1:]]
    assert shapes == [[3, 3, 3, 4], [3, 3, 4, 4], [1, 1, 1, 4], [3, 3, 1, 4], [1, 1, 4, 6], [6, 5]]


def test_every_convolution_takes_its_epilogue_along() -> None:
    names = sorted(kernels_of(fuse(graph_passes()(imported()), TARGET)))
    convs = ["fused_conv2d1_add_add1_relu", "fused_conv2d2_tir_clip", "fused_conv2d3_relu1", "fused_conv2d_relu"]
    assert names == [*convs, "matmul", "mean", "transpose"]


def test_what_is_computed_does_not_change() -> None:
    before = imported()
    ready = graph_passes()(before)
    generator = np.random.default_rng(0)
    arrays = {
        param.name: generator.standard_normal([int(extent) for extent in param.ty.shape.values]).astype("float32")
        for param in before["main"].params
    }
    weights = [apply_changes(arrays[entry["name"]], entry["changes"]) for entry in weight_entries(ready)]
    (expected,) = run(before, *arrays.values())
    for forms in ({}, {"head": WeightForm(8)}):
        fused = fuse(ready, TARGET, forms)
        given = [apply_changes(arrays[entry["name"]], entry["changes"]) for entry in weight_entries(fused)]
        assert len(given) == len(weights)
        np.testing.assert_allclose(run(fused, arrays["data"], *given)[0], expected, rtol=1e-4, atol=1e-5)
