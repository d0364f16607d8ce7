"""Residual networks for 32x32 images.

He et al. 2016, "Deep Residual Learning for Image Recognition": section 4.2 for the 6n+2 nets (depth 20, 32, 56),
table 1 for ResNet-18, here with the 3x3 stem without pooling that is usual at this image size. Shortcuts that change
shape are 1x1 projections (option B), so that every residual sum joins weighted layers.
"""

from collections.abc import Sequence

import torch
from torch import nn

from tvm_prune.models.zoo.initialise import initialise_convolutions

__all__ = ["BasicBlock", "ResNet", "resnet18", "resnet20", "resnet32", "resnet56"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: [N, in, H, W] -> [N, out, H / stride, W / stride]."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )
        self.relu2 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return relu(body(x) + shortcut(x))."""
        y = self.relu1(self.bn1(self.conv1(x)))
        out: torch.Tensor = self.relu2(self.bn2(self.conv2(y)) + self.shortcut(x))
        return out


class ResNet(nn.Module):
    """Stem, stages of basic blocks (each after the first halves the image), mean over pixels, classifier."""

    def __init__(self, *, widths: Sequence[int], blocks: Sequence[int], num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        stages = []
        before = widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            members = []
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                members.append(BasicBlock(before, width, stride=stride))
                before = width
            stages.append(nn.Sequential(*members))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(before, num_classes)
        initialise_convolutions(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits [N, num_classes] for images [N, in_channels, H, W]."""
        y = self.pool(self.stages(self.stem(x)))
        logits: torch.Tensor = self.classifier(torch.flatten(y, 1))
        return logits


def resnet20(num_classes: int, in_channels: int) -> nn.Module:
    """Return ResNet-20: three stages of 3 blocks, widths 16, 32, 64."""
    return ResNet(widths=(16, 32, 64), blocks=(3, 3, 3), num_classes=num_classes, in_channels=in_channels)


def resnet32(num_classes: int, in_channels: int) -> nn.Module:
    """Return ResNet-32: three stages of 5 blocks, widths 16, 32, 64."""
    return ResNet(widths=(16, 32, 64), blocks=(5, 5, 5), num_classes=num_classes, in_channels=in_channels)


def resnet56(num_classes: int, in_channels: int) -> nn.Module:
    """Return ResNet-56: three stages of 9 blocks, widths 16, 32, 64."""
    return ResNet(widths=(16, 32, 64), blocks=(9, 9, 9), num_classes=num_classes, in_channels=in_channels)


def resnet18(num_classes: int, in_channels: int) -> nn.Module:
    """Return ResNet-18: four stages of 2 blocks, widths 64 to 512, 3x3 stem."""
    return ResNet(widths=(64, 128, 256, 512), blocks=(2, 2, 2, 2), num_classes=num_classes, in_channels=in_channels)
