"""The nursery: workers come from one process, end with the main process, and outlive the nursery itself."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tvm_prune.errors import ToolchainError
from tvm_prune.oracle import nursery as nursery_module
from tvm_prune.oracle.nursery import Nursery, nursery
from tvm_prune.oracle.worker import Worker, WorkerDied

ORPHANED = """
import os, signal
from tvm_prune.oracle.worker import Worker
worker = Worker("run", threads=1)
worker.request("unload", {"name": "nothing"}, timeout_s=30)
print(worker.process.pid, open(f"/proc/{worker.process.pid}/stat").read().split()[3], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def workers() -> Iterator[list[Worker]]:
    made = [Worker("run", threads=1) for _ in range(3)]
    for worker in made:
        worker.start()
    yield made
    for worker in made:
        worker.stop()


def works(worker: Worker) -> bool:
    return worker.request("unload", {"name": "never loaded"}, timeout_s=30) is None


def pid_of(worker: Worker) -> int:
    assert worker.process is not None
    return worker.process.pid


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def gone(pid: int) -> bool:
    """Whether a process has ended, within ten seconds."""
    for _ in range(1000):
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.01)
    return False


def test_all_workers_are_forked_from_one_process_in_sessions_of_their_own(workers: list[Worker]) -> None:
    assert all(works(worker) for worker in workers)
    pids = [pid_of(worker) for worker in workers]
    assert len({parent_of(pid) for pid in pids}) == 1
    assert [os.getsid(pid) for pid in pids] == pids


def test_a_worker_sees_the_folder_and_the_variables_of_the_time_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CXX", "/nowhere/c++")
    worker = Worker("build", threads=1)
    with pytest.raises(WorkerDied, match=r"No such file or directory: '/nowhere/c\+\+'"):
        worker.request("link", {"library": "made.so", "objects": []}, timeout_s=30)
    assert os.readlink(f"/proc/{pid_of(worker)}/cwd") == str(tmp_path)
    worker.stop()


def test_the_end_of_one_worker_shows_though_others_were_forked_with_it(workers: list[Worker]) -> None:
    assert all(works(worker) for worker in workers)
    first = workers[0]
    before = pid_of(first)
    assert first.process is not None
    first.process.kill()
    assert first.process.wait() == -signal.SIGKILL
    assert gone(before)
    assert all(works(worker) for worker in workers)
    assert pid_of(first) != before


def test_workers_outlive_the_nursery_and_the_next_one_has_another(workers: list[Worker]) -> None:
    first, second, _ = workers
    assert works(first)
    assert works(second)
    left = parent_of(pid_of(first))
    os.kill(left, signal.SIGKILL)
    before = pid_of(second)
    assert works(second)
    assert pid_of(second) == before
    first.stop()
    assert works(first)
    assert parent_of(pid_of(first)) != left


def test_a_nursery_that_ended_is_a_broken_set_up() -> None:
    own = Nursery()
    child = own.fork("run", {})
    own.close()
    with pytest.raises(ToolchainError, match=r"the process that starts workers ended; run 'tvm-prune doctor'"):
        _ = child.pid
    assert child.wait() is None
    assert child.stdout.read() == b""
    child.close()


def test_a_silent_nursery_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nursery_module, "_ANSWER_SECONDS", 0.0)
    own = Nursery()
    child = own.fork("run", {})
    with pytest.raises(ToolchainError, match="the process that starts workers ended"):
        _ = child.pid
    assert not own.alive
    child.close()


def test_a_process_forked_from_the_main_one_starts_its_own() -> None:
    theirs = nursery()
    assert nursery() is theirs
    pid = os.fork()
    if pid == 0:
        os._exit(0 if nursery() is not theirs else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_nothing_is_left_of_a_main_process_that_was_killed() -> None:
    main = subprocess.run([sys.executable, "-c", ORPHANED], capture_output=True, text=True, check=False)
    assert main.returncode == -signal.SIGKILL
    worker, parent = map(int, main.stdout.split())
    assert gone(worker)
    assert gone(parent)
