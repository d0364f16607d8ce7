"""Fashion-MNIST's idx files, plain and compressed."""

import gzip
import struct
from pathlib import Path

import pytest
import torch

from tvm_prune.errors import DataError
from tvm_prune.models.datasets.fashion import FILES, read_fashion


def _idx(*sizes: int, values: bytes) -> bytes:
    return struct.pack(f">HBB{len(sizes)}i", 0, 8, len(sizes), *sizes) + values


def _write(folder: Path, *, compressed: bool) -> None:
    for name in FILES:
        count = 6 if name.startswith("train") else 2
        content = (
            _idx(count, 28, 28, values=bytes([7]) * count * 784)
            if "images" in name
            else _idx(count, values=bytes(range(count)))
        )
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


@pytest.mark.parametrize("compressed", [False, True])
def test_images_are_padded_to_32_and_repeated_to_three_channels(tmp_path: Path, compressed: bool) -> None:
    _write(tmp_path, compressed=compressed)
    found = read_fashion(tmp_path)
    assert found is not None
    train, test = found
    assert train.images.shape == (6, 3, 32, 32)
    assert test.labels.tolist() == [0, 1]
    assert torch.equal(train.images[0, 2, 2:30, 2:30], torch.full((28, 28), 7, dtype=torch.uint8))
    assert int(train.images[:, :, :2].sum() + train.images[..., 30:].sum()) == 0


def test_a_folder_without_one_of_the_files_holds_no_set(tmp_path: Path) -> None:
    _write(tmp_path, compressed=True)
    (tmp_path / f"{FILES[2]}.gz").unlink()
    assert read_fashion(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0\x0b\1", gzip.compress(b"\0\0\x08\3" + bytes(20)), b"\x1f\x8b broken"],
    ids=["empty", "not compressed", "too short", "broken"],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    _write(tmp_path, compressed=True)
    (tmp_path / f"{FILES[0]}.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz is damaged"):
        read_fashion(tmp_path)


def test_a_plain_file_of_another_type_is_named(tmp_path: Path) -> None:
    _write(tmp_path, compressed=False)
    (tmp_path / FILES[1]).write_bytes(b"\0\0\x0d\1" + bytes(8))
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte is damaged: it starts with"):
        read_fashion(tmp_path)
