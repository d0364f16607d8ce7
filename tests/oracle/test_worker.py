"""Workers: errors, crashes and hangs are outcomes, and the next request finds a fresh process."""

import os
import signal
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tvm_prune.errors import ToolchainError
from tvm_prune.oracle import worker as worker_module
from tvm_prune.oracle.canary import BUFFERS, build_canary
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.worker import Worker, WorkerDied

UNLOAD = {"name": "never loaded"}


@pytest.fixture(scope="module")
def runner() -> Iterator[Worker]:
    made = Worker("run", threads=2)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def timing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Arguments under which ``time_kernels`` works and reports on the way."""
    library = tmp_path_factory.mktemp("canary") / "canary.so"
    build_canary(Target(threads=2), library)
    return {
        "library": str(library),
        "kernels": [{"symbol": "canary", "buffers": BUFFERS, "weight": None, "parallel": True}],
        "block_s": 1e-4,
        "finalists": 1,
        "rounds": 2,
        "canary": None,
    }


def for_long(timing: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a request that is not over when its first event is heard, however busy the machine is."""
    return {**timing, "rounds": 100_000}


def pid_of(worker: Worker) -> int:
    worker.start()
    assert worker.process is not None
    return worker.process.pid


def works(worker: Worker) -> bool:
    return worker.request("unload", UNLOAD, timeout_s=30) is None


def test_what_is_emitted_arrives_before_the_answer(runner: Worker, timing: dict[str, Any]) -> None:
    events: list[Any] = []
    answer = runner.request("time_kernels", timing, timeout_s=30, emit=events.append)
    assert events[0] == {"starting": "canary"}
    assert events[1]["symbol"] == "canary"
    assert [len(series) for series in answer.values()] == [2]
    assert all(seconds > 0 for seconds in answer["canary"])


def test_kernels_are_timed_in_units_of_the_canary_beside_them(runner: Worker, timing: dict[str, Any]) -> None:
    (kernel,) = timing["kernels"]
    canary = {"library": timing["library"], "buffers": kernel["buffers"]}
    usual = runner.request("usual_seconds", {**canary, "symbol": "canary"}, timeout_s=30)
    assert 1e-6 < usual < 1e-2
    serial = {**kernel, "symbol": "canary_serial", "parallel": False}
    asked = {**timing, "kernels": [kernel, serial], "block_s": 2e-3, "finalists": 2}
    asked["canary"] = {**canary, "usual_s": {"canary": 1.0, "canary_serial": 1e6}}
    answer = runner.request("time_kernels", asked, timeout_s=60)
    # The middle one, and wide bounds: a block may be held up while the canary's was not.
    assert 1e-2 < statistics.median(answer["canary"]) < 1e2, "the canary itself takes what it usually takes"
    assert 1e4 < statistics.median(answer["canary_serial"]) < 1e8, "on one thread it has a usual time of its own"


def test_an_error_inside_a_function_keeps_the_process(runner: Worker) -> None:
    before = pid_of(runner)
    with pytest.raises(WorkerDied, match="KeyError: 'nobody'"):
        runner.request("run", {"name": "nobody", "inputs": None}, timeout_s=30)
    assert works(runner)
    assert pid_of(runner) == before


def test_a_crash_is_told_with_its_signal_and_the_next_process_works(runner: Worker, timing: dict[str, Any]) -> None:
    before = pid_of(runner)
    with pytest.raises(WorkerDied, match="crashed with status -9"):
        runner.request(
            "time_kernels", for_long(timing), timeout_s=30, emit=lambda event: os.kill(before, signal.SIGKILL)
        )
    assert works(runner)
    assert pid_of(runner) != before


def test_a_hang_ends_after_the_time_allowed(runner: Worker, timing: dict[str, Any]) -> None:
    before = pid_of(runner)
    with pytest.raises(WorkerDied, match=r"no answer within 0\.5 s; stopped"):
        runner.request(
            "time_kernels", for_long(timing), timeout_s=0.5, emit=lambda event: os.kill(before, signal.SIGSTOP)
        )
    assert not Path(f"/proc/{before}").exists()
    assert works(runner)


def test_a_process_that_died_between_two_requests_is_replaced(runner: Worker) -> None:
    before = pid_of(runner)
    assert works(runner)
    os.kill(before, signal.SIGKILL)
    assert runner.process is not None
    runner.process.wait()
    assert works(runner)
    assert pid_of(runner) != before


def test_a_worker_never_holds_torch(runner: Worker) -> None:
    assert works(runner)
    process = Path(f"/proc/{pid_of(runner)}")
    mapped = (process / "maps").read_text()
    assert "libtvm" in mapped
    assert "torch" not in mapped


def test_a_worker_launches_on_as_many_threads_as_it_is_told(timing: dict[str, Any]) -> None:
    running = []
    for threads in (1, 2):
        worker = Worker("run", threads=threads)
        worker.request("time_kernels", timing, timeout_s=30)
        running.append(len(list(Path(f"/proc/{pid_of(worker)}/task").iterdir())))
        worker.stop()
    assert running[1] == running[0] + 1


def test_a_stopped_worker_leaves_no_process() -> None:
    worker = Worker("run", threads=1)
    pid = pid_of(worker)
    worker.stop()
    worker.stop()
    assert worker.process is None
    assert not Path(f"/proc/{pid}").exists()


def test_a_worker_that_ends_while_starting_is_a_broken_set_up() -> None:
    worker = Worker("no such role", threads=1)
    with pytest.raises(ToolchainError, match=r"no such role worker ended with status 1 while starting; try: python -m"):
        worker.request("unload", UNLOAD, timeout_s=30)


def test_a_worker_that_never_gets_ready_is_a_broken_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "_START_SECONDS", 0.1)
    monkeypatch.setattr(worker_module, "_pump", lambda process, answers: None)  # whatever it says is not heard
    worker = Worker("run", threads=1)
    with pytest.raises(ToolchainError, match="run worker did not start within"):
        worker.request("unload", UNLOAD, timeout_s=30)
    assert worker.process is None


def test_an_interrupted_request_leaves_no_answer_for_the_next_one(runner: Worker, timing: dict[str, Any]) -> None:
    def interrupt(event: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.request("time_kernels", timing, timeout_s=60, emit=interrupt)
    assert runner.process is None
    assert set(runner.request("time_kernels", timing, timeout_s=60)) == {
        kernel["symbol"] for kernel in timing["kernels"]
    }
