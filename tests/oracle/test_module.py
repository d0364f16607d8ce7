"""Choosing programs for a whole module: shared weights agree on their padding."""

from dataclasses import replace
from functools import cache
from typing import cast

from relay_passes.weight_form import WeightForm
from tests.oracle.kernels import TARGET, the_kernel
from tests.relay_passes.graphs import conv_graph
from tvm_prune.oracle.module import Choice, choose
from tvm_prune.oracle.program import Program, Task
from tvm_prune.oracle.records import Record, Records
from tvm_prune.oracle.spaces import enumerate_candidates
from tvm_prune.oracle.tasks import Kernel, TaskGraph, Variant

# Seconds of each variant, by padded count (0 = as it is); a variant without an entry has no record.
Latencies = dict[str, dict[int, float]]


@cache
def program() -> Program:
    found = the_kernel(conv_graph((3, 8)))
    return enumerate_candidates(found.function, TARGET, limit=1)[0].program


class Known:
    """Records that answer from a table of seconds by kernel key."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds

    def best(self, key: str) -> Record | None:
        if key not in self.seconds:
            return None
        return Record(program=replace(program(), latency_s=self.seconds[key]), record_json=None, trials=1)


def chosen(
    latencies: Latencies, weights: dict[str, tuple[str, ...]], *, counts: dict[str, int] | None = None
) -> Choice:
    """Return the choice among variants 0, 16 and 32 of each task; `weights` are its weight placeholders."""
    tasks = tuple(
        Task(hash=name, kind="conv2d", shape="", weight=(counts or {}).get(name, 1), layers=(name,), macs=1)
        for name in latencies
    )
    variants = {
        name: tuple(Variant(WeightForm(count or None), Kernel(f"{name}/{count}", None)) for count in (0, 16, 32))
        for name in latencies
    }
    graph = TaskGraph(tasks=tasks, variants=variants, calls=tuple(latencies), weight_names=weights)
    seconds = {f"{name}/{count}": value for name, table in latencies.items() for count, value in table.items()}
    return choose(graph, cast(Records, Known(seconds)))


def padding(choice: Choice) -> dict[str, int | None]:
    return {name: variant.form.channels for name, variant in choice.variant.items()}


def test_each_task_takes_its_fastest_variant() -> None:
    choice = chosen({"a": {0: 3.0, 16: 1.0, 32: 2.0}, "b": {0: 1.0, 16: 2.0}}, {"a": ("wa",), "b": ("wb",)})
    assert padding(choice) == {"a": 16, "b": None}
    assert choice.forms == {"wa": WeightForm(16)}
    assert choice.record["a"] is not None
    assert choice.record["a"].program.latency_s == 1.0


def test_all_weights_of_a_padded_task_are_padded() -> None:
    assert chosen({"a": {0: 2.0, 16: 1.0}}, {"a": ("one", "two")}).forms == {
        "one": WeightForm(16),
        "two": WeightForm(16),
    }


def test_tasks_that_share_a_weight_agree_on_the_least_sum() -> None:
    shared: dict[str, tuple[str, ...]] = {"a": ("w",), "b": ("w",)}
    apart = {"a": {0: 2.0, 16: 1.0}, "b": {0: 1.0, 16: 4.0}}
    choice = chosen(apart, shared)
    assert padding(choice) == {"a": None, "b": None}
    assert choice.forms == {}
    often = chosen(apart, shared, counts={"a": 10})
    assert padding(often) == {"a": 16, "b": 16}
    assert often.forms == {"w": WeightForm(16)}


def test_sharing_joins_over_several_tasks() -> None:
    choice = chosen(
        {"a": {0: 9.0, 16: 1.0}, "b": {0: 1.0, 16: 9.0, 32: 1.0}, "c": {0: 9.0, 32: 1.0}, "d": {0: 2.0, 32: 1.0}},
        {"a": ("x",), "b": ("x", "y"), "c": ("y",), "d": ("z",)},
    )
    assert padding(choice) == {"a": None, "b": None, "c": None, "d": 32}


def test_a_count_that_lacks_a_record_somewhere_does_not_win() -> None:
    choice = chosen({"a": {0: 5.0, 16: 1.0}, "b": {0: 5.0}}, {"a": ("w",), "b": ("w",)})
    assert padding(choice) == {"a": None, "b": None}


def test_equal_sums_prefer_no_padding() -> None:
    assert padding(chosen({"a": {0: 1.0, 16: 1.0, 32: 1.0}}, {"a": ("w",)})) == {"a": None}


def test_a_task_without_any_record_runs_as_it_is() -> None:
    choice = chosen({"a": {}, "b": {32: 1.0}}, {"b": ("w",)})
    assert padding(choice) == {"a": None, "b": 32}
    assert choice.record["a"] is None
