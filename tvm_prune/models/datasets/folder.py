"""Images sorted into one folder a class, as ImageNet is usually kept: train/CLASS/*.jpg and val/CLASS/*.jpg."""

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from tvm_prune.errors import DataError
from tvm_prune.models.datasets.dataset import Split

__all__ = ["read_folder"]

_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})


def read_folder(folder: Path, *, image_size: int, limit: int | None) -> tuple[Split, Split, int]:
    """Return (train, test, number of classes): RGB, shorter side to 8/7 of `image_size`, then its centre.

    The classes are the sorted names of the folders under train/; val/ is the test split. With `limit`, only that many
    images of each part are read, taken evenly from all classes. Raises DataError for an absent folder, a file that is
    no image, classes that differ, and more images than memory can hold.
    """
    train, val = folder / "train", folder / "val"
    classes = _classes(train)
    if _classes(val) != classes:
        different = sorted(set(classes) ^ set(_classes(val)))
        raise DataError(f"{train} and {val} must hold the same class folders; only in one: {', '.join(different[:5])}.")
    found = [_listed(part, classes, limit) for part in (train, val)]
    _check_memory(sum(len(part) for part in found) * 3 * image_size**2, folder)
    return _read(found[0], image_size), _read(found[1], image_size), len(classes)


def _classes(part: Path) -> list[str]:
    names = sorted(entry.name for entry in part.iterdir() if entry.is_dir()) if part.is_dir() else []
    if not names:
        raise DataError(
            f"looked for class folders in {part} and found none; image-folder needs DIR/train/CLASS/*.jpg and "
            "DIR/val/CLASS/*.jpg: --data image-folder --data-dir DIR"
        )
    return names


def _listed(part: Path, classes: list[str], limit: int | None) -> list[tuple[Path, int]]:
    by_class = [
        [(path, label) for path in sorted((part / name).iterdir()) if path.suffix.lower() in _SUFFIXES]
        for label, name in enumerate(classes)
    ]
    if empty := [name for name, paths in zip(classes, by_class, strict=True) if not paths]:
        raise DataError(f"no image ({', '.join(sorted(_SUFFIXES))}) in {part / empty[0]}.")
    # Round robin over the classes, so that a limit cuts all of them alike.
    longest = max(len(paths) for paths in by_class)
    turns = [paths[turn] for turn in range(longest) for paths in by_class if turn < len(paths)]
    return turns[:limit]


def _check_memory(needed: int, folder: Path) -> None:
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > 0.8 * free:
        raise DataError(
            f"the images of {folder} take {needed / 2**30:.1f} GiB in memory, {free / 2**30:.1f} GiB are free; "
            "read fewer of them with a limit, or make them smaller with image_size."
        )


def _read(found: list[tuple[Path, int]], image_size: int) -> Split:
    images = np.empty((len(found), image_size, image_size, 3), dtype=np.uint8)
    for index, (path, _) in enumerate(found):
        try:
            with Image.open(path) as image:
                images[index] = np.asarray(_centre(image.convert("RGB"), image_size))
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(f"{path} is not a readable image ({error}); remove or replace it.") from error
    labels = torch.tensor([label for _, label in found], dtype=torch.int64)
    return Split(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), labels)


def _centre(image: Image.Image, size: int) -> Image.Image:
    scale = size * 8 / 7 / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + size, top + size))
