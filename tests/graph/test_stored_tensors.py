"""Which tensors are stored follows from the layers that compute with integers."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from tvm_prune.graph.compressed import CompressedModel, StoredAs
from tvm_prune.graph.integer_ops import integer_weight, stored
from tvm_prune.graph.scheme import INT8, Scheme
from tvm_prune.graph.stored_tensors import (
    integer_capable,
    layers_of,
    own_scales,
    reference_module,
    rounding_graph,
    stored_nodes,
    stored_schemes,
    traced_graph,
)


class Blocks(nn.Module):
    """A residual block with a shortcut, pooling, a depthwise layer and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.first = nn.Conv2d(4, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.shortcut = nn.Conv2d(4, 8, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.head = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.max_pool2d(torch.relu(self.stem(image)), 2)
        x = torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))
        x = self.depthwise(x).mean((2, 3))
        logits: torch.Tensor = self.head(x)
        return logits


@pytest.fixture
def model() -> CompressedModel:
    torch.manual_seed(0)
    return CompressedModel(module=Blocks().eval(), example_inputs=(torch.randn(1, 3, 8, 8),))


def names(model: CompressedModel, *layers: str) -> list[str]:
    return [node.name for node in stored_nodes(traced_graph(model).graph, layers)]


def test_layers_are_named_as_in_the_users_module(model: CompressedModel) -> None:
    graph = traced_graph(model).graph
    assert layers_of(graph) == ["stem", "first", "second", "shortcut", "depthwise", "head"]
    assert integer_capable(graph) == layers_of(graph)


def test_a_convolution_of_several_groups_that_is_not_depthwise_has_no_integer_form() -> None:
    module = nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 8, 3, groups=8))
    grouped = CompressedModel(module=module.eval(), example_inputs=(torch.randn(1, 4, 8, 8),))
    assert integer_capable(traced_graph(grouped).graph) == ["0", "2"]


def test_what_a_layer_reads_is_stored_before_it_is_pooled(model: CompressedModel) -> None:
    assert names(model, "stem") == ["image"]
    assert names(model, "first") == ["relu"]
    assert names(model, "stem", "first", "head") == ["image", "relu", "mean"]


def test_of_two_layers_that_are_added_the_later_stays_a_sum(model: CompressedModel) -> None:
    # second runs before shortcut.
    assert names(model, "second", "shortcut") == ["relu", "relu_1", "conv2d_2"]
    assert names(model, "shortcut") == ["relu"]


def test_a_rounded_graph_rounds_those_tensors_and_weights(model: CompressedModel) -> None:
    layers = ["stem", "first"]
    how = {name: StoredAs(scale=0.1, zero_point=9) for name in names(model, *layers)}
    graph = rounding_graph(replace(model, precision=dict.fromkeys(layers, INT8), stored=how), weights=layers)
    rounded = [node for node in graph.graph.nodes if node.target is stored._opoverload]
    assert [node.args[0].name for node in rounded] == ["image", "relu"]
    assert all(set(node.args[0].users) == {node} for node in rounded)
    weights = [node.args[0].target for node in graph.graph.nodes if node.target is integer_weight]
    assert weights == ["stem.weight", "first.weight"]


def test_the_reference_of_a_rounded_model_takes_any_batch(model: CompressedModel) -> None:
    layers = ["stem", "first"]
    how = {name: StoredAs(scale=0.02, zero_point=120) for name in names(model, *layers)}
    made = replace(model, precision=dict.fromkeys(layers, INT8), stored=how)
    reference = reference_module(made, any_batch=True)
    batch = torch.randn(7, 3, 8, 8)
    with torch.no_grad():
        found, exact = reference(batch), model.module(batch)
    assert found.shape == (7, 5)
    assert 0 < float((found - exact).abs().max()) < 0.2


def test_the_reference_of_a_float_model_is_its_own_module(model: CompressedModel) -> None:
    assert reference_module(model) is model.module


def test_a_linear_layer_of_more_than_rows_has_no_integer_form() -> None:
    module = nn.Sequential(nn.Linear(4, 6), nn.Flatten(), nn.Linear(18, 2))
    sequences = CompressedModel(module=module.eval(), example_inputs=(torch.randn(1, 3, 4),))
    assert integer_capable(traced_graph(sequences).graph) == ["2"]


def test_a_tensor_that_several_layers_read_has_the_most_bits_that_one_asks_for(model: CompressedModel) -> None:
    narrow, wide = Scheme.parse("w2a3"), Scheme.parse("w4a6")
    precision = {"stem": narrow, "first": narrow, "shortcut": wide, "second": INT8, "head": Scheme.parse("w4")}
    found = stored_schemes(traced_graph(model).graph, precision)
    # The last is only added: it is no layer's input.
    assert found == {"image": narrow, "relu": wide, "relu_1": INT8, "conv2d_2": INT8}


def test_layers_of_which_only_weights_are_rounded_read_floats(model: CompressedModel) -> None:
    made = replace(model, precision={"stem": Scheme.parse("w3")})
    assert made.integer_layers == []
    image = torch.randn(2, 3, 8, 8)
    coarse = copy.deepcopy(model.module)
    with torch.no_grad():
        coarse.stem.weight.copy_(integer_weight(coarse.stem.weight, 3))  # type: ignore[operator, union-attr, arg-type]
        torch.testing.assert_close(reference_module(made, any_batch=True)(image), coarse(image))


def test_scales_are_the_layers_own_or_those_of_its_fixed_point_or_none(model: CompressedModel) -> None:
    precision = {"stem": Scheme.parse("w4"), "first": Scheme.parse("fixed8.4"), "head": INT8}
    made = replace(model, precision=precision, weight_scales={"stem": (0.5, 0.25, 1.0, 2.0)})
    stem, first = own_scales(made, "stem"), own_scales(made, "first")
    assert stem is not None
    assert first is not None
    assert stem.tolist() == [0.5, 0.25, 1.0, 2.0]
    assert first.tolist() == [1 / 16] * 8
    assert own_scales(made, "head") is None
