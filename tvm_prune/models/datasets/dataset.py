"""Labelled images in memory: the values that every reader returns and training takes."""

from dataclasses import dataclass

import torch

from tvm_prune.errors import DataError

__all__ = ["Augment", "DataSet", "Split", "hold_out"]


@dataclass(frozen=True)
class Split:
    """Images uint8 [N, C, H, W] and labels int64 [N]."""

    images: torch.Tensor
    labels: torch.Tensor

    def __post_init__(self) -> None:
        """Refuse tensors of another type or of unequal length."""
        if self.images.dtype != torch.uint8 or self.images.dim() != 4:
            raise DataError(
                f"images must be uint8 [N, C, H, W], got {self.images.dtype} {list(self.images.shape)}; "
                "scale to 0..255 and convert with .to(torch.uint8)."
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise DataError(
                f"labels must be int64 [{len(self.images)}], got {self.labels.dtype} {list(self.labels.shape)}."
            )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def take(self, indices: torch.Tensor) -> "Split":
        """Return the images at `indices`, in that order."""
        return Split(self.images[indices], self.labels[indices])

    def sample(self, count: int) -> "Split":
        """Return the same `count` images each time, drawn from all of them: the split may be sorted by class."""
        return self.take(torch.randperm(len(self), generator=torch.Generator().manual_seed(0))[:count])


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random changes of a training image: shifts of up to `pad` pixels with zeros moving in, and mirroring."""

    pad: int
    flip: bool


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Three splits and what turns their bytes into network inputs: (x / 255 - mean) / std, per channel.

    `val` steers decisions (pruning, early choices), `test` is for the final report only.
    """

    name: str
    train: Split
    val: Split
    test: Split
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: Augment

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height, width of one image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width


def hold_out(split: Split, count: int, *, seed: int) -> tuple[Split, Split]:
    """Split into (the rest, `count` held out), each class in proportion, drawn from `seed`.

    Raises DataError unless 0 < count < len(split).
    """
    total = len(split)
    if not 0 < count < total:
        raise DataError(f"cannot hold out {count} of {total} images; choose a count between 1 and {total - 1}.")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(total, generator=generator)
    # With the members of each class at equal distances in 0..1, the first `count` places hold each class in proportion.
    place = torch.empty(total, dtype=torch.float64)
    labels = split.labels[order]
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        place[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    spread = order[torch.argsort(place, stable=True)]
    return split.take(spread[count:].sort().values), split.take(spread[:count].sort().values)
