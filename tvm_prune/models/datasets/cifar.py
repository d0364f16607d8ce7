"""CIFAR-10 and CIFAR-100 from a user's folder."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tvm_prune.errors import DataError
from tvm_prune.models.datasets.dataset import Split

__all__ = ["read_jpeg_archive"]


def read_jpeg_archive(path: Path) -> tuple[Split, Split]:
    """Read the (train, test) splits of an .npz with `{train,test}_jpeg` bytes, `_off` offsets and `_y` labels.

    Raises DataError for a file of another kind.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return _jpeg_split(archive, "train"), _jpeg_split(archive, "test")
    except (KeyError, ValueError, OSError) as error:
        raise DataError(f"{path} is not an archive of JPEG images ({error}); copy it again.") from error


def _jpeg_split(archive: "np.lib.npyio.NpzFile", part: str) -> Split:
    data, offsets = archive[f"{part}_jpeg"].tobytes(), archive[f"{part}_off"]
    images = np.empty((len(offsets) - 1, 32, 32, 3), dtype=np.uint8)
    for index, (start, stop) in enumerate(zip(offsets[:-1], offsets[1:], strict=True)):
        images[index] = np.asarray(Image.open(io.BytesIO(data[start:stop])))
    labels = torch.from_numpy(archive[f"{part}_y"].astype(np.int64))
    return Split(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), labels)
