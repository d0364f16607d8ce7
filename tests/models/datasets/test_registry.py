"""Data sets by name: limits, defaults, and messages that say what was looked for."""

from pathlib import Path

import pytest

from tvm_prune.errors import DataError
from tvm_prune.models.datasets import load_data, registry
from tvm_prune.models.datasets.registry import DATA_SETS


def test_a_limit_bounds_every_split_and_keeps_classes_in_proportion() -> None:
    data = load_data("digits", limit=50)
    assert (len(data.train), len(data.val), len(data.test)) == (50, 50, 50)
    assert data.test.labels.bincount(minlength=10).min() >= 4


def test_val_count_is_taken_from_the_training_images() -> None:
    data = load_data("digits", val_count=97)
    assert (len(data.train), len(data.val), len(data.test)) == (1100, 97, 600)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion-mnist"])
def test_an_absent_set_says_what_was_looked_for_and_where(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "DEBIAN_FOLDER", tmp_path / "debian")
    with pytest.raises(DataError, match=rf"no {name} in {tmp_path}.*looked for .*--data-dir DIR.*--download"):
        load_data(name, data_dir=tmp_path)


def test_an_unknown_name_lists_the_sets_and_the_closest() -> None:
    with pytest.raises(DataError, match=r"no data set 'cifar'\. Did you mean 'cifar10'\? Known are: digits, "):
        load_data("cifar")


def test_an_image_size_is_refused_where_it_would_do_nothing() -> None:
    with pytest.raises(DataError, match="image_size is for image-folder; digits always has 32x32"):
        load_data("digits", image_size=64)


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="limit must be at least 1 image, got 0"):
        load_data("digits", limit=0)


def test_every_set_is_summed_up_in_a_line() -> None:
    assert all(facts.summary and len(facts.summary) < 80 for facts in DATA_SETS.values())
