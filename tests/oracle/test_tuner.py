"""Which programs tuning tries: waves, tasks too small to matter, kernels that follow others."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from tvm_prune.oracle import relatives, tuner
from tvm_prune.oracle.program import Program
from tvm_prune.oracle.records import Record, Records
from tvm_prune.oracle.spaces.anatomy import Anatomy
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tasks import Kernel
from tvm_prune.oracle.trials import Order
from tvm_prune.oracle.tune_settings import TuneSettings
from tvm_prune.oracle.tuner import Group, Tuner


def program(name: str, seconds: float) -> Program:
    return Program(space=name, space_version=1, variant="", axes={}, lanes=1, parallel=1, latency_s=seconds)


class Programs:
    """Records of kernels whose programs take given times; its trials take the times of what is ordered."""

    def __init__(self, seconds: dict[str, dict[str, float]], settings: TuneSettings) -> None:
        self.seconds = seconds
        self.settings = settings
        self.measured: dict[str, dict[str, Program]] = {key: {} for key in seconds}
        self.failures: dict[str, Any] = {}
        self.done: dict[str, int] = {}

    def series(self, key: str) -> list[float]:
        return [item.latency_s for item in self.measured[key].values()]

    def programs(self, key: str) -> list[Program]:
        return sorted(self.measured[key].values(), key=lambda item: item.latency_s)

    def best(self, key: str) -> Record | None:
        return next((Record(item, None, 1) for item in self.programs(key)), None)

    def record(self, key: str, name: str) -> Record | None:
        found = self.measured[key].get(name)
        return None if found is None else Record(found, None, 1)

    def settled(self, key: str) -> int:
        return self.done.get(key, 0)

    def settle(self, key: str, trials: int) -> None:
        self.done[key] = trials

    def failed(self, key: str) -> frozenset[str]:
        return frozenset()

    def compare(self, contests: Sequence[Sequence[tuple[Kernel, Record]]]) -> None:
        self.contests = [[f"{kernel.key} {record.program.space}" for kernel, record in contest] for contest in contests]

    def run(self, batches: Sequence[Sequence[Order]]) -> None:
        for order in (order for batch in batches for order in batch):
            key = order.kernel.key
            for name in order.names[: order.count]:
                space = name.split(" ")[0]
                self.measured[key][name] = program(space, self.seconds[key][space])


class Bodies(Tuner):
    """A tuner of kernels that are not there: the first letter of a key is its body, its points are those with times.

    The number at the end of a key is its channels; kernels without one have no relatives.
    """

    def __init__(self, programs: Programs) -> None:
        super().__init__(Target(threads=1, vector_bits=128), cast(Records, programs), cast(Any, programs))

    def _points(self, kernel: Kernel) -> tuple[Program, ...]:
        seconds = cast(Programs, self.records).seconds[kernel.key]
        return tuple(program(space, 1.0) for space in seconds)


SETTINGS = TuneSettings(trials_per_task=7, explore_trials=2, wave_trials=2, promising=1.2, least_gain=0.05)


@pytest.fixture(autouse=True)
def bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuner, "body_of", lambda kernel: kernel.key.split("_")[0])

    def anatomy(kernel: Kernel) -> Anatomy:
        channels = int(re.search(r"\d*$", kernel.key)[0] or 0)  # type: ignore[index]  # an empty text is found too
        kind = "depthwise" if channels else "other"
        return Anatomy(kind, (), "", (), (1, 16, 16, channels, 3, 3, 1), channels, channels)

    monkeypatch.setattr(relatives, "anatomy_of", anatomy)


def numbered(seconds: Sequence[float]) -> dict[str, float]:
    return {f"p{number}": value for number, value in enumerate(seconds)}


def group(*keys: str, weight: int = 1) -> Group:
    return Group(tuple(Kernel(key, None) for key in keys), weight)


def tried(**seconds: list[float]) -> dict[str, int]:
    """Return how many programs of each kernel of one group are tried, at most seven, in waves of two."""
    programs = Programs({key: numbered(values) for key, values in seconds.items()}, SETTINGS)
    Bodies(programs).tune([[group(*seconds)]])
    return {key: len(found) for key, found in programs.measured.items()}


def test_of_kernels_that_compute_the_same_only_those_that_may_win_are_tried_further() -> None:
    falling = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0]
    assert tried(fast=falling, close=[8.9] * 8, slow=[9.7] * 8) == {"fast": 7, "close": 4, "slow": 2}


def test_a_kernel_that_a_wave_made_no_faster_is_left() -> None:
    assert tried(stuck=[5.0] * 8) == {"stuck": 4}
    assert tried(late=[5.0, 5.0, 4.0, 4.0, 3.9, 3.9, 1.0]) == {"late": 6}


def test_a_small_space_is_tried_whole() -> None:
    assert tried(small=[5.0, 4.0, 3.0]) == {"small": 3}


def names(programs: Programs, key: str) -> list[str]:
    return [item.space for item in programs.measured[key].values()]


def test_a_task_that_takes_next_to_nothing_of_its_model_has_one_wave() -> None:
    falling = numbered([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0])
    small = numbered([0.009, 0.008, 0.007, 0.006, 0.005, 0.004, 0.003])
    programs = Programs({"large": falling, "small": small}, SETTINGS)
    Bodies(programs).tune([[group("large"), group("small")]])
    assert (len(programs.measured["large"]), len(programs.measured["small"])) == (7, 2)


def test_what_was_tuned_to_the_end_is_left_alone_whatever_later_readings_say() -> None:
    programs = Programs({"a": numbered([9.0, 8.0, 7.9, 7.9, 7.9, 7.9, 1.0])}, SETTINGS)
    Bodies(programs).tune([[group("a")]])
    assert (len(programs.measured["a"]), programs.done) == (4, {"a": 7})
    # A contest has timed the first ones again: now it looks as if the last wave had gained.
    for name in list(programs.measured["a"])[:2]:
        programs.measured["a"][name] = program(name.split(" ")[0], 90.0)
    Bodies(programs).tune([[group("a")]])
    assert len(programs.measured["a"]) == 4
    deeper = Programs({"a": programs.seconds["a"]}, replace(SETTINGS, trials_per_task=9))
    deeper.measured, deeper.done = programs.measured, programs.done
    Bodies(deeper).tune([[group("a")]])
    assert len(programs.measured["a"]) > 4


def test_a_task_that_was_small_is_looked_at_again_where_it_is_not() -> None:
    falling = numbered([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0])
    small = numbered([0.009, 0.008, 0.007, 0.006, 0.005, 0.004, 0.003])
    programs = Programs({"large": falling, "small": small}, SETTINGS)
    Bodies(programs).tune([[group("large"), group("small")]])
    assert programs.done == {"large": 7, "small": 2}
    Bodies(programs).tune([[group("small")]])
    assert len(programs.measured["small"]) == 7


def test_a_small_task_matters_where_it_is_called_often_or_in_a_small_model() -> None:
    falling = numbered([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0])
    small = numbered([0.009, 0.008, 0.007, 0.006, 0.005, 0.004, 0.003])
    programs = Programs({"large": falling, "small": small}, SETTINGS)
    Bodies(programs).tune([[group("large"), group("small", weight=100)]])
    assert len(programs.measured["small"]) == 7
    programs = Programs({"large": falling, "small": small}, SETTINGS)
    Bodies(programs).tune([[group("large"), group("small")], [group("small")]])
    assert len(programs.measured["small"]) == 7


# A convolution in two forms, and the same one with another epilogue.
LED = {"a": numbered([9.0, 5.0, 6.0, 7.0]), "b": numbered([5.2, 8.0, 8.0, 8.0])}
ALIKE = {"a_added": numbered([9.1, 5.1, 6.1, 7.1]), "b_added": numbered([5.3, 8.0, 8.0, 8.0])}


def test_kernels_that_differ_in_the_epilogue_take_over_the_fastest_programs() -> None:
    programs = Programs({**LED, **ALIKE}, SETTINGS)
    Bodies(programs).tune([[group("a", "b"), group("a_added", "b_added")]])
    assert names(programs, "a_added") == ["p1", "p2"]
    assert names(programs, "b_added") == ["p0", "p1"]


def test_forms_that_are_slower_are_not_taken_over() -> None:
    slower = {**LED, "b": numbered([6.0, 8.0, 8.0, 8.0])}
    programs = Programs({**slower, **ALIKE}, SETTINGS)
    Bodies(programs).tune([[group("a", "b"), group("a_added", "b_added")]])
    assert names(programs, "b_added") == []


def test_a_follower_of_a_later_model_remembers_its_leader_and_is_tuned_once() -> None:
    programs = Programs({**LED, **ALIKE}, SETTINGS)
    made = Bodies(programs)
    made.tune([[group("a", "b")]])
    made.tune([[group("a_added", "b_added")]])
    made.tune([[group("a_added", "b_added")]])
    assert (names(programs, "a_added"), names(programs, "b_added")) == (["p1", "p2"], ["p0", "p1"])


def test_the_group_with_most_trials_on_record_leads() -> None:
    programs = Programs({**LED, **ALIKE}, SETTINGS)
    Bodies(programs).tune([[group("a_added", "b_added")]])
    Bodies(programs).tune([[group("a", "b"), group("a_added", "b_added")]])
    assert names(programs, "a") == ["p1", "p2"]


def test_kernels_of_a_task_that_are_nearly_as_fast_meet_in_a_contest_once() -> None:
    programs = Programs(
        {"a": numbered([5.0]), "b": numbered([5.6]), "c": numbered([6.1]), "d": numbered([1.0])}, SETTINGS
    )
    made = Bodies(programs)
    made.tune([[group("a", "b", "c"), group("d")]])
    assert programs.contests == [["a p0", "b p0"]]
    made.tune([[group("a", "b", "c"), group("d")]])
    assert programs.contests == []


def test_programs_of_one_kernel_that_are_nearly_as_fast_meet_too_up_to_four() -> None:
    programs = Programs({"a": numbered([5.0, 4.9, 4.8, 7.0, 4.7, 4.6, 4.5])}, SETTINGS)
    Bodies(programs).tune([[group("a")]])
    assert programs.contests == [["a p2", "a p1", "a p0"]]
    programs = Programs({"a": numbered([5.0, 4.9, 4.8, 7.0, 4.7, 4.6])}, replace(SETTINGS, least_gain=0.0))
    Bodies(programs).tune([[group("a")]])
    assert programs.contests == [["a p5", "a p4", "a p2", "a p1"]]


def test_what_is_fast_for_one_channel_count_is_tried_first_for_those_near_it() -> None:
    falling = numbered([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0])
    programs = Programs({"a16": falling, "b18": {**falling, "p6": 9.5}, "c64": falling}, SETTINGS)
    made = Bodies(programs)
    made.tune([[group("a16")]])
    made.tune([[group("b18"), group("c64")]])
    assert names(programs, "b18")[:2] == ["p6", "p0"]
    assert names(programs, "c64")[:2] == ["p0", "p1"]


def test_counts_that_are_tuned_together_try_each_others_fastest_programs_and_meet_with_them() -> None:
    stuck = numbered([5.0, 5.0, 9.0, 9.0, 8.0, 9.0, 9.0])
    gaining = numbered([8.0, 7.0, 6.0, 5.0, 4.0, 9.0, 9.0])
    programs = Programs({"a20": stuck, "b21": gaining}, SETTINGS)
    Bodies(programs).tune([[group("a20"), group("b21")]])
    assert names(programs, "a20") == ["p0", "p1", "p2", "p3", "p4"]
    # It may have been a bad moment in which p4 looked slow.
    assert programs.contests == [["a20 p0", "a20 p1", "a20 p4"], ["b21 p4", "b21 p0"]]


def test_kernels_of_rival_models_meet_once() -> None:
    programs = Programs({"a": numbered([5.0]), "b": numbered([5.6])}, SETTINGS)
    made = Bodies(programs)
    made.tune([[group("a"), group("b")]])
    contest = [Kernel("a", None), Kernel("b", None)]
    made.meet([contest, contest])
    assert programs.contests == [["a p0", "b p0"]]
    programs.contests.clear()
    made.meet([contest])
    assert programs.contests == []


def test_a_kernel_that_can_hardly_win_is_tried_only_if_the_others_do_not_work() -> None:
    programs = Programs({"a": numbered([1.0]), "b": numbered([5.0])}, SETTINGS)
    Bodies(programs).tune([[Group((Kernel("a", None), Kernel("b", None)), hopeless=frozenset({"a"}))]])
    assert (names(programs, "a"), names(programs, "b")) == ([], ["p0"])
    programs = Programs({"a": numbered([1.0]), "b": {}}, SETTINGS)
    Bodies(programs).tune([[Group((Kernel("a", None), Kernel("b", None)), hopeless=frozenset({"a"}))]])
    assert names(programs, "a") == ["p0"]


def test_a_follower_whose_space_has_none_of_those_programs_is_tuned_by_itself() -> None:
    other = {"a_added": {"q0": 3.0, "q1": 2.0, "q2": 1.0}}
    programs = Programs({"a": LED["a"], **other}, SETTINGS)
    Bodies(programs).tune([[group("a"), group("a_added")]])
    assert names(programs, "a_added") == ["q0", "q1", "q2"]
