"""LeNet-5 for 32x32 images.

LeCun et al. 1998, "Gradient-based learning applied to document recognition", section II.B, with rectifiers, maximum
pooling and full connections in the second convolution, as it is commonly trained today. The one net here without batch
norm.
"""

import torch
from torch import nn

__all__ = ["LeNet", "lenet5"]


class LeNet(nn.Module):
    """Two 5x5 convolutions with pooling, three linear layers: [N, in_channels, 32, 32] -> [N, num_classes]."""

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 6, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Linear(16 * 5 * 5, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, num_classes)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits [N, num_classes] for images [N, in_channels, 32, 32]."""
        logits: torch.Tensor = self.classifier(torch.flatten(self.features(x), 1))
        return logits


def lenet5(num_classes: int, in_channels: int) -> nn.Module:
    """Return LeNet-5: convolutions of 6 and 16 channels, linear layers of 120 and 84 units."""
    return LeNet(num_classes=num_classes, in_channels=in_channels)
