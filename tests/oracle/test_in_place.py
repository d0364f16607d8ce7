"""A task's row holds its share of the whole module, whichever calls it has and however fast the machine is."""

from typing import Any, cast

import pytest

from tvm_prune.oracle.in_place import overhead_in_place, rows_in_place
from tvm_prune.oracle.lower import Lowered
from tvm_prune.oracle.module import Choice
from tvm_prune.oracle.prepare import Prepared
from tvm_prune.oracle.program import Task
from tvm_prune.oracle.tasks import TaskGraph


def prepared(weights: dict[str, int]) -> Prepared:
    """Return a model of tasks that each stand for so many calls and run their default schedule."""
    tasks = tuple(
        Task(hash=name, kind="conv2d", shape="", weight=weight, layers=(name,), macs=1)
        for name, weight in weights.items()
    )
    graph = TaskGraph(tasks=tasks, variants={}, calls=(), weight_names={})
    choice = Choice(variant={}, record=dict.fromkeys(weights), forms={})
    return Prepared(cast(Lowered, None), graph, choice=choice)


def read(*calls: float, between: float = 1.0) -> dict[str, Any]:
    """Return what one round of a stamped module says."""
    return {"calls": list(calls), "between": between}


def test_a_row_holds_the_time_of_one_of_its_calls_wherever_they_come() -> None:
    rows = rows_in_place(prepared({"a": 2, "b": 1}), ("a", "b", "a"), [read(1.0, 5.0, 3.0)], [10.0])
    assert [row.in_situ_s for row in rows] == pytest.approx([2.0, 5.0])
    assert [row.total_s for row in rows] == pytest.approx([4.0, 5.0])
    assert [(row.program, row.trials) for row in rows] == [(None, 0), (None, 0)]


def test_rounds_in_which_the_machine_was_slow_count_by_share() -> None:
    rows = rows_in_place(prepared({"a": 1}), ("a",), [read(4.0), read(8.0), read(4.0)], [10.0, 20.0, 10.0])
    assert rows[0].in_situ_s == pytest.approx(4.0)


def test_a_task_without_a_call_takes_no_time() -> None:
    rows = rows_in_place(prepared({"a": 1, "gone": 1}), ("a",), [read(4.0)], [10.0])
    assert [row.in_situ_s for row in rows] == pytest.approx([4.0, 0.0])


def test_the_overhead_is_the_share_of_the_time_between_kernels() -> None:
    rounds = [read(9.0, between=1.0), read(18.0, between=2.0), read(9.0, between=1.0)]
    assert overhead_in_place(rounds, [10.0, 20.0, 10.0]) == pytest.approx(1.0)
