"""Every published form of CIFAR is read to the same images, and a pickle that asks for more than arrays is refused."""

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tvm_prune.errors import DataError
from tvm_prune.models.datasets.cifar import CIFAR10, CIFAR100, Cifar, read_cifar
from tvm_prune.models.datasets.dataset import Split

SIZE = 4  # images a file


def _images(cifar: Cifar) -> tuple[np.ndarray, np.ndarray]:
    files = len(cifar.binary_train) + len(cifar.binary_test)
    generator = np.random.default_rng(0)
    return (
        generator.integers(0, 256, (files, SIZE, 3072), dtype=np.uint8),
        generator.integers(0, 10, (files, SIZE), dtype=np.uint8),
    )


def _binary(cifar: Cifar) -> dict[str, bytes]:
    images, labels = _images(cifar)
    coarse = [np.full((SIZE, 1), 99, np.uint8)] * (cifar.label_bytes - 1)
    return {
        f"{cifar.binary_folder}/{name}": np.hstack([*coarse, labels[index][:, None], images[index]]).tobytes()
        for index, name in enumerate(cifar.binary_train + cifar.binary_test)
    }


def _python(cifar: Cifar) -> dict[str, bytes]:
    images, labels = _images(cifar)
    return {
        f"{cifar.python_folder}/{name}": pickle.dumps(
            {b"data": images[index], cifar.label_key: labels[index].tolist(), b"filenames": [b"a.png"]}, protocol=2
        )
        for index, name in enumerate(cifar.python_train + cifar.python_test)
    }


def _write(files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


def _write_flat(files: dict[str, bytes], folder: Path) -> None:
    _write({Path(name).name: content for name, content in files.items()}, folder)


def _write_tar(files: dict[str, bytes], folder: Path) -> None:
    inner = next(iter(files)).split("/")[0]
    names = {
        "cifar-10-batches-bin": "cifar-10-binary.tar.gz",
        "cifar-10-batches-py": "cifar-10-python.tar.gz",
        "cifar-100-binary": "cifar-100-binary.tar.gz",
        "cifar-100-python": "cifar-100-python.tar.gz",
    }
    with tarfile.open(folder / names[inner], "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


@pytest.mark.parametrize("cifar", [CIFAR10, CIFAR100], ids=["10", "100"])
@pytest.mark.parametrize("make", [_binary, _python])
@pytest.mark.parametrize("write", [_write, _write_flat, _write_tar])
def test_every_form_gives_the_same_images_and_labels(
    cifar: Cifar,
    make: Callable[[Cifar], dict[str, bytes]],
    write: Callable[[dict[str, bytes], Path], None],
    tmp_path: Path,
) -> None:
    write(make(cifar), tmp_path)
    found = read_cifar(cifar, tmp_path)
    assert found is not None
    images, labels = _images(cifar)
    last = len(cifar.binary_train)
    for split, pixels, classes in (
        (found[0], images[:last], labels[:last]),
        (found[1], images[last:], labels[last:]),
    ):
        assert split.images.shape == (pixels.shape[0] * SIZE, 3, 32, 32)
        assert torch.equal(split.images.flatten(), torch.from_numpy(pixels.flatten()))
        assert torch.equal(split.labels, torch.from_numpy(classes.flatten().astype(np.int64)))


def test_the_archive_of_jpeg_images_is_read(tmp_path: Path) -> None:
    arrays: dict[str, np.ndarray] = {}
    for part in ("train", "test"):
        files = []
        for value in (10, 200):
            buffer = io.BytesIO()
            Image.new("RGB", (32, 32), (value, 0, 255)).save(buffer, "JPEG", quality=100)
            files.append(buffer.getvalue())
        arrays[f"{part}_jpeg"] = np.frombuffer(b"".join(files), np.uint8)
        arrays[f"{part}_off"] = np.cumsum([0, *map(len, files)])
        arrays[f"{part}_y"] = np.array([3, 7], np.uint8)
    np.savez(tmp_path / "cifar10_jpegbytes.npz", allow_pickle=False, **arrays)
    found = read_cifar(CIFAR10, tmp_path)
    assert found is not None
    assert found[1].labels.tolist() == [3, 7]
    reds: Split = found[0]
    assert abs(int(reds.images[0, 0, 5, 5]) - 10) <= 2
    assert abs(int(reds.images[1, 0, 5, 5]) - 200) <= 2


def test_a_folder_without_any_form_is_reported_as_such(tmp_path: Path) -> None:
    assert read_cifar(CIFAR10, tmp_path) is None
    _write(dict(list(_binary(CIFAR10).items())[:-1]), tmp_path)
    assert read_cifar(CIFAR10, tmp_path) is None


class _Evil:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("true",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    files = _python(CIFAR10)
    files["cifar-10-batches-py/data_batch_2"] = pickle.dumps({b"data": _Evil()})
    _write(files, tmp_path)
    with pytest.raises(DataError, match=r"data_batch_2 is not a batch.*it asks for (posix|os|nt)\.system"):
        read_cifar(CIFAR10, tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x80", pickle.dumps([1]), pickle.dumps({b"data": 3, b"labels": []})])
def test_a_damaged_pickle_is_named(tmp_path: Path, content: bytes) -> None:
    _write(_python(CIFAR10) | {"cifar-10-batches-py/data_batch_5": content}, tmp_path)
    with pytest.raises(DataError, match="data_batch_5 is not a batch of CIFAR's Python version"):
        read_cifar(CIFAR10, tmp_path)


def test_a_truncated_binary_file_is_named(tmp_path: Path) -> None:
    files = _binary(CIFAR10)
    files["cifar-10-batches-bin/test_batch.bin"] = files["cifar-10-batches-bin/test_batch.bin"][:-1]
    _write(files, tmp_path)
    with pytest.raises(DataError, match=r"test_batch\.bin is damaged: 12291 bytes are no multiple of 3073"):
        read_cifar(CIFAR10, tmp_path)


def test_a_damaged_jpeg_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "cifar10_jpegbytes.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match="is not a whole archive of JPEG images"):
        read_cifar(CIFAR10, tmp_path)
