"""Whole batches of network inputs from bytes: shuffled, augmented and normalised without a Python loop over images."""

from collections.abc import Iterator

import torch

from tvm_prune.models.datasets.dataset import Augment, DataSet, Split

__all__ = ["TrainBatches", "augmented", "normalised"]


def normalised(images: torch.Tensor, data: DataSet) -> torch.Tensor:
    """Return uint8 images [N, C, H, W] as float32 inputs of the same shape, channels last in memory."""
    mean = torch.tensor(data.mean).view(1, -1, 1, 1) * 255
    scale = 1 / (torch.tensor(data.std).view(1, -1, 1, 1) * 255)
    return images.float().sub_(mean).mul_(scale).contiguous(memory_format=torch.channels_last)


def augmented(images: torch.Tensor, augment: Augment, *, generator: torch.Generator) -> torch.Tensor:
    """Return uint8 images [N, C, H, W], each shifted and perhaps mirrored on its own: one gather for the batch."""
    count, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (augment.pad,) * 4).permute(0, 2, 3, 1)
    offsets = torch.randint(0, 2 * augment.pad + 1, (2, count, 1), generator=generator)
    rows = torch.arange(height) + offsets[0]
    columns = torch.arange(width)
    if augment.flip:
        mirrored = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(0), columns)
    columns = columns + offsets[1]
    picked = padded[torch.arange(count).view(-1, 1, 1), rows.unsqueeze(2), columns.unsqueeze(1)]
    return picked.permute(0, 3, 1, 2)


class TrainBatches:
    """The training batches of one epoch at a time: (inputs float32 [B, C, H, W], labels int64 [B]).

    Order and augmentation are a function of (seed, epoch) alone. An incomplete last batch is left out, unless it is the
    only one. With several processes each takes its own equal part of every batch.
    """

    def __init__(self, split: Split, data: DataSet, *, batch_size: int, seed: int) -> None:
        self.epoch = 0
        self._split = split
        self._data = data
        self._batch_size = min(batch_size, len(split))
        self._seed = seed

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._split) // self._batch_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the batches of the chosen epoch."""
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self._split), generator=generator)
        rank, world = 0, 1
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        for start in range(len(self)):
            members = order[start * self._batch_size : (start + 1) * self._batch_size]
            batch = self._split.take(members)
            images = augmented(batch.images, self._data.augment, generator=generator)
            yield normalised(images[rank::world], self._data), batch.labels[rank::world]
