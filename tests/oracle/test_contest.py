"""Who meets in the contest of a task."""

from typing import cast

import pytest

from tvm_prune.oracle.contest import close_kernels, contestants
from tvm_prune.oracle.program import Program
from tvm_prune.oracle.records import Record, Records
from tvm_prune.oracle.tasks import Kernel
from tvm_prune.oracle.tune_settings import TuneSettings

SETTINGS = TuneSettings(contest_margin=1.2, contest_programs=2)


class Known:
    """Records of kernels whose programs took given times."""

    def __init__(self, **seconds: dict[str, float]) -> None:
        self.known = {
            key: [
                Program(space=name, space_version=1, variant="", axes={}, lanes=1, parallel=1, latency_s=value)
                for name, value in programs.items()
            ]
            for key, programs in seconds.items()
        }

    def series(self, key: str) -> list[float]:
        return [program.latency_s for program in self.known[key]]

    def programs(self, key: str) -> list[Program]:
        return sorted(self.known[key], key=lambda program: program.latency_s)

    def record(self, key: str, name: str) -> Record | None:
        return next((Record(program, None, 1) for program in self.known[key] if program.name == name), None)


def meeting(*, favourites: dict[str, str] | None = None, **seconds: dict[str, float]) -> list[str]:
    """Return kernel and program of those who meet."""
    kernels = [Kernel(key, None) for key in seconds]

    def favourite(kernel: Kernel) -> list[str]:
        return [f"{(favourites or {})[kernel.key]} 1: , "] if kernel.key in (favourites or {}) else []

    found = contestants(kernels, cast(Records, Known(**seconds)), SETTINGS, favourite)
    return [f"{kernel.key} {record.program.space}" for kernel, record in found]


def test_the_fastest_programs_of_a_task_meet_whatever_kernel_they_are_of() -> None:
    assert meeting(a={"p": 1.0, "q": 1.1, "r": 1.15}) == ["a p", "a q"]
    assert meeting(a={"p": 1.1, "q": 1.3}, b={"p": 1.0}) == ["b p", "a p"]


def test_the_fastest_of_every_kernel_that_is_close_meets_too() -> None:
    assert meeting(a={"p": 1.0, "q": 1.05, "r": 1.1}, b={"p": 1.19}, c={"p": 1.21}) == ["a p", "a q", "b p"]


def test_a_favourite_meets_however_slow_it_looked_if_it_was_tried() -> None:
    assert meeting(a={"p": 1.0, "q": 9.0}, favourites={"a": "q"}) == ["a p", "a q"]
    assert meeting(a={"p": 1.0}, b={"p": 1.1}, favourites={"a": "never tried"}) == ["a p", "b p"]


def test_nobody_meets_alone() -> None:
    assert meeting(a={"p": 1.0, "q": 1.3}) == []
    assert meeting(a={}, b={}) == []


@pytest.mark.parametrize(("second", "close"), [(1.2, ["a", "b"]), (1.3, ["a"])])
def test_kernels_are_close_within_the_margin(second: float, close: list[str]) -> None:
    kernels = [Kernel(key, None) for key in ("a", "b", "untried")]
    records = Known(a={"p": 1.0}, b={"p": second}, untried={})
    assert [kernel.key for kernel in close_kernels(kernels, cast(Records, records), SETTINGS)] == close
