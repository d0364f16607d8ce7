"""Weights are read from as far away as in a network: large ones from another copy at every call."""

from pathlib import Path

import numpy as np
import pytest
import tvm

from tvm_prune.oracle import rotation as rotation_module
from tvm_prune.oracle.rotation import _cache_bytes, _rotation, random_buffer, rotate


def rotation(weight_bytes: int, *, weight: int | None = 1, cache: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how many distinct weights the lists of buffers hold and how many there are; the last cache has `cache`
    bytes, the one before a 16th of them.
    """
    monkeypatch.setattr(rotation_module, "_cache_bytes", lambda: (cache // 16, cache))
    shapes = [(4,), (weight_bytes // 4,), (4,)]
    buffers = [tvm.runtime.tensor(np.ones(shape, "float32")) for shape in shapes]
    lists = _rotation(buffers, weight)
    for made in lists:
        assert made[0].same_as(buffers[0])
        assert made[2].same_as(buffers[2])
        np.testing.assert_array_equal(made[1].numpy(), buffers[1].numpy())
    return [len({id(made[1]) for made in lists}), len(lists)]


def test_a_small_weight_is_read_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rotation(8 * 1024, cache=2**20, monkeypatch=monkeypatch) == [1, 1]


def test_a_kernel_without_weight_has_one_list(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rotation(2**20, weight=None, cache=2**20, monkeypatch=monkeypatch) == [1, 1]


def test_copies_of_a_weight_pass_the_caches_of_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rotation(2**16, cache=2**23, monkeypatch=monkeypatch) == [32, 32]


def test_copies_of_a_large_weight_do_not_fit_the_last_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rotation(2**20, cache=2**23, monkeypatch=monkeypatch) == [24, 24]


def test_a_weight_larger_than_the_cache_has_two_copies_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rotation(2**20, cache=2**17, monkeypatch=monkeypatch) == [2, 2]


def test_the_caches_are_those_of_this_machine() -> None:
    own, last = _cache_bytes()
    assert last >= 2**20
    assert 2**14 <= own < last
    sizes = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"))
    assert not sizes or last % 1024 == 0


def test_the_loop_takes_lists_of_arguments_in_turn_and_goes_on_where_it_ended(tmp_path: Path) -> None:
    loop, seen = rotate(tmp_path), []
    assert [path.name for path in tmp_path.iterdir()] == ["rotate.so"]
    kernel = tvm.runtime.convert(lambda *values: seen.append(values))
    loop["rotate"](2, kernel, 2, 1, 2, 3, 4, 5, 6)
    loop["rotate"](3, kernel, 2, 1, 2, 3, 4, 5, 6)
    assert seen == [(1, 2), (3, 4), (5, 6), (1, 2), (3, 4)]


def test_an_error_of_a_kernel_ends_the_loop(tmp_path: Path) -> None:
    seen = []

    def refuses(value: int) -> None:
        seen.append(value)
        if value == 2:
            raise ValueError("not two")

    with pytest.raises(ValueError, match="not two"):
        rotate(tmp_path)["rotate"](3, tvm.runtime.convert(refuses), 1, 1, 2, 3)
    assert seen == [1, 2]


def test_words_of_bits_are_filled_with_any_bits() -> None:
    for dtype in ("uint16", "uint32", "uint64"):
        words = random_buffer([64], dtype).numpy()
        assert words.max() > np.iinfo(dtype).max // 2
    assert set(random_buffer([64], "int64").numpy()) == {0, 1}
