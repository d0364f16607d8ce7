"""Fashion-MNIST from its four idx files, padded from 28x28 to 32x32 and repeated to three channels.

Xiao, Rasul and Vollgraf 2017, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms".
"""

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tvm_prune.errors import DataError
from tvm_prune.models.datasets.dataset import Split
from tvm_prune.models.datasets.sources import Remote

__all__ = ["DEBIAN_FOLDER", "FILES", "REMOTES", "read_fashion"]

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_SITE = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
_MD5 = (
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "25c81989df183df01b3e8a0aad5dffbe",
    "bef4ecab320f06d8554ea6380940ec79",
    "bb300cfdad3c16e7a12a480ee83cd310",
)
REMOTES = tuple(Remote(url=f"{_SITE}/{name}.gz", md5=md5) for name, md5 in zip(FILES, _MD5, strict=True))


def read_fashion(folder: Path) -> tuple[Split, Split] | None:
    """Return the (train, test) splits from the idx files in `folder` (plain or .gz), or None when one is absent.

    Raises DataError for a damaged file.
    """
    paths = [next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None) for name in FILES]
    found = [path for path in paths if path is not None]
    if len(found) < len(FILES):
        return None
    arrays = [_idx(path) for path in found]
    return _split(arrays[0], arrays[1]), _split(arrays[2], arrays[3])


def _idx(path: Path) -> NDArray[np.uint8]:
    """Read one idx file of bytes: zero, zero, type 8, number of axes, then big-endian sizes, then the values."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        if content[:3] != b"\0\0\x08":
            raise ValueError(f"it starts with {content[:3]!r} instead of the idx mark")
        axes = content[3]
        sizes = np.frombuffer(content, ">i4", axes, 4).tolist()
        return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(sizes)
    except (ValueError, IndexError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}; fetch it again.") from error


def _split(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Split:
    padded = torch.nn.functional.pad(torch.from_numpy(images.copy()).unsqueeze(1), (2, 2, 2, 2))
    return Split(padded.repeat(1, 3, 1, 1), torch.from_numpy(labels.astype(np.int64)))
