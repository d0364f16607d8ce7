"""The measuring process may die at any moment: what was loaded is loaded again, and a reading lost is a failure."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracle.quick import BENCH, mixed
from tvm_prune.oracle import bench as bench_module
from tvm_prune.oracle.bench import Bench, pack, unpack
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.cost import Cost, Failure, Ratio
from tvm_prune.oracle.table import ProgramTable
from tvm_prune.oracle.worker import Worker, WorkerDied

MODEL = mixed()


@given(
    shape=st.lists(st.integers(0, 4), max_size=3),
    dtype=st.sampled_from(["float32", "int64", "int8", "bool"]),
)
def test_arrays_survive_the_pipe(shape: list[int], dtype: str) -> None:
    array = (np.arange(int(np.prod(shape))).reshape(shape) % 7).astype(dtype)
    again = unpack(pack(array))
    assert (again.dtype, again.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(again, array)


def test_views_are_packed_by_value() -> None:
    array = np.arange(12.0).reshape(3, 4).T[::2]
    np.testing.assert_array_equal(unpack(pack(array)), array)


def test_modules_are_loaded_again_after_the_process_died(oracle: CompilerOracle) -> None:
    assert isinstance(oracle.cost(MODEL), Cost)
    runner = oracle._bench.runner
    assert runner.process is not None
    os.kill(runner.process.pid, signal.SIGKILL)
    runner.process.wait()
    assert isinstance(oracle.cost(MODEL), Cost)
    assert isinstance(oracle.compare(MODEL, mixed(4)), Ratio)


def test_a_reading_that_dies_is_a_failure_and_the_next_one_works(
    oracle: CompilerOracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Worker.request

    def dying(worker: Worker, function: str, *arguments: object, **options: object) -> object:
        if function == "time_modules":
            worker.stop()
            raise WorkerDied("crashed with status -11")
        return real(worker, function, *arguments, **options)  # type: ignore[arg-type]  # the argument is one of several kinds

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "request", dying)
        failure = Failure(stage="run", message="crashed with status -11")
        assert oracle.cost(MODEL) == failure
        assert oracle.compare(MODEL, mixed(4)) == failure
        assert oracle.table(mixed(6)) == failure
    assert isinstance(oracle.cost(MODEL), Cost)


def test_a_module_that_was_removed_is_forgotten() -> None:
    bench = Bench(Worker("run", threads=1), BENCH)
    name = bench.add(Path(__file__), [np.zeros(2)])
    bench.remove(name)
    bench.remove(name)
    with pytest.raises(KeyError, match=name):
        bench.run(name)
    bench.runner.stop()


@pytest.mark.parametrize("temporary", [False, True])
def test_only_a_temporary_library_goes_with_its_module(tmp_path: Path, temporary: bool) -> None:
    library = tmp_path / "module.so"
    library.touch()
    bench = Bench(Worker("run", threads=1), BENCH)
    bench.remove(bench.add(library, [np.zeros(2)], temporary=temporary))
    assert library.exists() is not temporary


def test_the_process_starts_afresh_before_loaded_libraries_fill_the_memory(
    oracle: CompilerOracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_module, "_MOST_LOADS", 2)
    assert isinstance(oracle.compare(MODEL, mixed(4)), Ratio)
    before = oracle._bench.runner.process
    assert isinstance(oracle.table(mixed(6)), ProgramTable)
    assert oracle._bench.runner.process is not before


class Moody:
    """A runner whose canary takes the next of `speeds` seconds in each reading, the module ten times that."""

    def __init__(self, *speeds: float) -> None:
        self.speeds = list(speeds)
        self.process = object()

    def start(self) -> None:
        pass

    def request(self, function: str, arguments: Any, **_: object) -> Any:
        if function == "load":
            return None
        speed = self.speeds.pop(0)
        return {"module0": [10 * speed] * arguments["blocks"], "canary": [speed] * arguments["blocks"]}


def moody(*speeds: float) -> Bench:
    bench = Bench(cast(Worker, Moody(*speeds)), replace(BENCH, recovery_s=0.0))
    bench.add(Path("module.so"), [np.zeros(2)])
    bench.set_canary({"library": "canary.so", "symbol": "canary", "buffers": []})
    return bench


def test_a_machine_that_has_become_slow_is_waited_for() -> None:
    bench = moody(1.0, 1.0, 1.3, 1.2, 1.0)
    for _ in range(3):
        assert bench.times(["module0"]) == {"module0": [10.0] * BENCH.blocks}
    assert bench.measurements == 5


def test_a_machine_that_stays_slow_gives_what_it_can() -> None:
    bench = moody(*[1.0] * 4, 1.5, 1.4, 1.3, 1.2)
    for _ in range(4):
        bench.times(["module0"])
    assert bench.times(["module0"]) == {"module0": [12.0] * ((BENCH.blocks + 1) // 2)}


def test_a_machine_that_a_rest_does_not_help_is_not_waited_for_again() -> None:
    bench = moody(*[1.0] * 4, 1.3, 1.3, 1.0)
    for _ in range(4):
        bench.times(["module0"])
    assert bench.times(["module0"]) == {"module0": [13.0] * ((BENCH.blocks + 1) // 2)}
    assert bench.measurements == 6


def test_a_persistent_bench_goes_on_waiting() -> None:
    bench = moody(*[1.0] * 4, 1.3, 1.3, 1.0)
    bench.settings = replace(bench.settings, persistent=True)
    for _ in range(5):
        assert bench.times(["module0"]) == {"module0": [10.0] * BENCH.blocks}
    assert bench.measurements == 7


def test_who_is_not_patient_takes_a_slow_machine_as_it_is() -> None:
    bench = moody(*[1.0] * 4, 1.3, 1.0)
    for _ in range(4):
        bench.times(["module0"])
    assert bench.times(["module0"], patient=False) == {"module0": [13.0] * ((BENCH.blocks + 1) // 2)}
