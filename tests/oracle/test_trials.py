"""Trials with workers that misbehave on purpose: what is left is used, what failed is remembered."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest

from tests.oracle.kernels import TARGET, record_of, the_kernel
from tests.relay_passes.graphs import conv_graph, matmul_graph
from tvm_prune.errors import ToolchainError
from tvm_prune.oracle.builders import Builders
from tvm_prune.oracle.cost import Failure
from tvm_prune.oracle.object_cache import ObjectCache
from tvm_prune.oracle.objects import KernelObjects
from tvm_prune.oracle.records import Records
from tvm_prune.oracle.spaces import enumerate_candidates
from tvm_prune.oracle.tasks import Kernel
from tvm_prune.oracle.trials import Trials
from tvm_prune.oracle.tune_settings import TuneProgress, TuneSettings
from tvm_prune.oracle.tuner import Group, Tuner
from tvm_prune.oracle.worker import Worker, WorkerDied

SETTINGS = TuneSettings(trials_per_task=4, explore_trials=4)


@cache
def conv() -> Kernel:
    return the_kernel(conv_graph((3, 8)))


@cache
def programs() -> dict[str, dict[str, Any]]:
    """Return what a build worker answers for the first four programs of the convolution, by their names."""
    return {
        item.program.name: {
            "name": item.program.name,
            "symbol": f"candidate{number}",
            "record": record_of(conv(), item),
            "parallel": item.program.parallel > 1,
        }
        for number, item in enumerate(enumerate_candidates(conv().function, TARGET, limit=4))
    }


class Builder:
    """Builds programs without compiling; dies of every batch that holds one of `deadly`, has no schedule of `odd`."""

    links = True

    def __init__(self, *deadly: int, odd: int | None = None) -> None:
        self.deadly = {f"candidate{number}" for number in deadly}
        self.odd = f"candidate{odd}"
        self.asked: list[list[str]] = []

    def start(self) -> None:
        pass

    def request(self, function: str, arguments: Any, *, timeout_s: float, emit: Any = None) -> Any:
        if function == "link" and not self.links:
            raise WorkerDied("CalledProcessError: no space left on device")
        if function in ("build_reference", "link"):
            Path(arguments["library"]).touch()
            return None
        every = [programs()[name] for name in arguments["names"] if name in programs()]
        refused = [item["name"] for item in every if item["symbol"] == self.odd]
        wanted = [item for item in every if item["symbol"] != self.odd][: arguments["count"]]
        self.asked.append([item["symbol"] for item in wanted])
        if self.deadly.intersection(self.asked[-1]):
            raise WorkerDied("crashed with status -11")
        for item in wanted:
            (Path(arguments["objects"]) / f"{item['symbol']}.o").touch()
        return {"built": wanted, "refused": refused}


class Runner:
    """Times candidate n as n+1 microseconds, but candidate 2 as the fastest; dies in front of each of `deadly`.

    Those of `wrong` compute other numbers than the rest.
    """

    def __init__(self, *deadly: int, loads: bool = True, late: bool = False, wrong: tuple[int, ...] = ()) -> None:
        self.deadly = {f"candidate{number}" for number in deadly}
        self.wrong = {f"candidate{number}" for number in wrong}
        self.loads = loads
        self.late = late
        self.asked: list[list[str]] = []
        self.references = 0

    def start(self) -> None:
        pass

    def request(self, function: str, arguments: Any, *, timeout_s: float, emit: Callable[[Any], None] = print) -> Any:
        if function == "disagreeing":
            return self.disagreeing(arguments)
        assert function == "time_kernels"
        assert len(self.asked) < 20, "asked for ever"
        symbols = [kernel["symbol"] for kernel in arguments["kernels"]]
        self.asked.append(symbols)
        if not self.loads:
            raise WorkerDied("cannot open shared object file")
        for symbol in symbols:
            emit({"starting": symbol})
            if symbol in self.deadly and not self.late:
                raise WorkerDied("no answer within 30 s; stopped")
            emit({"symbol": symbol, "times_s": [self.seconds(symbol)] * 3})
        for symbol in self.deadly.intersection(symbols):
            emit({"starting": symbol})
            raise WorkerDied("crashed with status -11")
        best = sorted(symbols, key=self.seconds)[: arguments["finalists"]]
        return {symbol: [self.seconds(symbol)] * arguments["rounds"] for symbol in best}

    def disagreeing(self, arguments: Any) -> list[str]:
        symbols = arguments["symbols"]
        if arguments.get("reference") is None:
            return [symbol for symbol in symbols if (symbol in self.wrong) != (symbols[0] in self.wrong)]
        self.references += 1
        return [symbol for symbol in symbols if symbol in self.wrong]

    @staticmethod
    def seconds(symbol: str) -> float:
        number = int(symbol.removeprefix("candidate"))
        return 0.5e-6 if number == 2 else 1e-6 * (number + 1)


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    made = Records(tmp_path, TARGET)
    yield made
    made.close()


Make = Callable[..., Tuner]


@pytest.fixture
def tuner(records: Records) -> Iterator[Make]:
    """Return a maker of tuners on one folder of records, which closes them."""
    every: list[Tuner] = []

    def make(builder: Builder, runner: Runner, settings: TuneSettings = SETTINGS, **more: Any) -> Tuner:
        builders = Builders([cast(Worker, builder)])
        objects = KernelObjects(TARGET, records.folder / "objects", builders, ObjectCache(TARGET, None))
        workers: dict[str, Any] = {"builders": builders, "objects": objects, "runner": cast(Worker, runner)}
        every.append(Tuner(TARGET, records, Trials(TARGET, records, settings, **workers, **more)))
        return every[-1]

    yield make
    for made in every:
        made.close()


def best_program(records: Records) -> str:
    """Return the symbol that the builder gave the fastest program on record."""
    best = records.best(conv().key)
    assert best is not None
    return str(programs()[best.program.name]["symbol"])


def test_the_fastest_candidate_is_recorded_as_the_best(records: Records, tuner: Make) -> None:
    made = tuner(Builder(), Runner())
    made.tune([[Group((conv(),))]])
    best = records.best(conv().key)
    assert best is not None
    assert (best.program.latency_s, best.trials, made.trials) == (0.5e-6, 4, 4)
    assert best_program(records) == "candidate2"
    assert not made.failures


def test_of_the_objects_only_those_stay_that_may_meet_in_a_contest(records: Records, tuner: Make) -> None:
    made = tuner(Builder(), Runner(), replace(SETTINGS, contest_programs=2))
    made.tune([[Group((conv(),))]])
    left = sorted(file.name for file in (records.folder / "objects").iterdir())
    assert left == ["Launcher.o", "candidate0.o", "candidate2.o"]


def test_a_kernel_is_tuned_once_however_often_it_is_asked_for(records: Records, tuner: Make) -> None:
    builder, runner = Builder(), Runner()
    made = tuner(builder, runner)
    made.tune([[Group((conv(),)), Group((conv(),))]])
    made.tune([[Group((conv(),))]])
    tuner(builder, runner).tune([[Group((conv(),))]])
    assert (len(builder.asked), len(runner.asked)) == (1, 1)


def test_a_candidate_that_crashes_the_builder_is_left_out(records: Records, tuner: Make) -> None:
    builder, runner = Builder(2), Runner()
    made = tuner(builder, runner)
    made.tune([[Group((conv(),))]])
    every = ["candidate0", "candidate1", "candidate2", "candidate3"]
    assert builder.asked == [every, *([name] for name in every)]
    assert runner.asked == [["candidate0", "candidate1", "candidate3"]]
    assert best_program(records) == "candidate0"
    assert not made.failures


def test_a_candidate_that_crashes_the_runner_is_left_out(records: Records, tuner: Make) -> None:
    runner = Runner(0)
    made = tuner(Builder(), runner)
    made.tune([[Group((conv(),))]])
    assert runner.asked == [
        ["candidate0", "candidate1", "candidate2", "candidate3"],
        ["candidate1", "candidate2", "candidate3"],
    ]
    assert best_program(records) == "candidate2"
    assert made.trials == 4
    assert not made.failures


def test_a_candidate_that_crashes_in_a_later_turn_is_left_out_too(records: Records, tuner: Make) -> None:
    made = tuner(Builder(), Runner(2, late=True))
    made.tune([[Group((conv(),))]])
    assert made.trials == 4
    assert best_program(records) == "candidate0"


def test_what_was_timed_before_a_crash_counts(records: Records, tuner: Make) -> None:
    runner = Runner(3)
    made = tuner(Builder(), runner)
    made.tune([[Group((conv(),))]])
    assert len(runner.asked) == 1
    best = records.best(conv().key)
    assert best is not None
    assert best.trials == 3
    assert best_program(records) == "candidate2"


def test_a_kernel_none_of_whose_candidates_builds_is_a_failure_and_not_tried_again(
    records: Records, tuner: Make
) -> None:
    builder, runner = Builder(0, 1, 2, 3), Runner()
    made = tuner(builder, runner)
    made.tune([[Group((conv(),))]])
    assert made.failures == {conv().key: Failure(stage="build", message="crashed with status -11")}
    assert records.best(conv().key) is None
    asked = len(builder.asked)
    made.tune([[Group((conv(),))]])
    assert len(builder.asked) == asked
    assert runner.asked == []


def test_a_kernel_none_of_whose_candidates_runs_is_a_failure_and_not_tried_again(records: Records, tuner: Make) -> None:
    runner = Runner(0, 1, 2, 3)
    made = tuner(Builder(), runner)
    made.tune([[Group((conv(),))]])
    failure = Failure(stage="run", message="candidate3: no answer within 30 s; stopped")
    assert made.failures == {conv().key: failure}
    assert made.trials == 4
    made.tune([[Group((conv(),))]])
    assert len(runner.asked) == 4


def test_a_library_that_does_not_load_is_asked_for_once(records: Records, tuner: Make) -> None:
    runner = Runner(loads=False)
    made = tuner(Builder(), runner)
    made.tune([[Group((conv(),))]])
    assert made.failures == {conv().key: Failure(stage="run", message="cannot open shared object file")}
    assert (len(runner.asked), made.trials) == (1, 0)
    assert [file.name for file in (records.folder / "objects").iterdir()] == ["Launcher.o"]


def test_a_kernel_with_more_to_try_than_its_record_has_trials_is_tuned_again(records: Records, tuner: Make) -> None:
    runner = Runner()
    tuner(Builder(), runner, TuneSettings(trials_per_task=2)).tune([[Group((conv(),))]])
    assert best_program(records) == "candidate0"
    deeper = TuneSettings(trials_per_task=4)
    tuner(Builder(), runner, deeper).tune([[Group((conv(),))]])
    assert best_program(records) == "candidate2"
    tuner(Builder(), runner, deeper).tune([[Group((conv(),))]])
    assert len(runner.asked) == 2


def test_progress_tells_stage_count_and_the_kernel_in_hand(records: Records, tuner: Make) -> None:
    told: list[TuneProgress] = []
    made = tuner(Builder(), Runner(), progress=told.append)
    made.tune([[Group((replace(conv(), shape="a convolution"),))]])
    assert told == [
        TuneProgress("build", 1, 1, 0, "a convolution"),
        TuneProgress("measure", 0, 1, 0, "a convolution"),
        TuneProgress("measure", 1, 1, 4, ""),
    ]


def test_nothing_to_tune_starts_no_worker(records: Records, tuner: Make) -> None:
    class Sleeper(Builder):
        def start(self) -> None:
            raise AssertionError("started for nothing")

    tuner(Sleeper(), Runner()).tune([])


def test_the_key_of_a_kernel_is_the_one_its_workload_is_recorded_under() -> None:
    dense = the_kernel(matmul_graph(1, 8, 8))
    assert dense.workload_json()[0] == dense.key
    assert dense.key != conv().key


def test_a_kernel_whose_other_candidates_do_not_run_is_not_tuned_for_ever(records: Records, tuner: Make) -> None:
    runner = Runner(0, 1)
    made = tuner(Builder(), runner)
    made.tune([[Group((conv(),))]])
    best, asked = records.best(conv().key), len(runner.asked)
    assert best is not None
    assert best.trials == 2
    made.tune([[Group((conv(),))]])
    assert len(runner.asked) == asked


def test_what_crashed_is_on_record_and_not_tried_by_the_next_process(records: Records, tuner: Make) -> None:
    tuner(Builder(), Runner(2)).tune([[Group((conv(),))]])
    failed = {name for name, item in programs().items() if item["symbol"] == "candidate2"}
    assert records.failed(conv().key) == failed
    assert best_program(records) == "candidate0"
    runner = Runner()
    tuner(Builder(), runner).tune([[Group((conv(),))]])
    assert runner.asked == []


def test_a_program_that_computes_other_numbers_is_on_record_as_failed(records: Records, tuner: Make) -> None:
    runner = Runner(wrong=(2,))
    tuner(Builder(), runner).tune([[Group((conv(),))]])
    assert runner.references == 1
    assert best_program(records) == "candidate0"
    assert {programs()[name]["symbol"] for name in records.failed(conv().key)} == {"candidate2"}


def test_the_first_program_may_be_the_one_that_is_wrong(records: Records, tuner: Make) -> None:
    tuner(Builder(), Runner(wrong=(0,))).tune([[Group((conv(),))]])
    assert {programs()[name]["symbol"] for name in records.failed(conv().key)} == {"candidate0"}
    assert best_program(records) == "candidate2"


def test_programs_that_agree_need_no_reference(records: Records, tuner: Make) -> None:
    runner = Runner()
    tuner(Builder(), runner).tune([[Group((conv(),))]])
    assert runner.references == 0


def test_a_kernel_whose_programs_are_all_wrong_is_a_failure(records: Records, tuner: Make) -> None:
    runner = Runner(1, 2, 3, wrong=(0,))
    made = tuner(Builder(), runner)
    made.tune([[Group((conv(),))]])
    text = "computes other numbers than the kernel it stands for"
    assert made.failures == {conv().key: Failure(stage="run", message=text)}
    assert runner.references == 1


def test_a_point_without_a_schedule_gives_its_trial_to_the_next(records: Records, tuner: Make) -> None:
    builder, runner = Builder(odd=0), Runner()
    few = TuneSettings(trials_per_task=2)
    made = tuner(builder, runner, few)
    made.tune([[Group((conv(),))]])
    assert runner.asked == [["candidate1", "candidate2"]]
    made.tune([[Group((conv(),))]])
    assert len(runner.asked) == 1


def test_programs_that_cannot_be_linked_are_a_broken_set_up(records: Records, tuner: Make) -> None:
    builder = Builder()
    builder.links = False
    with pytest.raises(ToolchainError, match=r"cannot be linked \(CalledProcessError: no space left.*\); tvm-prune"):
        tuner(builder, Runner()).tune([[Group((conv(),))]])


def test_a_program_tried_again_is_no_further_trial(records: Records, tuner: Make) -> None:
    tuner(Builder(), Runner(), TuneSettings(trials_per_task=2)).tune([[Group((conv(),))]])
    tuner(Builder(), Runner(), TuneSettings(trials_per_task=4)).tune([[Group((conv(),))]])
    best = records.best(conv().key)
    assert best is not None
    assert best.trials == 4


def test_further_programs_are_timed_beside_the_fastest_one_known(records: Records, tuner: Make) -> None:
    builder, runner = Builder(), Runner()
    tuner(builder, runner, TuneSettings(trials_per_task=2)).tune([[Group((conv(),))]])
    tuner(builder, runner, TuneSettings(trials_per_task=4, explore_trials=4)).tune([[Group((conv(),))]])
    assert runner.asked == [["candidate0", "candidate1"], ["candidate0", "candidate2", "candidate3"]]
