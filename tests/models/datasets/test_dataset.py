"""Splits refuse other types and are held out by class and seed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tvm_prune.errors import DataError
from tvm_prune.models.datasets.dataset import Split, hold_out


def _numbered(labels: list[int]) -> Split:
    """Return a split whose images carry their own index, so that they can be told apart."""
    index = torch.arange(len(labels))
    pixels = torch.stack([index % 256, index // 256], dim=1).to(torch.uint8).view(-1, 2, 1, 1)
    return Split(pixels, torch.tensor(labels, dtype=torch.int64))


def _ids(split: Split) -> list[int]:
    return [int(a) + 256 * int(b) for a, b in split.images.flatten(1)]


@given(labels=st.lists(st.integers(0, 4), min_size=2, max_size=80), seed=st.integers(0, 9), data=st.data())
def test_holding_out_loses_and_repeats_no_image(labels: list[int], seed: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(labels) - 1))
    rest, held = hold_out(_numbered(labels), count, seed=seed)
    assert len(held) == count
    assert sorted(_ids(rest) + _ids(held)) == list(range(len(labels)))
    assert [labels[index] for index in _ids(held)] == held.labels.tolist()


def test_each_class_is_held_out_in_proportion() -> None:
    _, held = hold_out(_numbered([0] * 100 + [1] * 300), 40, seed=5)
    assert held.labels.bincount().tolist() == [10, 30]


def test_the_seed_decides_which_images_are_held_out() -> None:
    split = _numbered([0, 1] * 50)
    assert _ids(hold_out(split, 20, seed=1)[1]) == _ids(hold_out(split, 20, seed=1)[1])
    assert _ids(hold_out(split, 20, seed=1)[1]) != _ids(hold_out(split, 20, seed=2)[1])


@pytest.mark.parametrize("count", [0, 4, -1])
def test_holding_out_nothing_or_everything_is_refused(count: int) -> None:
    with pytest.raises(DataError, match=f"cannot hold out {count} of 4 images"):
        hold_out(_numbered([0, 1, 2, 3]), count, seed=0)


def test_float_images_are_refused() -> None:
    with pytest.raises(DataError, match=r"images must be uint8.*float32"):
        Split(torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64))


def test_labels_of_another_length_are_refused() -> None:
    with pytest.raises(DataError, match=r"labels must be int64 \[2\], got torch.int64 \[3\]"):
        Split(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))


def test_a_sample_is_the_same_each_time_and_of_every_class_of_a_sorted_split() -> None:
    split = _numbered([0] * 200 + [1] * 200 + [2] * 200)
    assert _ids(split.sample(60)) == _ids(split.sample(600))[:60]
    assert min(split.sample(60).labels.bincount(minlength=3).tolist()) >= 10
    assert sorted(_ids(split.sample(1000))) == list(range(600))
    assert len(split.sample(0)) == 0
