"""Objects kept for later runs: found again under the same circumstances, never linked when damaged, never too many."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tvm_prune.oracle import object_cache
from tvm_prune.oracle.object_cache import ObjectCache, cache_folder
from tvm_prune.oracle.target import Target

TARGET = Target(cpu="skylake-avx512", threads=2, vector_bits=512)


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    path = tmp_path / "kernel.o"
    path.write_bytes(b"code")
    return path


def test_what_is_kept_is_found_by_another_run(tmp_path: Path, compiled: Path) -> None:
    ObjectCache(TARGET, tmp_path / "cache").keep("kernel_1", compiled)
    found = tmp_path / "found.o"
    assert ObjectCache(TARGET, tmp_path / "cache").fetch("kernel_1", found)
    assert found.read_bytes() == b"code"


@pytest.mark.parametrize("change", ["target", "TVM", "compiler code"])
def test_nothing_is_found_under_other_circumstances(
    tmp_path: Path, compiled: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ObjectCache(TARGET, tmp_path / "cache").keep("kernel_1", compiled)
    target = TARGET
    if change == "target":
        target = replace(TARGET, threads=4)
    elif change == "TVM":
        monkeypatch.setattr(object_cache, "tvm_version", lambda: "0.28")
    else:
        monkeypatch.setattr(object_cache, "_COMPILED_BY", (Path(__file__),))
    assert not ObjectCache(target, tmp_path / "cache").fetch("kernel_1", tmp_path / "found.o")
    assert not (tmp_path / "found.o").exists()


def test_a_damaged_object_is_not_used_and_not_kept(
    tmp_path: Path, compiled: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = ObjectCache(TARGET, tmp_path / "cache")
    cache.keep("kernel_1", compiled)
    (kept,) = (tmp_path / "cache").glob("*/kernel_1")
    kept.write_bytes(kept.read_bytes()[:-1])
    assert not cache.fetch("kernel_1", tmp_path / "found.o")
    assert "is damaged; its kernel is compiled anew" in caplog.text
    assert not kept.exists()
    cache.keep("kernel_1", compiled)
    assert cache.fetch("kernel_1", tmp_path / "found.o")


def test_no_folder_keeps_nothing(tmp_path: Path, compiled: Path) -> None:
    cache = ObjectCache(TARGET, None)
    cache.keep("kernel_1", compiled)
    assert not cache.fetch("kernel_1", tmp_path / "found.o")
    cache.close()


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path, compiled: Path) -> None:
    (tmp_path / "cache").write_text("a file is in the way")
    cache = ObjectCache(TARGET, tmp_path / "cache")
    cache.keep("kernel_1", compiled)
    cache.keep("kernel_2", compiled)
    assert not cache.fetch("kernel_1", tmp_path / "found.o")
    cache.close()


def test_those_unused_for_longest_go_when_there_are_too_many(tmp_path: Path, compiled: Path) -> None:
    cache = ObjectCache(TARGET, tmp_path / "cache", most_bytes=4 * 36)
    for number in range(5):
        cache.keep(f"kernel_{number}", compiled)
        (kept,) = (tmp_path / "cache").glob(f"*/kernel_{number}")
        os.utime(kept, (number, number))
    assert cache.fetch("kernel_0", tmp_path / "found.o")
    cache.close()
    assert sorted(path.name for path in (tmp_path / "cache").glob("*/*")) == ["kernel_0", "kernel_3", "kernel_4"]


def test_the_variable_names_the_folder_or_turns_the_cache_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(object_cache.VARIABLE, raising=False)
    assert cache_folder() == tmp_path / "tvm_prune" / "objects"
    monkeypatch.setenv(object_cache.VARIABLE, str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine" / "objects"
    monkeypatch.setenv(object_cache.VARIABLE, "")
    assert cache_folder() is None
