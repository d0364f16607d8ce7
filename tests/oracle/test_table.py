"""The program table as values: what its rows say about models alike."""

import pytest

from tvm_prune.oracle.cost import Cost, Provenance
from tvm_prune.oracle.program import Task
from tvm_prune.oracle.table import ProgramTable, Row


def cost(latency_s: float) -> Cost:
    where = Provenance(source="measured", device="local", target="llvm", tvm_version="0", threads=1)
    return Cost(latency_s=latency_s, latency_spread_s=0.0, macs=1, params=1, bytes=4, provenance=where)


def row(name: str, *, isolated_s: float, in_situ_s: float, weight: int = 1) -> Row:
    task = Task(hash=name, kind="conv2d", shape="", weight=weight, layers=(name,), macs=1)
    return Row(task=task, program=None, isolated_s=isolated_s, in_situ_s=in_situ_s, trials=1)


def test_an_estimate_in_place_is_scaled_as_the_tables_own_sum() -> None:
    rows = (row("a", isolated_s=2.0, in_situ_s=3.0, weight=2), row("b", isolated_s=1.0, in_situ_s=1.5))
    table = ProgramTable(rows=rows, overhead_s=0.5, whole=cost(8.0))
    assert table.in_place(cost(5.0)).latency_s == pytest.approx(8.0), "its own sum comes to its own whole"
    assert table.in_place(cost(2.0)).latency_s == pytest.approx(0.5 + 2.0 * 1.5)


def test_without_programs_only_the_overhead_is_added() -> None:
    table = ProgramTable(rows=(), overhead_s=0.5, whole=cost(0.5))
    assert table.in_place(cost(2.0)).latency_s == 2.5
