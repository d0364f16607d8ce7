"""An ImageNet-style folder: classes, sizes, limits and what is wrong with a broken one."""

from pathlib import Path

import pytest
from PIL import Image

from tvm_prune.errors import DataError
from tvm_prune.models.datasets import load_data
from tvm_prune.models.datasets.folder import read_folder


def _write(folder: Path, *, count: int = 4, classes: tuple[str, ...] = ("cat", "dog")) -> None:
    for part in ("train", "val"):
        for label, name in enumerate(classes):
            place = folder / part / name
            place.mkdir(parents=True)
            for index in range(count):
                Image.new("L" if index else "RGB", (40 + index, 30), 50 + 100 * label).save(place / f"{index}.png")


def test_images_of_any_size_and_mode_become_square_and_coloured(tmp_path: Path) -> None:
    _write(tmp_path)
    train, test, classes = read_folder(tmp_path, image_size=16, limit=None)
    assert train.images.shape == test.images.shape == (8, 3, 16, 16)
    assert classes == 2
    assert sorted(train.labels.tolist()) == [0] * 4 + [1] * 4
    assert {int(image[0, 8, 8]) for image, label in zip(train.images, train.labels, strict=True) if label} == {150}


def test_a_limit_reads_evenly_from_all_classes(tmp_path: Path) -> None:
    _write(tmp_path)
    train, _, _ = read_folder(tmp_path, image_size=16, limit=4)
    assert train.labels.bincount().tolist() == [2, 2]


def test_load_data_splits_training_images_and_reports_on_val(tmp_path: Path) -> None:
    _write(tmp_path)
    data = load_data("image-folder", data_dir=tmp_path, image_size=16, val_count=2)
    assert (len(data.train), len(data.val), len(data.test)) == (6, 2, 8)
    assert data.num_classes == 2
    assert data.augment.pad == 2


def test_an_absent_folder_shows_the_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"looked for class folders in .*train.*DIR/train/CLASS/\*\.jpg"):
        load_data("image-folder", data_dir=tmp_path)


def test_classes_that_differ_are_named(tmp_path: Path) -> None:
    _write(tmp_path)
    (tmp_path / "val" / "horse").mkdir()
    with pytest.raises(DataError, match=r"must hold the same class folders; only in one: horse"):
        read_folder(tmp_path, image_size=16, limit=None)


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    _write(tmp_path)
    for part in ("train", "val"):
        (tmp_path / part / "horse").mkdir()
    with pytest.raises(DataError, match=r"no image .* in .*horse"):
        read_folder(tmp_path, image_size=16, limit=None)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    _write(tmp_path)
    (tmp_path / "train" / "cat" / "0.png").write_bytes(b"no png")
    with pytest.raises(DataError, match=r"0\.png is not a readable image"):
        read_folder(tmp_path, image_size=16, limit=None)


def test_more_images_than_memory_are_refused_before_reading(tmp_path: Path) -> None:
    _write(tmp_path)
    with pytest.raises(DataError, match=r"take .* GiB in memory, .* are free; read fewer"):
        read_folder(tmp_path, image_size=1_000_000, limit=None)
