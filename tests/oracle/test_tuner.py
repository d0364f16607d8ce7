"""Tuning with workers that misbehave on purpose: what is left is used, what failed is remembered."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest

from tests.oracle.kernels import TARGET, record_of, the_kernel
from tests.relay_passes.graphs import conv_graph, matmul_graph
from tvm_prune.codec import encode
from tvm_prune.oracle.builders import Builders
from tvm_prune.oracle.cost import Failure
from tvm_prune.oracle.objects import KernelObjects
from tvm_prune.oracle.records import Records
from tvm_prune.oracle.spaces import enumerate_candidates
from tvm_prune.oracle.tasks import Kernel
from tvm_prune.oracle.tuner import TuneProgress, Tuner, TuneSettings
from tvm_prune.oracle.worker import Worker, WorkerDied

SETTINGS = TuneSettings(trials_per_task=4, explore_trials=4)


@cache
def conv() -> Kernel:
    return the_kernel(conv_graph((3, 8)))


@cache
def answers(found_key: str) -> list[dict[str, Any]]:
    """Return what a build worker answers for the convolution: four candidates."""
    found = conv()
    assert found.key == found_key
    return [
        {
            "index": number,
            "symbol": f"candidate{number}",
            "record": record_of(found, item),
            "program": encode(item.program),
        }
        for number, item in enumerate(enumerate_candidates(found.function, TARGET, limit=4))
    ]


class Builder:
    """Builds candidates without compiling; dies of every batch that holds one of `deadly`."""

    def __init__(self, *deadly: int) -> None:
        self.deadly = set(deadly)
        self.asked: list[Any] = []
        self.left_out: list[int] = []

    def start(self) -> None:
        pass

    def request(self, function: str, arguments: Any, *, timeout_s: float, emit: Any = None) -> Any:
        self.asked.append((function, arguments.get("only")))
        self.left_out.append(len(arguments["tried"]))
        every = answers(conv().key)[: arguments["limit"]]
        if function == "count_candidates":
            return len(every)
        wanted = [item for item in every if arguments["only"] is None or item["index"] in arguments["only"]]
        if any(item["index"] in self.deadly for item in wanted):
            raise WorkerDied("crashed with status -11")
        for item in wanted:
            (Path(arguments["objects"]) / f"{item['symbol']}.o").touch()
        return wanted


class Runner:
    """Times candidate n as n+1 microseconds, but candidate 2 as the fastest; dies in front of each of `deadly`."""

    def __init__(self, *deadly: int, loads: bool = True, late: bool = False) -> None:
        self.deadly = {f"candidate{number}" for number in deadly}
        self.loads = loads
        self.late = late
        self.asked: list[list[str]] = []

    def start(self) -> None:
        pass

    def request(self, function: str, arguments: Any, *, timeout_s: float, emit: Callable[[Any], None]) -> Any:
        assert function == "time_kernels"
        assert len(self.asked) < 20, "asked for ever"
        self.asked.append(list(arguments["symbols"]))
        if not self.loads:
            raise WorkerDied("cannot open shared object file")
        for symbol in arguments["symbols"]:
            emit({"starting": symbol})
            if symbol in self.deadly and not self.late:
                raise WorkerDied("no answer within 30 s; stopped")
            emit({"symbol": symbol, "times_s": [self.seconds(symbol)] * 3})
        for symbol in self.deadly.intersection(arguments["symbols"]):
            emit({"starting": symbol})
            raise WorkerDied("crashed with status -11")
        best = sorted(arguments["symbols"], key=self.seconds)[: arguments["finalists"]]
        return {symbol: [self.seconds(symbol)] * arguments["rounds"] for symbol in best}

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

    def make(builder: Builder, runner: Runner, settings: TuneSettings = SETTINGS) -> Tuner:
        builders = Builders([cast(Worker, builder)])
        objects = KernelObjects(TARGET, records.folder / "objects", builders)
        every.append(Tuner(TARGET, records, settings, builders=builders, objects=objects, runner=cast(Worker, runner)))
        return every[-1]

    yield make
    for made in every:
        made.close()


def program_of(number: int) -> Any:
    return {**answers(conv().key)[number]["program"], "latency_s": None}


def best_program(records: Records) -> Any:
    best = records.best(conv().key)
    assert best is not None
    return {**encode(best.program), "latency_s": None}


def test_the_fastest_candidate_is_recorded_as_the_best(records: Records, tuner: Make) -> None:
    made = tuner(Builder(), Runner())
    made.tune([[conv()]])
    best = records.best(conv().key)
    assert best is not None
    assert (best.program.latency_s, best.trials, made.trials) == (0.5e-6, 4, 4)
    assert best_program(records) == program_of(2)
    assert not made.failures


def test_of_the_objects_only_that_of_the_fastest_candidate_stays(records: Records, tuner: Make) -> None:
    made = tuner(Builder(), Runner())
    made.tune([[conv()]])
    assert [file.name for file in made.objects.folder.iterdir()] == ["candidate2.o"]


def test_a_kernel_is_tuned_once_however_often_it_is_asked_for(records: Records, tuner: Make) -> None:
    builder, runner = Builder(), Runner()
    made = tuner(builder, runner)
    made.tune([[conv(), conv()]])
    made.tune([[conv()]])
    tuner(builder, runner).tune([[conv()]])
    assert (len(builder.asked), len(runner.asked)) == (1, 1)


def test_a_candidate_that_crashes_the_builder_is_left_out(records: Records, tuner: Make) -> None:
    builder, runner = Builder(2), Runner()
    made = tuner(builder, runner)
    made.tune([[conv()]])
    assert builder.asked[-1] == ("build_task", [0, 1, 3])
    assert runner.asked == [["candidate0", "candidate1", "candidate3"]]
    assert best_program(records) == program_of(0)
    assert not made.failures


def test_a_candidate_that_crashes_the_runner_is_left_out(records: Records, tuner: Make) -> None:
    runner = Runner(0)
    made = tuner(Builder(), runner)
    made.tune([[conv()]])
    assert runner.asked == [
        ["candidate0", "candidate1", "candidate2", "candidate3"],
        ["candidate1", "candidate2", "candidate3"],
    ]
    assert best_program(records) == program_of(2)
    assert made.trials == 4
    assert not made.failures


def test_a_candidate_that_crashes_in_a_later_turn_is_left_out_too(records: Records, tuner: Make) -> None:
    made = tuner(Builder(), Runner(2, late=True))
    made.tune([[conv()]])
    assert made.trials == 4
    assert best_program(records) == program_of(0)


def test_what_was_timed_before_a_crash_counts(records: Records, tuner: Make) -> None:
    runner = Runner(3)
    made = tuner(Builder(), runner)
    made.tune([[conv()]])
    assert len(runner.asked) == 1
    best = records.best(conv().key)
    assert best is not None
    assert best.trials == 3
    assert best_program(records) == program_of(2)


def test_a_kernel_none_of_whose_candidates_builds_is_a_failure_and_not_tried_again(
    records: Records, tuner: Make
) -> None:
    builder, runner = Builder(0, 1, 2, 3), Runner()
    made = tuner(builder, runner)
    made.tune([[conv()]])
    assert made.failures == {conv().key: Failure(stage="build", message="crashed with status -11")}
    assert records.best(conv().key) is None
    asked = len(builder.asked)
    made.tune([[conv()]])
    assert len(builder.asked) == asked
    assert runner.asked == []


def test_a_kernel_none_of_whose_candidates_runs_is_a_failure_and_not_tried_again(records: Records, tuner: Make) -> None:
    runner = Runner(0, 1, 2, 3)
    made = tuner(Builder(), runner)
    made.tune([[conv()]])
    failure = Failure(stage="run", message="candidate3: no answer within 30 s; stopped")
    assert made.failures == {conv().key: failure}
    assert made.trials == 4
    made.tune([[conv()]])
    assert len(runner.asked) == 4


def test_a_library_that_does_not_load_is_asked_for_once(records: Records, tuner: Make) -> None:
    runner = Runner(loads=False)
    made = tuner(Builder(), runner)
    made.tune([[conv()]])
    assert made.failures == {conv().key: Failure(stage="run", message="cannot open shared object file")}
    assert (len(runner.asked), made.trials) == (1, 0)
    assert not list(made.objects.folder.iterdir())


def test_a_kernel_with_more_to_try_than_its_record_has_trials_is_tuned_again(records: Records, tuner: Make) -> None:
    runner = Runner()
    tuner(Builder(), runner, TuneSettings(trials_per_task=2)).tune([[conv()]])
    assert best_program(records) == program_of(0)
    deeper = TuneSettings(trials_per_task=4)
    tuner(Builder(), runner, deeper).tune([[conv()]])
    assert best_program(records) == program_of(2)
    tuner(Builder(), runner, deeper).tune([[conv()]])
    assert len(runner.asked) == 2


def test_progress_tells_stage_count_and_the_kernel_in_hand(records: Records, tuner: Make) -> None:
    told: list[TuneProgress] = []
    made = tuner(Builder(), Runner())
    made.progress = told.append
    made.tune([[replace(conv(), shape="a convolution")]])
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
    made.tune([[conv()]])
    best, asked = records.best(conv().key), len(runner.asked)
    assert best is not None
    assert best.trials == 2
    made.tune([[conv()]])
    assert len(runner.asked) == asked


def test_a_program_tried_again_is_no_further_trial(records: Records, tuner: Make) -> None:
    tuner(Builder(), Runner(), TuneSettings(trials_per_task=2)).tune([[conv()]])
    tuner(Builder(), Runner(), TuneSettings(trials_per_task=4)).tune([[conv()]])
    best = records.best(conv().key)
    assert best is not None
    assert best.trials == 4


class Programs:
    """Records of kernels whose programs take given times; trying a kernel takes the next of them."""

    def __init__(self, **seconds: list[float]) -> None:
        self.seconds = seconds
        self.taken = dict.fromkeys(seconds, 0)

    def series(self, key: str) -> list[float]:
        return self.seconds[key][: self.taken[key]]


class Waves(Tuner):
    """A tuner that tries nothing but takes the next of the known times."""

    def __init__(self, programs: Programs, settings: TuneSettings) -> None:
        self.settings, self.programs = settings, programs
        self.records = cast(Records, programs)

    def _try(self, kernels: Sequence[Kernel], limit: int) -> None:
        for kernel in kernels:
            self.programs.taken[kernel.key] = min(limit, len(self.programs.seconds[kernel.key]))


def tried(**seconds: list[float]) -> dict[str, int]:
    """Return how many programs of each kernel of one group are tried, at most seven, in waves of two."""
    programs = Programs(**seconds)
    settings = TuneSettings(trials_per_task=7, explore_trials=2, wave_trials=2, promising=1.2, least_gain=0.05)
    Waves(programs, settings).tune([[Kernel(key, None) for key in seconds]])
    return programs.taken


def test_of_kernels_that_compute_the_same_only_those_that_may_win_are_tried_further() -> None:
    falling = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0]
    assert tried(fast=falling, close=[8.9] * 8, slow=[9.7] * 8) == {"fast": 7, "close": 4, "slow": 2}


def test_a_kernel_that_a_wave_made_no_faster_is_left() -> None:
    assert tried(stuck=[5.0] * 8) == {"stuck": 4}
    assert tried(late=[5.0, 5.0, 4.0, 4.0, 3.9, 3.9, 1.0]) == {"late": 6}


def test_a_small_space_is_tried_whole() -> None:
    assert tried(small=[5.0, 4.0, 3.0]) == {"small": 3}


def test_further_programs_are_timed_beside_the_fastest_one_known(records: Records, tuner: Make) -> None:
    builder, runner = Builder(), Runner()
    tuner(builder, runner, TuneSettings(trials_per_task=2)).tune([[conv()]])
    tuner(builder, runner, TuneSettings(trials_per_task=4, explore_trials=4)).tune([[conv()]])
    assert builder.left_out == [0, 1], "of two programs tried, the faster is built again"
