"""Settings under which a real oracle answers in a second, and the small networks it is asked about."""

import math

import torch
from torch import nn

from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.oracle.base import CostOracle
from tvm_prune.oracle.bench import BenchSettings
from tvm_prune.oracle.table import ProgramTable
from tvm_prune.oracle.tune_settings import TuneSettings

__all__ = ["BENCH", "IMAGE", "LAYERS", "TUNING", "Mixed", "TwoPorts", "compressed", "is_time", "mixed", "table_of"]

TUNING = TuneSettings(trials_per_task=2, block_s=2e-4, finalists=1, rounds=2)
BENCH = BenchSettings(blocks=15, block_s=1e-3, rest_s=0.0)
IMAGE = (1, 3, 8, 8)


class Mixed(nn.Module):
    """Residual, depthwise, pointwise and linear layers; `first` and `second` are one task."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, stride=2, groups=width)
        self.point = nn.Conv2d(width, 2 * width, 1)
        self.head = nn.Linear(2 * width, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(image)))
        x = torch.relu(x + self.first(x))
        x = torch.relu(x + self.second(x))
        x = nn.functional.relu6(self.depthwise(x))
        x = torch.relu(self.point(x))
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits


LAYERS = ["stem", "first", "second", "depthwise", "point", "head"]


class TwoPorts(nn.Module):
    """Two inputs, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 8, 3, padding=1)
        self.right = nn.Linear(6, 8)

    def forward(self, image: torch.Tensor, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = torch.relu(self.left(image))
        added = self.right(numbers)
        return pixels + added[:, :, None, None], added


def compressed(module: nn.Module, *shapes: tuple[int, ...]) -> CompressedModel:
    """Return `module` in eval mode with random inputs of the given shapes."""
    generator = torch.Generator().manual_seed(0)
    inputs = tuple(torch.randn(shape, generator=generator) for shape in shapes)
    return CompressedModel(module=module.eval(), example_inputs=inputs)


def mixed(width: int = 8, *, batch: int = 1, size: int = 8, seed: int = 0) -> CompressedModel:
    """Return a `Mixed` network of random weights whose batch norm is no identity."""
    torch.manual_seed(seed)
    module = Mixed(width)
    module.norm.running_mean = torch.randn(width)
    module.norm.running_var = torch.rand(width) + 0.5
    return compressed(module, (batch, 3, size, size))


def is_time(value: float) -> bool:
    return math.isfinite(value) and value > 0


def table_of(oracle: CostOracle, model: CompressedModel) -> ProgramTable:
    table = oracle.table(model)
    assert isinstance(table, ProgramTable), table
    return table
