"""Weights are read from as far away as in a network: large ones from another copy at every call."""

from pathlib import Path

import numpy as np
import pytest
import tvm

from tvm_prune.oracle import run_worker
from tvm_prune.oracle.run_worker import _last_cache_bytes, _rotation


def rotation(weight_bytes: int, *, weight: int | None = 1, cache: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return for each list of buffers which of the distinct weights it holds; the cache has `cache` bytes."""
    monkeypatch.setattr(run_worker, "_last_cache_bytes", lambda: cache)
    shapes = [(4,), (weight_bytes // 4,), (4,)]
    buffers = [tvm.runtime.tensor(np.ones(shape, "float32")) for shape in shapes]
    lists = _rotation(buffers, weight)
    for made in lists:
        assert made[0].same_as(buffers[0])
        assert made[2].same_as(buffers[2])
        np.testing.assert_array_equal(made[1].numpy(), buffers[1].numpy())
    return [len({id(made[1]) for made in lists}), len(lists)]


def test_a_small_weight_is_read_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rotation(64 * 1024, cache=2**20, monkeypatch=monkeypatch) == [1, 1]


def test_a_kernel_without_weight_has_one_list(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rotation(2**20, weight=None, cache=2**20, monkeypatch=monkeypatch) == [1, 1]


def test_copies_of_a_weight_fill_most_of_the_last_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rotation(2**18, cache=2**23, monkeypatch=monkeypatch) == [22, 22]


def test_copies_of_a_large_weight_do_not_fit_the_last_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rotation(2**20, cache=2**23, monkeypatch=monkeypatch) == [24, 24]


def test_a_weight_larger_than_the_cache_has_two_copies_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rotation(2**20, cache=2**17, monkeypatch=monkeypatch) == [2, 2]


def test_the_cache_is_that_of_this_machine() -> None:
    found = _last_cache_bytes()
    assert found >= 2**20
    sizes = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"))
    assert not sizes or found % 1024 == 0
