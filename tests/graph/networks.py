"""Small networks, one for each way in which channels can depend on each other."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Built = tuple[Any, tuple[torch.Tensor, ...]]


class Residual(nn.Module):
    """Stem and two blocks that add to it; batch norm everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.stem_bn = nn.BatchNorm2d(8)
        self.inner = nn.Conv2d(8, 12, 3, padding=1)
        self.inner_bn = nn.BatchNorm2d(12)
        self.outer = nn.Conv2d(12, 8, 3, padding=1)
        self.outer_bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> Any:
        x = functional.relu(self.stem_bn(self.stem(x)))
        x = functional.relu(x + self.outer_bn(self.outer(functional.relu(self.inner_bn(self.inner(x))))))
        return self.fc(x.mean((2, 3)))


class Inverted(nn.Module):
    """Inverted residual: expand, depthwise, project; the projection is added to the input of the block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.expand = nn.Conv2d(8, 24, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.depth = nn.Conv2d(24, 24, 3, padding=1, groups=24, bias=False)
        self.bn2 = nn.BatchNorm2d(24)
        self.project = nn.Conv2d(24, 8, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(8)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.stem(x)
        y = functional.relu6(self.bn1(self.expand(x)))
        y = functional.hardswish(self.bn2(self.depth(y)))
        return self.head(x + self.bn3(self.project(y))).mean((2, 3))


class Concat(nn.Module):
    """Two branches side by side, one of them twice, read by one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 6, 3, padding=1)
        self.right = nn.Conv2d(3, 4, 1)
        self.bn = nn.BatchNorm2d(16)
        self.join = nn.Conv2d(16, 8, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> Any:
        left = self.left(x)
        y = torch.sigmoid(self.bn(torch.cat([left, self.right(x), left], dim=1)))
        return self.head(self.join(y).mean((2, 3)))


class ConcatAdd(nn.Module):
    """Two branches side by side, added to a third that is as wide as both."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 6, 1)
        self.right = nn.Conv2d(3, 4, 1)
        self.wide = nn.Conv2d(3, 10, 1)
        self.head = nn.Conv2d(10, 2, 1)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(torch.cat([self.left(x), self.right(x)], 1) + self.wide(x))


class Grouped(nn.Module):
    """A convolution of four groups, a channel multiplier and a group norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.grouped = nn.Conv2d(16, 24, 3, padding=1, groups=4)
        self.mix = nn.Conv2d(24, 6, 1)
        self.multiply = nn.Conv2d(6, 12, 3, padding=1, groups=6)
        self.norm = nn.GroupNorm(4, 12)
        self.head = nn.Conv2d(12, 3, 1)

    def forward(self, x: torch.Tensor) -> Any:
        y = functional.relu(self.grouped(functional.relu(self.stem(x))))
        return self.head(self.norm(self.multiply(self.mix(y)))).mean((2, 3))


class Flatten(nn.Module):
    """A classifier that reads flattened maps of 4 x 4."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 10, 3, padding=1)
        self.fc1 = nn.Linear(160, 20)
        self.fc2 = nn.Linear(20, 4)

    def forward(self, x: torch.Tensor) -> Any:
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = torch.tanh(self.conv2(x))
        return self.fc2(functional.relu(self.fc1(torch.flatten(x, 1))))


class Shared(nn.Module):
    """One convolution called twice in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.twice = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(functional.relu(self.twice(functional.relu(self.twice(self.stem(x))))))


class TwoInTwoOut(nn.Module):
    """Two inputs; one output is also used further inside, and the second input is added to a hidden map."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Conv2d(3, 8, 3, padding=1)
        self.vector = nn.Linear(5, 8)
        self.hidden = nn.Conv2d(8, 6, 1)
        self.early = nn.Conv2d(6, 4, 1)
        self.late = nn.Conv2d(4, 2, 1)

    def forward(self, image: torch.Tensor, vector: torch.Tensor) -> dict[str, torch.Tensor]:
        x = functional.relu(self.image(image) + self.vector(vector)[:, :, None, None])
        early = self.early(functional.relu(self.hidden(x)))
        return {"early": early, "late": self.late(functional.relu(early))}


class Scaled(nn.Module):
    """Bare parameters: a per-channel scale that can be followed and a per-pixel bias that cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.scale = nn.Parameter(torch.randn(8, 1, 1))
        self.act = nn.PReLU(8)
        self.b = nn.Conv2d(8, 6, 3, padding=1)
        self.pixels = nn.Parameter(torch.randn(6, 8, 8))
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.b(self.act(self.a(x) * self.scale)) + self.pixels)


class Mixed(nn.Module):
    """Operations that tie channels in ways that cannot be followed: softmax over channels, chunks, layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.soft = nn.Conv2d(3, 8, 1)
        self.halves = nn.Conv2d(8, 8, 1)
        self.free = nn.Conv2d(4, 8, 1)
        self.normed = nn.Linear(8, 6)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> Any:
        left, right = self.halves(torch.softmax(self.soft(x), dim=1)).chunk(2, dim=1)
        y = functional.relu(self.free(left * right)).mean((2, 3))
        return self.head(self.norm(self.normed(y)))


class Upsampling(nn.Module):
    """A transposed convolution, an instance norm, and the input added to the last map."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.InstanceNorm2d(8, affine=True)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.back = nn.Conv2d(6, 3, 1)
        self.head = nn.Conv2d(3, 2, 1)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(x + self.back(functional.relu(self.up(self.norm(self.down(x))))))


def mlp() -> nn.Module:
    """Linear layers on tokens."""
    return nn.Sequential(nn.Linear(7, 12), nn.GELU(), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 3))


NETWORKS: dict[str, Callable[[], Built]] = {
    "residual": lambda: (Residual(), (torch.zeros(1, 3, 8, 8),)),
    "inverted": lambda: (Inverted(), (torch.zeros(2, 3, 8, 8),)),
    "concat": lambda: (Concat(), (torch.zeros(1, 3, 6, 6),)),
    "concat_add": lambda: (ConcatAdd(), (torch.zeros(1, 3, 6, 6),)),
    "grouped": lambda: (Grouped(), (torch.zeros(1, 3, 6, 6),)),
    "flatten": lambda: (Flatten(), (torch.zeros(1, 1, 8, 8),)),
    "shared": lambda: (Shared(), (torch.zeros(1, 3, 6, 6),)),
    "two_in_two_out": lambda: (TwoInTwoOut(), (torch.zeros(1, 3, 6, 6), torch.zeros(1, 5))),
    "scaled": lambda: (Scaled(), (torch.zeros(1, 3, 8, 8),)),
    "mixed": lambda: (Mixed(), (torch.zeros(1, 3, 8, 8),)),
    "upsampling": lambda: (Upsampling(), (torch.zeros(1, 3, 8, 8),)),
    "mlp": lambda: (mlp(), (torch.zeros(2, 5, 7),)),
}


def built(name: str) -> Built:
    """Return network `name` with every weight and statistic random and its example inputs; the same at each call."""
    torch.manual_seed(3)
    module, inputs = NETWORKS[name]()
    for buffer_name, buffer in module.named_buffers():
        if buffer_name.endswith("running_mean"):
            nn.init.normal_(buffer)
        elif buffer_name.endswith("running_var"):
            nn.init.uniform_(buffer, 0.5, 2.0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.normal_(part.weight)
            # Mostly above zero: a channel that relu never lets through would hide a wrong cut.
            nn.init.uniform_(part.bias, 0.0, 2.0)
    return module.eval(), inputs


def randomised(example_inputs: tuple[torch.Tensor, ...], seed: int) -> tuple[torch.Tensor, ...]:
    """Return random inputs of the same shapes."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(value.shape, generator=generator) for value in example_inputs)


def outputs(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    """Return the outputs of `module` as a list, without gradients."""
    with torch.no_grad():
        output = module(*inputs)
    return list(output.values()) if isinstance(output, dict) else [output]
