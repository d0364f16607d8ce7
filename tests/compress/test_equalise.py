"""Equalised layers use their integers alike, and the network computes what it did."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from tests.examples import few
from tests.graph.networks import NETWORKS, built, outputs, randomised
from tvm_prune.compress.equalise import Pair, equalise, equalised_pairs, lone_layers
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.stored_tensors import traced_graph


def in_a_row(*between: nn.Module, second: nn.Module | None = None) -> CompressedModel:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), *between, second or nn.Conv2d(8, 4, 1))
    with torch.no_grad():
        module.get_parameter("0.weight").mul_(torch.logspace(-2, 2, 8).reshape(8, 1, 1, 1))
    return CompressedModel(module=module.eval(), example_inputs=(torch.randn(1, 3, 8, 8),))


class Flattened(nn.Module):
    """A convolution, pooled and flattened, then linear layers; depthwise and grouped convolutions before."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3)
        self.depthwise = nn.Conv2d(6, 12, 3, groups=6, padding=1)
        self.grouped = nn.Conv2d(12, 8, 1, groups=2, bias=False)
        self.hidden = nn.Linear(72, 10)
        self.head = nn.Linear(10, 5)

    def forward(self, image: torch.Tensor) -> Any:
        x = torch.relu(self.depthwise(torch.relu_(self.stem(image))))
        x = torch.max_pool2d(functional.leaky_relu(self.grouped(x), 0.1), 2).flatten(1)
        return self.head(torch.relu(self.hidden(x)))


def flattened(seed: int, spread: float) -> CompressedModel:
    torch.manual_seed(seed)
    module = Flattened().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            factors = torch.exp(spread * torch.randn(len(parameter)))
            parameter.mul_(factors.reshape(-1, *[1] * (parameter.dim() - 1)))
    return CompressedModel(module=module, example_inputs=(torch.randn(1, 3, 8, 8),))


def assert_same(found: torch.Tensor, wanted: torch.Tensor) -> None:
    # Sums of other factors round otherwise, by a part of the largest output.
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()) + 1e-6)


@settings(max_examples=few(6))
@given(st.integers(0, 1000), st.floats(0, 2))
def test_outputs_stay_the_same_whatever_the_weights(seed: int, spread: float) -> None:
    model = flattened(seed, spread)
    assert [(pair.first, pair.second, pair.groups) for pair in equalised_pairs(model)] == [
        ("stem", "depthwise", 6),
        ("depthwise", "grouped", 2),
        ("grouped", "hidden", 1),
        ("hidden", "head", 1),
    ]
    image = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        assert_same(equalise(model).module(image), model.module(image))


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_of_every_kind_of_network_stay_the_same(name: str) -> None:
    module, inputs = built(name)
    made = equalise(CompressedModel(module=module, example_inputs=inputs))
    values = randomised(inputs, 1)
    for found, wanted in zip(outputs(made.module, values), outputs(module, values), strict=True):
        assert_same(found, wanted)


def test_both_layers_have_the_same_largest_weight_of_each_channel_then() -> None:
    model = flattened(0, 1.5)
    module: Any = equalise(model).module
    rows, columns = module.hidden.weight.abs().amax(1), module.head.weight.abs().amax(0)
    torch.testing.assert_close(rows, columns, rtol=1e-2, atol=0)
    rows = module.grouped.weight.abs().amax((1, 2, 3))
    # A channel of the flattened image is nine columns of the layer that reads it.
    torch.testing.assert_close(rows, module.hidden.weight.abs().reshape(10, 8, 9).amax((0, 2)), rtol=1e-2, atol=0)
    unchanged: Any = model.module
    assert not torch.equal(unchanged.head.weight, module.head.weight)


@pytest.mark.parametrize(
    "between", [(), (nn.ReLU(),), (nn.BatchNorm2d(8), nn.ReLU()), (nn.MaxPool2d(2),), (nn.AvgPool2d(2), nn.Dropout())]
)
def test_what_lets_a_factor_through_may_lie_between(between: tuple[nn.Module, ...]) -> None:
    model = in_a_row(*between)
    assert equalised_pairs(model) == [Pair(first="0", second=str(len(between) + 1), groups=1)]


@pytest.mark.parametrize("between", [nn.ReLU6(), nn.Sigmoid(), nn.Hardswish(), nn.GELU(), nn.Softmax(1)])
def test_what_clips_or_bends_may_not(between: nn.Module) -> None:
    assert equalised_pairs(in_a_row(between)) == []


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)
        self.second = nn.Conv2d(3, 3, 1)
        self.third = nn.Conv2d(3, 3, 1)

    def forward(self, image: torch.Tensor) -> Any:
        x = torch.relu(self.first(image))
        y = self.third(torch.relu(self.second(torch.relu(self.second(x)))))
        return y + x


def test_layers_that_are_read_or_called_twice_are_left_alone() -> None:
    torch.manual_seed(0)
    model = CompressedModel(module=Twice().eval(), example_inputs=(torch.randn(1, 3, 4, 4),))
    assert equalised_pairs(model) == []
    assert lone_layers(traced_graph(model).graph) == {"first", "third"}


def test_a_reshape_that_mixes_channels_ends_the_search() -> None:
    shuffled = nn.Sequential(nn.Unflatten(1, (2, 4)), nn.Flatten(1, 2))
    assert equalised_pairs(in_a_row(*shuffled)) == []


def test_channels_of_zeros_are_left_as_they_are() -> None:
    model = in_a_row(nn.ReLU())
    with torch.no_grad():
        model.module[0].weight[2] = 0  # type: ignore[index]
        model.module[2].weight[:, 5] = 0  # type: ignore[index]
    made: Any = equalise(model).module
    assert all(bool(torch.isfinite(parameter).all()) for parameter in made.parameters())
    torch.testing.assert_close(made[0].weight[5], model.module[0].weight[5])  # type: ignore[index]
