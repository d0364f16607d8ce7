"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images").

Read in any form their authors publish, unpacked or still in the .tar.gz: the binary version (rows of label bytes and
3,072 pixels) and the Python version (pickles, of which only arrays and bytes are let through); CIFAR-10 also from
`cifar10_jpegbytes.npz`, whose arrays hold one JPEG file an image.
"""

import io
import itertools
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from tvm_prune.errors import DataError
from tvm_prune.models.datasets.dataset import Split
from tvm_prune.models.datasets.sources import Remote, from_tar

__all__ = ["CIFAR10", "CIFAR100", "Cifar", "looked_for", "read_cifar"]

_JPEG_ARCHIVE = "cifar10_jpegbytes.npz"
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True, kw_only=True)
class Cifar:
    """Names of one of the two sets' files; `label_bytes` lead a binary row, the last of them is the label."""

    remote: Remote
    binary_folder: str
    binary_train: tuple[str, ...]
    binary_test: tuple[str, ...]
    label_bytes: int
    python_archive: str
    python_folder: str
    python_train: tuple[str, ...]
    python_test: tuple[str, ...]
    label_key: bytes
    jpeg_archive: str | None


CIFAR10 = Cifar(
    remote=Remote(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", md5="c32a1d4ab5d03f1284b67883e8d87530"
    ),
    binary_folder="cifar-10-batches-bin",
    binary_train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    binary_test=("test_batch.bin",),
    label_bytes=1,
    python_archive="cifar-10-python.tar.gz",
    python_folder="cifar-10-batches-py",
    python_train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    python_test=("test_batch",),
    label_key=b"labels",
    jpeg_archive=_JPEG_ARCHIVE,
)

CIFAR100 = Cifar(
    remote=Remote(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz", md5="03b5dce01913d631647c71ecec9e9cb8"
    ),
    binary_folder="cifar-100-binary",
    binary_train=("train.bin",),
    binary_test=("test.bin",),
    label_bytes=2,
    python_archive="cifar-100-python.tar.gz",
    python_folder="cifar-100-python",
    python_train=("train",),
    python_test=("test",),
    label_key=b"fine_labels",
    jpeg_archive=None,
)

_Parts = list[tuple[str, bytes]]


def read_cifar(cifar: Cifar, folder: Path) -> tuple[Split, Split] | None:
    """Return the (train, test) splits found in `folder`, or None when it holds none of the known forms.

    Raises DataError for damaged files.
    """
    for read, archive, inner, train, test in (
        (_from_binary, cifar.remote.file_name, cifar.binary_folder, cifar.binary_train, cifar.binary_test),
        (_from_python, cifar.python_archive, cifar.python_folder, cifar.python_train, cifar.python_test),
    ):
        parts = _parts(folder, archive=archive, inner=inner, names=train + test)
        if parts is not None:
            return read(cifar, parts[: len(train)]), read(cifar, parts[len(train) :])
    if cifar.jpeg_archive is not None and (folder / cifar.jpeg_archive).is_file():
        return _from_jpeg_archive(folder / cifar.jpeg_archive)
    return None


def looked_for(cifar: Cifar) -> str:
    """Return the names of the files that `read_cifar` accepts, for an error message."""
    names = [
        f"{cifar.binary_folder}/{cifar.binary_train[0]} ... {cifar.binary_test[0]}",
        cifar.remote.file_name,
        f"{cifar.python_folder}/{cifar.python_train[0]} ... {cifar.python_test[0]}",
        cifar.python_archive,
    ]
    return ", ".join([*names, cifar.jpeg_archive] if cifar.jpeg_archive else names)


def _parts(folder: Path, *, archive: str, inner: str, names: Sequence[str]) -> _Parts | None:
    for place in (folder / inner, folder):
        if all((place / name).is_file() for name in names):
            return [(str(place / name), (place / name).read_bytes()) for name in names]
    if (folder / archive).is_file():
        members = [f"{inner}/{name}" for name in names]
        found = from_tar(folder / archive, members)
        return [(f"{folder / archive}:{member}", found[member]) for member in members]
    return None


def _split(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Split:
    return Split(torch.from_numpy(np.array(images).reshape(-1, 3, 32, 32)), torch.from_numpy(labels))


def _from_binary(cifar: Cifar, parts: _Parts) -> Split:
    row = cifar.label_bytes + _PIXELS
    for where, content in parts:
        if not content or len(content) % row:
            raise DataError(f"{where} is damaged: {len(content)} bytes are no multiple of {row}; fetch it again.")
    rows = np.frombuffer(b"".join(content for _, content in parts), np.uint8).reshape(-1, row)
    return _split(rows[:, cifar.label_bytes :], rows[:, cifar.label_bytes - 1].astype(np.int64))


class _ArraysOnly(pickle.Unpickler):
    """Unpickles NumPy arrays of numbers, bytes, lists and dicts; everything else could run code, and is refused."""

    def find_class(self, module: str, name: str) -> Any:
        import _codecs

        from numpy._core import multiarray

        known: dict[tuple[str, str], Any] = {
            ("numpy.core.multiarray", "_reconstruct"): multiarray._reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): multiarray._reconstruct,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _codecs.encode,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR file needs")
        return known[module, name]


def _from_python(cifar: Cifar, parts: _Parts) -> Split:
    images, labels = [], []
    for where, content in parts:
        try:
            batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
            images.append(np.asarray(batch[b"data"], dtype=np.uint8).reshape(-1, _PIXELS))
            labels.append(np.asarray(batch[cifar.label_key], dtype=np.int64).reshape(len(images[-1])))
        except (pickle.UnpicklingError, KeyError, ValueError, TypeError, EOFError, AttributeError, IndexError) as error:
            raise DataError(f"{where} is not a batch of CIFAR's Python version: {error}; fetch it again.") from error
    return _split(np.concatenate(images), np.concatenate(labels))


def _from_jpeg_archive(path: Path) -> tuple[Split, Split]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            train, test = (
                _decoded(archive[f"{part}_jpeg"].tobytes(), archive[f"{part}_off"], archive[f"{part}_y"])
                for part in ("train", "test")
            )
    except (KeyError, ValueError, OSError, UnidentifiedImageError) as error:
        raise DataError(f"{path} is not a whole archive of JPEG images ({error}); copy it again.") from error
    return train, test


def _decoded(content: bytes, offsets: NDArray[np.int64], labels: NDArray[np.uint8]) -> Split:
    images = np.empty((len(offsets) - 1, 32, 32, 3), dtype=np.uint8)
    for index, (start, stop) in enumerate(itertools.pairwise(offsets)):
        images[index] = np.asarray(Image.open(io.BytesIO(content[start:stop])))
    return _split(np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels.astype(np.int64))
