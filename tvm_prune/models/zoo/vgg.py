"""VGG with batch norm for 32x32 images.

Simonyan and Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image Recognition", table 1 column D,
with one linear layer after the mean over pixels in place of the three of ImageNet size, as is usual for CIFAR.
"""

from collections.abc import Sequence

import torch
from torch import nn

from tvm_prune.models.zoo.initialise import initialise_convolutions

__all__ = ["VGG", "vgg16"]


class VGG(nn.Module):
    """Stages of 3x3 convolutions, each stage ending in 2x2 maximum pooling; one linear layer."""

    def __init__(self, *, stages: Sequence[Sequence[int]], num_classes: int, in_channels: int) -> None:
        super().__init__()
        before = in_channels
        built = []
        for widths in stages:
            layers: list[nn.Module] = []
            for width in widths:
                layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
                before = width
            built.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
        self.stages = nn.Sequential(*built)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(before, num_classes)
        initialise_convolutions(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits [N, num_classes] for images [N, in_channels, H, W], H and W at least 32."""
        logits: torch.Tensor = self.classifier(torch.flatten(self.pool(self.stages(x)), 1))
        return logits


def vgg16(num_classes: int, in_channels: int) -> nn.Module:
    """Return VGG-16-BN: 13 convolutions of 64 to 512 channels and one linear layer."""
    stages = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
    return VGG(stages=stages, num_classes=num_classes, in_channels=in_channels)
