"""MobileNetV2 for 224x224 and for 32x32 images.

Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", table 2. For small images the stem and
the second stage keep the resolution, so that 32x32 images end at 4x4 pixels.
"""

import functools

import torch
from torch import nn

from tvm_prune.models.zoo.initialise import initialise_convolutions

__all__ = ["InvertedResidual", "MobileNetV2", "mobilenetv2", "mobilenetv2_224", "mobilenetv2_half"]

# expansion, output channels, blocks, stride of the first block
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _rounded(channels: float) -> int:
    # The paper's code rounds widths to multiples of 8 and never takes away more than a tenth.
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _conv(in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out_channels)]


class InvertedResidual(nn.Module):
    """Pointwise expansion, depthwise 3x3, linear pointwise projection; a residual sum where the shape is kept."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [*_conv(in_channels, hidden, 1), nn.ReLU6()]
        layers += [*_conv(hidden, hidden, 3, stride=stride, groups=hidden), nn.ReLU6()]
        layers += _conv(hidden, out_channels, 1)
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return body(x), plus x where the block keeps its shape."""
        y: torch.Tensor = self.body(x)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """Stem, stages of inverted residuals, a last pointwise convolution, mean over pixels, classifier."""

    def __init__(self, *, width_mult: float, num_classes: int, in_channels: int, small_images: bool) -> None:
        super().__init__()
        before = _rounded(32 * width_mult)
        self.stem = nn.Sequential(*_conv(in_channels, before, 3, stride=1 if small_images else 2), nn.ReLU6())
        stages = []
        for number, (expansion, channels, count, first_stride) in enumerate(_STAGES):
            width = _rounded(channels * width_mult)
            blocks = []
            for block in range(count):
                stride = first_stride if block == 0 and not (small_images and number == 1) else 1
                blocks.append(InvertedResidual(before, width, stride=stride, expansion=expansion))
                before = width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        last = _rounded(1280 * max(1.0, width_mult))
        self.head = nn.Sequential(*_conv(before, last, 1), nn.ReLU6())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(last, num_classes)
        initialise_convolutions(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits [N, num_classes] for images [N, in_channels, H, W]."""
        y = self.pool(self.head(self.stages(self.stem(x))))
        logits: torch.Tensor = self.classifier(torch.flatten(y, 1))
        return logits


def mobilenetv2(num_classes: int, in_channels: int, width_mult: float = 1.0) -> nn.Module:
    """Return MobileNetV2 for 32x32 images with all widths times `width_mult`, rounded to multiples of 8."""
    return MobileNetV2(width_mult=width_mult, num_classes=num_classes, in_channels=in_channels, small_images=True)


def mobilenetv2_224(num_classes: int, in_channels: int) -> nn.Module:
    """Return MobileNetV2 as the paper has it."""
    return MobileNetV2(width_mult=1.0, num_classes=num_classes, in_channels=in_channels, small_images=False)


mobilenetv2_half = functools.partial(mobilenetv2, width_mult=0.5)
