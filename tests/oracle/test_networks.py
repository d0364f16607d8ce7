"""Networks of every kind that people bring along compute what torch computes, and their layers have programs."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.oracle.quick import IMAGE, TwoPorts, compressed, is_time, mixed, table_of
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.cost import Cost


@pytest.mark.parametrize("width", [5, 7, 17])
def test_odd_widths_compute_what_torch_computes(oracle: CompilerOracle, width: int) -> None:
    assert oracle.parity(mixed(width)) < 1e-4


def test_the_program_of_an_odd_width_tells_its_padding(oracle: CompilerOracle) -> None:
    row = table_of(oracle, mixed(5)).row_of("stem")
    assert row.program is not None
    assert row.program.axes["out_c"].extent == 5
    assert row.program.axes["out_c"].padded_extent >= 5


def test_a_batch_of_two_computes_what_torch_computes(oracle: CompilerOracle) -> None:
    model = mixed(batch=2)
    assert oracle.parity(model) < 1e-4
    cost = oracle.cost(model)
    assert isinstance(cost, Cost)
    assert is_time(cost.latency_s)


def test_two_inputs_and_two_outputs_work(oracle: CompilerOracle) -> None:
    model = compressed(TwoPorts(), IMAGE, (1, 6))
    assert oracle.parity(model) < 1e-4
    assert sorted(layer for row in table_of(oracle, model).rows for layer in row.task.layers) == ["left", "right"]


class Branches(nn.Module):
    """One kernel with two results: the halves of the channels go different ways."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 8, 1)
        self.left = nn.Conv2d(4, 8, 1)
        self.right = nn.Conv2d(4, 8, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        left, right = self.before(image).chunk(2, dim=1)
        joined: torch.Tensor = torch.cat([self.left(left), self.right(right)], dim=1)
        return joined


def test_a_network_that_splits_its_channels_has_a_table(oracle: CompilerOracle) -> None:
    model = compressed(Branches(), IMAGE)
    assert oracle.parity(model) < 1e-4
    layers = sorted(layer for row in table_of(oracle, model).rows for layer in row.task.layers)
    assert layers == ["before", "left", "right"]


class Calls(nn.Module):
    """A network whose forward() is `function` of its layers, by place, and the input."""

    def __init__(self, function: Callable[..., torch.Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.layers = nn.ModuleList(layers)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.function(image, *self.layers)


def squeezed(x: torch.Tensor, a: nn.Module, b: nn.Module, c: nn.Module) -> torch.Tensor:
    x = functional.hardswish(a(x))
    weight = torch.sigmoid(c(torch.relu(b(x.mean((2, 3), keepdim=True)))))
    return x * weight


def shuffled(x: torch.Tensor, a: nn.Module, b: nn.Module) -> torch.Tensor:
    made: torch.Tensor = b(a(x).view(1, 2, 3, 6, 6).transpose(1, 2).reshape(1, 6, 6, 6))
    return made


def joined(x: torch.Tensor, a: nn.Module, b: nn.Module) -> torch.Tensor:
    return torch.cat([x, a(x), b(torch.cat([x, a(x)], 1))], 1)


def pooled(x: torch.Tensor, a: nn.Module, b: nn.Module, c: nn.Module) -> torch.Tensor:
    x = functional.avg_pool2d(functional.relu6(b(functional.max_pool2d(functional.relu6(a(x)), 2))), 2)
    made: torch.Tensor = c(functional.adaptive_avg_pool2d(x, 1).flatten(1))
    return made


# Operators around the layers that pruning meets in networks people bring along.
BROUGHT: dict[str, nn.Module] = {
    "batch norm in front": Calls(lambda x, n, a: a(torch.relu(n(x))), nn.BatchNorm2d(3), nn.Conv2d(3, 6, 3)),
    "squeeze and excite": Calls(squeezed, nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)),
    "concatenation": Calls(joined, nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(8, 6, 1)),
    "channel shuffle": Calls(shuffled, nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, groups=2)),
    "pooling": Calls(pooled, nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 3)),
    "pixel shuffle": Calls(lambda x, a: functional.pixel_shuffle(a(x), 2), nn.Conv2d(3, 12, 3)),
    "transposed": Calls(lambda x, a, b: b(torch.relu(a(x))), nn.ConvTranspose2d(3, 5, 3, stride=2), nn.Conv2d(5, 4, 1)),
    "narrow kernels": nn.Sequential(nn.Conv2d(3, 6, (1, 5), padding=(0, 2)), nn.Conv2d(6, 7, (3, 1), stride=(2, 1))),
}


@pytest.mark.parametrize("name", BROUGHT)
def test_brought_networks_compute_what_torch_computes(oracle: CompilerOracle, name: str) -> None:
    torch.manual_seed(0)
    module = BROUGHT[name]
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean, part.running_var = torch.randn(3), torch.rand(3) + 0.5
    assert oracle.parity(compressed(module, IMAGE)) < 1e-4
