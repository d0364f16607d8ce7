"""What is remembered of a network's run: rows of the layers that ran once, and what its norms were fed."""

import torch
from torch import nn

from tests.graph.networks import Residual
from tvm_prune.graph.behaviour import Behaviour, Statistics


class Twice(nn.Module):
    """One convolution runs twice, another once, a third never."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv2d(3, 3, 3, padding=1)
        self.once = nn.Conv2d(3, 5, 1)
        self.idle = nn.Conv2d(3, 3, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.once(self.shared(self.shared(images)))  # type: ignore[no-any-return]  # a call of a module is Any


def test_only_layers_that_ran_once_have_rows() -> None:
    found = Behaviour.of(Twice(), torch.randn(4, 3, 6, 6))
    assert set(found.rows) == set(found.places) == {"once"}
    assert found.rows["once"].shape[1] == 5


def test_rows_are_what_the_layer_gave_at_the_places() -> None:
    network, images = nn.Sequential(nn.Conv2d(3, 5, 3)), torch.randn(4, 3, 6, 6)
    found = Behaviour.of(network, images)
    with torch.no_grad():
        patches = found.places["0"].patches(network[0], images)  # type: ignore[arg-type]  # the argument is one of several kinds
        weight, bias = network.get_parameter("0.weight"), network.get_parameter("0.bias")
        torch.testing.assert_close(patches @ weight.flatten(1).T + bias, found.rows["0"], atol=1e-5, rtol=1e-5)


def test_fewer_rows_can_be_asked_for() -> None:
    network, images = nn.Sequential(nn.Conv2d(3, 5, 3)), torch.randn(64, 3, 32, 32)
    many, few = (Behaviour.of(network, images, rows_per_element=rows).rows["0"].shape[0] for rows in (64, 8))
    assert many == 8 * few == 64 * 256


def test_what_norms_were_fed_is_told_by_channel() -> None:
    values = torch.randn(8, 3, 5, 5)
    found = Statistics.of(values)
    torch.testing.assert_close(found.mean, values.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(found.kept((2, 0)).variance, values.var(dim=(0, 2, 3), correction=0)[[2, 0]])
    assert found.kept(None) is found


def test_the_network_is_left_as_it_was() -> None:
    network = Residual().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    Behaviour.of(network, torch.randn(4, 3, 8, 8))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())
