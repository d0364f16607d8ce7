"""The threads of a compiled library do every task of a loop once, whoever calls, sleeps, forks or unloads."""

import os
import subprocess
from pathlib import Path

import pytest

from tvm_prune.errors import ToolchainError
from tvm_prune.oracle.launcher import compile_launcher
from tvm_prune.oracle.target import Target

LOOPS = Path(__file__).with_name("launches.cc")
THREADS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the program ``loops`` and the library ``loops.so``."""
    made = tmp_path_factory.mktemp("launcher")
    compile_launcher(Target(threads=THREADS), made / "launcher.o")
    sources = [str(LOOPS), str(made / "launcher.o")]
    for options in (["-o", str(made / "loops")], ["-DLIBRARY", "-fPIC", "-shared", "-o", str(made / "loops.so")]):
        subprocess.run(["g++", "-O1", "-pthread", *sources, *options], check=True)
    return made


def loops(folder: Path, *arguments: object, threads: int | None = None) -> int:
    environment = {name: value for name, value in os.environ.items() if name != "TVM_NUM_THREADS"}
    if threads is not None:
        environment["TVM_NUM_THREADS"] = str(threads)
    command = [str(folder / "loops"), *map(str, arguments)]
    return subprocess.run(command, env=environment, timeout=60, check=False).returncode


def test_a_loop_has_as_many_tasks_as_the_target_has_threads(folder: Path) -> None:
    assert loops(folder, "count", THREADS) == 0


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_environment_chooses_another_number_of_threads(folder: Path, threads: int) -> None:
    assert loops(folder, "count", threads, threads=threads) == 0


def test_a_loop_may_have_fewer_tasks_than_there_are_threads_and_not_more(folder: Path) -> None:
    assert loops(folder, "fewer", THREADS) == 0


def test_what_a_task_returns_is_returned(folder: Path) -> None:
    assert loops(folder, "fail") == 0


def test_a_loop_within_a_loop_is_one_task(folder: Path) -> None:
    assert loops(folder, "nest", THREADS) == 0


def test_several_callers_share_the_threads(folder: Path) -> None:
    assert loops(folder, "callers") == 0


def test_threads_that_fell_asleep_wake_up(folder: Path) -> None:
    assert loops(folder, "sleep", THREADS) == 0


def test_a_fork_starts_threads_of_its_own(folder: Path) -> None:
    assert loops(folder, "fork", THREADS) == 0


def test_a_library_that_is_unloaded_takes_its_threads_along_and_hides_the_pointer_from_tvm(folder: Path) -> None:
    assert loops(folder, "unload", folder / "loops.so") == 0


def test_a_compiler_that_does_not_work_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "broken"
    compiler.write_text("#!/bin/sh\necho no such header >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setattr("tvm.support.cc.get_cc", lambda: str(compiler))
    with pytest.raises(ToolchainError, match=r"threads of compiled libraries cannot be compiled \(no such header\)"):
        compile_launcher(Target(threads=2), tmp_path / "launcher.o")
    assert list(tmp_path.glob("*.o")) == []
