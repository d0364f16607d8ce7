"""Small data and nets that the tests of this layer share."""

import torch
from torch import nn

from tvm_prune.models.datasets.dataset import Augment, DataSet, Split

__all__ = ["bright_data", "noise_data", "tiny_net"]


def noise_data(
    count: int,
    *,
    mean: tuple[float, ...] = (0.5, 0.5, 0.5),
    std: tuple[float, ...] = (0.25, 0.25, 0.25),
    augment: Augment | None = None,
    num_classes: int = 2,
) -> DataSet:
    """Return three equal splits of `count` random 8x8 images with random labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 8, 8), generator=generator).to(torch.uint8)
    split = Split(images, torch.randint(0, num_classes, (count,), generator=generator))
    return DataSet(
        name="noise",
        train=split,
        val=split,
        test=split,
        num_classes=num_classes,
        mean=mean,
        std=std,
        augment=augment or Augment(pad=1, flip=True),
    )


def bright_data(count: int = 128) -> DataSet:
    """Return an easy problem: images of class 1 are brighter than those of class 0."""
    data = noise_data(count)
    labels = data.train.labels
    images = data.train.images // 2 + (100 * labels).to(torch.uint8).view(-1, 1, 1, 1)
    split = Split(images, labels)
    return DataSet(
        name="bright",
        train=split,
        val=split,
        test=split,
        num_classes=2,
        mean=data.mean,
        std=data.std,
        augment=data.augment,
    )


def tiny_net(*, num_classes: int = 2, seed: int = 0) -> nn.Module:
    """Return a convolution with batch norm and dropout, for 8x8 images."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(4, num_classes),
        ).eval()
