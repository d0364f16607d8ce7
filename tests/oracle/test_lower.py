"""Lowering: every weighted layer is found again by name, and what cannot be lowered says why."""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
import tvm_ffi
from torch import nn

from tests.oracle.quick import LAYERS, TwoPorts, compressed, mixed
from tvm_prune.errors import (
    ExportError,
    InputShapeError,
    QuantizationError,
    UnlinkedLayerError,
    UnsupportedOperatorError,
)
from tvm_prune.graph.compressed import CompressedModel, StoredAs
from tvm_prune.graph.groups import find_groups
from tvm_prune.graph.scheme import INT8
from tvm_prune.graph.surgery import prune_groups
from tvm_prune.models.load import load_model
from tvm_prune.oracle.lower import lower, lower_alike
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tasks import TaskGraph, task_graph

TARGET = Target(threads=2, vector_bits=256)
IMAGE = (1, 3, 8, 8)


def tasks_of(model: CompressedModel) -> TaskGraph:
    return task_graph(lower(model), TARGET)


def layers_of(graph: TaskGraph) -> list[Sequence[str]]:
    """Return the layers of each task that has any, in order of execution."""
    return [task.layers for task in graph.tasks if task.layers]


class Calls(nn.Module):
    """A network whose forward() is `function` of its layers (as attributes) and the inputs."""

    def __init__(self, function: "object", **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.function(self, *inputs)  # type: ignore[operator, no-any-return]  # a call of a module is Any


def test_a_task_names_all_layers_it_serves() -> None:
    graph = tasks_of(mixed())
    assert layers_of(graph) == [("stem",), ("first", "second"), ("depthwise",), ("point",), ("head",)]
    shared = next(task for task in graph.tasks if task.layers == ("first", "second"))
    assert shared.weight == 2
    assert shared.macs == 8 * 8 * 9 * 8 * 8
    assert graph.calls.count(shared.hash) == 2
    kinds = {task.layers[0]: task.kind for task in graph.tasks if task.layers}
    assert kinds == {"stem": "conv2d", "first": "conv2d", "depthwise": "depthwise", "point": "conv2d", "head": "dense"}
    assert sorted(name for task in graph.tasks for name in task.layers) == sorted(LAYERS)
    assert all(task.kind == "other" and task.macs == 0 for task in graph.tasks if not task.layers)


def test_shapes_are_told_in_short() -> None:
    shapes = {task.layers[0]: task.shape for task in tasks_of(mixed()).tasks if task.layers}
    assert shapes["stem"] == "8x8x3 -> 8x8x8, 3x3 /1"
    assert shapes["depthwise"] == "8x8x8 -> 4x4x8, 3x3 /2"
    assert shapes["head"] == "16 -> 5"


def test_a_layer_called_twice_has_one_name_and_two_calls() -> None:
    shared = Calls(lambda net, x: net.conv(torch.relu(net.conv(x))).flatten(1), conv=nn.Conv2d(3, 3, 3, padding=1))
    graph = tasks_of(compressed(shared, IMAGE))
    assert {name for layers in layers_of(graph) for name in layers} == {"conv"}
    assert sum(task.weight for task in graph.tasks if task.layers) == 2


def test_one_module_under_two_names_goes_by_the_first() -> None:
    layer = nn.Conv2d(3, 3, 3, padding=1)
    graph = tasks_of(compressed(Calls(lambda net, x: net.b(torch.relu(net.a(x))), a=layer, b=layer), IMAGE))
    assert {name for layers in layers_of(graph) for name in layers} == {"a"}


def test_names_that_collide_once_flattened_stay_apart() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.ModuleDict({"b_c": nn.Conv2d(3, 4, 1)})
            self.a_b = nn.ModuleDict({"c": nn.Conv2d(4, 5, 3)})

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.a_b["c"](self.a["b_c"](x))
            return result

    assert layers_of(tasks_of(compressed(Pair(), IMAGE))) == [("a.b_c",), ("a_b.c",)]


def test_a_network_of_one_bare_layer_is_linked() -> None:
    graph = tasks_of(compressed(nn.Linear(6, 4), (1, 6)))
    assert layers_of(graph) == [("",)]


def test_odd_channel_counts_get_padded_variants_and_even_ones_none() -> None:
    graph = tasks_of(compressed(nn.Sequential(nn.Conv2d(3, 17, 3), nn.ReLU(), nn.Conv2d(17, 16, 3)), IMAGE))
    variants = {task.layers[0]: graph.variants[task.hash] for task in graph.tasks if task.layers}
    assert [str(variant.form) for variant in variants["0"]] == ["", "padded to 24 channels"]
    assert [str(variant.form) for variant in variants["2"]] == ["", "Winograd F(4x4) by 8"]
    assert len({variant.kernel.key for variant in variants["0"]}) == 2


def test_batch_norm_is_folded_away() -> None:
    lowered = lower(mixed())
    assert not any("norm" in name for name in lowered.state)
    assert {layer for layer in lowered.placeholders.values()} == set(LAYERS)
    others = [task.shape for task in tasks_of(mixed()).tasks if not task.layers]
    assert others == ["3x8x8 -> 8x8x3, transpose", "4x4x16 -> 16, mean"]


def test_weights_do_not_decide_the_tasks() -> None:
    first, second = tasks_of(mixed(seed=1)), tasks_of(mixed(seed=2))
    assert [task.hash for task in first.tasks] == [task.hash for task in second.tasks]


def test_several_inputs_and_outputs_are_kept() -> None:
    model = compressed(TwoPorts(), IMAGE, (1, 6))
    lowered = lower(model)
    assert [array.shape for array in lowered.inputs] == [IMAGE, (1, 6)]
    assert sorted(name for layers in layers_of(task_graph(lowered, TARGET)) for name in layers) == ["left", "right"]


def test_an_unused_layer_is_named() -> None:
    unused = Calls(lambda net, x: net.used(x), used=nn.Conv2d(3, 4, 3), idle=nn.Linear(2, 2))
    with pytest.raises(UnlinkedLayerError, match=r"weights of idle: forward\(\) does not use it\. Remove"):
        lower(compressed(unused, IMAGE))


def test_all_unused_layers_are_named() -> None:
    unused = Calls(lambda net, x: net.used(x), used=nn.Conv2d(3, 4, 3), b=nn.Linear(2, 2), a=nn.Conv2d(1, 1, 1))
    with pytest.raises(UnlinkedLayerError, match=r"weights of a, b: forward\(\) does not use them\."):
        lower(compressed(unused, IMAGE))


def test_control_flow_on_data_cannot_be_exported() -> None:
    branching = Calls(lambda net, x: net.conv(x) if x.sum() > 0 else x, conv=nn.Conv2d(3, 3, 1))
    with pytest.raises(ExportError, match=r"torch\.export cannot trace Calls: .*Data-dependent control flow"):
        lower(compressed(branching, IMAGE))


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (1, 3, 8), (2, 2)])
def test_inputs_that_do_not_fit_are_named_by_shape(shape: tuple[int, ...]) -> None:
    model = CompressedModel(module=mixed().module, example_inputs=(torch.zeros(shape),))
    with pytest.raises(InputShapeError, match=rf"does not run on inputs {re.escape(str(shape))}"):
        lower(model)


def test_too_few_inputs_are_refused() -> None:
    with pytest.raises(InputShapeError, match="forward"):
        lower(compressed(TwoPorts(), IMAGE))


@pytest.mark.parametrize(
    ("operator", "name"),
    [
        (torch.special.bessel_j0, "special_bessel_j0"),
        (lambda x: torch.linalg.svdvals(x.mean((0, 1))), "linalg_svd"),
    ],
    ids=["special_bessel_j0", "linalg_svd"],
)
def test_an_operator_without_a_converter_is_named(operator: "object", name: str) -> None:
    net = Calls(lambda net, x: operator(net.conv(x)), conv=nn.Conv2d(3, 3, 1))  # type: ignore[operator]  # a module as well as a tensor
    with pytest.raises(UnsupportedOperatorError, match=rf"no converter for: [\w.]*{name}[\w.]*\. Replace the operator"):
        lower(compressed(net, IMAGE))


def test_an_operator_without_a_kernel_is_named() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 4, 2, stride=2, dilation=2))
    lowered = lower(compressed(net, IMAGE))
    with pytest.raises(UnsupportedOperatorError, match=r"no kernel for channels-last nn\.conv2d_transpose\. Replace"):
        task_graph(lowered, TARGET)


def described(graph: TaskGraph) -> list[object]:
    """Return all of `graph` that compares by value: of kernels the structural hash."""
    variants = {
        task: [(variant.form, variant.kernel.key) for variant in found] for task, found in graph.variants.items()
    }
    return [graph.tasks, graph.calls, graph.weight_names, variants]


def narrowed(model: CompressedModel, seed: int) -> CompressedModel:
    """Return `model` with every prunable group cut to a random width."""
    generator = np.random.default_rng(seed)
    groups = [group for group in find_groups(model.module, model.example_inputs) if group.prunable]
    keep = {group.name: range(int(generator.integers(1, group.width + 1))) for group in groups}
    return replace(model, module=prune_groups(model.module, model.example_inputs, keep))


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "mobilenetv2"])
def test_a_pruned_network_is_lowered_by_the_graph_of_its_family_as_if_it_were_traced(name: str) -> None:
    found = load_model(name)
    dense = CompressedModel(module=found.module, example_inputs=found.example_inputs)
    known = lower(dense)
    for seed in range(2):
        pruned = narrowed(dense, seed)
        traced, alike = lower(pruned), lower_alike(pruned, known)
        assert alike is not None
        assert tvm_ffi.structural_equal(alike.graph["main"], traced.graph["main"])
        assert str(alike.graph["main"].attrs) == str(traced.graph["main"].attrs)
        assert alike.placeholders == traced.placeholders
        assert alike.state.keys() == traced.state.keys()
        assert all(np.array_equal(alike.state[key], value) for key, value in traced.state.items())
        assert described(task_graph(alike, TARGET)) == described(task_graph(traced, TARGET))


@pytest.mark.parametrize(
    "forward",
    [
        lambda net, x: net.conv(x)[:, :2],
        lambda net, x: net.conv(x) * torch.arange(4.0).reshape(1, 4, 1, 1),
    ],
    ids=["slice", "constant"],
)
def test_a_graph_that_names_channel_counts_is_no_pattern_for_others(forward: "object") -> None:
    model = compressed(Calls(forward, conv=nn.Conv2d(3, 4, 1)), IMAGE)
    assert lower_alike(model, lower(model)) is None


def test_sums_that_may_overflow_are_refused_by_the_layers_name() -> None:
    model = mixed()
    with torch.no_grad():
        model.module.second.weight.fill_(1e-30)  # type: ignore[operator, union-attr]
    stored = {name: StoredAs(scale=0.1, zero_point=0) for name in ("relu_1",)}
    integer = replace(model, precision={"second": INT8}, stored=stored)
    with pytest.raises(QuantizationError, match=r"the sums of second may reach .*--keep-float second"):
        lower(integer)


def test_a_layer_that_cannot_be_integer_where_it_is_called_is_named() -> None:
    module = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
    rows = CompressedModel(
        module=module.eval(),
        example_inputs=(torch.randn(1, 3, 4),),
        precision={"0": INT8},
        stored={"input_1": StoredAs(scale=0.1, zero_point=9)},
    )
    with pytest.raises(QuantizationError, match=r"0 cannot compute with integers .*\(--keep-float 0\)"):
        lower(rows)
