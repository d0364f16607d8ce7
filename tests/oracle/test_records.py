"""Records: kept, found again by whom they are for, and never lost to one bad line."""

import json
import logging
import os
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tvm
from tvm.s_tir import Schedule
from tvm.s_tir.meta_schedule.database import JSONDatabase

from tests.oracle.kernels import TARGET, record_of, the_kernel
from tests.relay_passes.graphs import conv_graph, matmul_graph
from tvm_prune.errors import RecordsError
from tvm_prune.oracle.records import Records
from tvm_prune.oracle.spaces import SPACES, enumerate_candidates
from tvm_prune.oracle.spaces.candidate import Candidate
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tasks import Kernel

WORKLOADS, TUNING, QUARANTINE = "database_workload.json", "database_tuning_record.json", "quarantine.jsonl"


@cache
def conv() -> tuple[Kernel, list[Any]]:
    """Return a convolution and the records of three programs of it."""
    found = the_kernel(conv_graph((3, 8)))
    return found, [record_of(found, item) for item in enumerate_candidates(found.function, TARGET, limit=3)]


@cache
def dense() -> tuple[Kernel, list[Any]]:
    found = the_kernel(matmul_graph(1, 8, 8))
    return found, [record_of(found, item) for item in enumerate_candidates(found.function, TARGET, limit=2)]


def filled(folder: Path, target: Target = TARGET) -> None:
    """Write three trials of the convolution and two of the matrix product."""
    records = Records(folder, target)
    (first, (a, b, c)), (second, (d, e)) = conv(), dense()
    records.commit(first.key, first.workload_json, [(a, [3e-6, 2e-6, 4e-6]), (b, [1e-6])])
    records.commit(second.key, second.workload_json, [(d, [5e-6]), (e, [6e-6])])
    records.commit(first.key, first.workload_json, [(c, [2e-6])])
    records.close()


def opened(folder: Path, target: Target = TARGET) -> Records:
    """Return the records of a folder, the lock given back."""
    records = Records(folder, target)
    records.close()
    return records


def test_what_was_committed_is_there_at_once_and_after_a_restart(tmp_path: Path) -> None:
    found, kept = conv()
    records = Records(tmp_path, TARGET)
    assert records.best(found.key) is None
    records.commit(found.key, found.workload_json, [(kept[0], [3e-6, 2e-6, 9e-6]), (kept[1], [1e-6, 7e-6, 2e-6])])
    now = records.best(found.key)
    records.close()
    later = opened(tmp_path).best(found.key)
    assert now == later
    assert now is not None
    assert now.program.latency_s == 2e-6
    assert now.trials == 2
    assert now.record_json[0] == kept[1][0]


def test_later_trials_add_up_and_only_a_faster_one_replaces_the_best(tmp_path: Path) -> None:
    filled(tmp_path)
    records = opened(tmp_path)
    best = records.best(conv()[0].key)
    assert best is not None
    assert (best.program.latency_s, best.trials, len(records)) == (1e-6, 3, 2)
    assert (records.quarantined, records.foreign) == (0, 0)


def test_each_workload_is_written_once(tmp_path: Path) -> None:
    filled(tmp_path)
    assert len((tmp_path / WORKLOADS).read_text().splitlines()) == 2
    assert [json.loads(line)[0] for line in (tmp_path / TUNING).read_text().splitlines()] == [0, 0, 1, 1, 0]


@pytest.mark.parametrize(
    "other",
    [replace(TARGET, threads=1), replace(TARGET, cpu="znver4"), replace(TARGET, triple="aarch64-linux-gnu")],
    ids=["threads", "cpu", "triple"],
)
def test_records_of_another_target_are_kept_but_not_used(tmp_path: Path, other: Target) -> None:
    filled(tmp_path)
    records = opened(tmp_path, other)
    assert (len(records), records.foreign, records.quarantined) == (0, 5, 0)
    assert len(opened(tmp_path)) == 2


def test_records_of_another_space_version_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path)
    monkeypatch.setitem(SPACES, "direct_conv", SPACES["direct_conv"] + 1)
    records = opened(tmp_path)
    assert records.best(conv()[0].key) is None
    assert records.best(dense()[0].key) is not None
    assert records.foreign == 3


def test_a_trace_of_the_stock_search_is_not_used(tmp_path: Path) -> None:
    found, _ = conv()
    schedule = Schedule(tvm.IRModule({"main": found.function}))
    schedule.unroll(schedule.get_loops(schedule.get_sblock("conv2d_nhwc"))[-1])
    foreign = record_of(found, Candidate(schedule, enumerate_candidates(found.function, TARGET, limit=1)[0].program))
    filled(tmp_path)
    with open(tmp_path / TUNING, "a") as file:
        file.write(json.dumps([0, [foreign[0], [1e-9], *foreign[2:]]]) + "\n")
    records = opened(tmp_path)
    best = records.best(found.key)
    assert best is not None
    assert best.program.latency_s == 1e-6
    assert (records.foreign, records.quarantined) == (1, 0)


def test_a_truncated_last_line_costs_that_line_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(tmp_path)
    path = tmp_path / TUNING
    *_, last = path.read_text().splitlines()
    path.write_text(path.read_text()[:-40])
    with caplog.at_level(logging.WARNING):
        records = opened(tmp_path)
    assert f"{path} line 5 cannot be read; moved to {QUARANTINE}" in caplog.text
    best = records.best(conv()[0].key)
    assert best is not None
    assert (best.trials, records.quarantined, len(records)) == (2, 1, 2)
    assert json.loads((tmp_path / QUARANTINE).read_text()) == last[:-39]
    assert len(path.read_text().splitlines()) == 4


@pytest.mark.parametrize(
    "garbage",
    [
        "not json at all",
        "\x00\x01\x02",
        "[]",
        '{"a": 1}',
        "[99, [[], [1e-6], {}, []]]",
        "[0, 7]",
        '[0, [[["Annotate", 1, 2, 3]], [1e-6], {}, []]]',
        '[0, [[[]], ["fast"], {}, []]]',
    ],
)
def test_a_bad_line_in_the_middle_costs_that_line_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, garbage: str
) -> None:
    filled(tmp_path)
    path = tmp_path / TUNING
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], garbage, *lines[2:]]) + "\n")
    with caplog.at_level(logging.WARNING):
        records = opened(tmp_path)
    assert f"{path} line 3 cannot be read" in caplog.text
    assert (records.quarantined, len(records)) == (1, 2)
    assert json.loads((tmp_path / QUARANTINE).read_text()) == garbage
    assert path.read_text().splitlines() == lines
    caplog.clear()
    assert opened(tmp_path).quarantined == 0
    assert not caplog.text


def test_a_bad_workload_line_costs_its_records_and_no_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(tmp_path)
    path = tmp_path / WORKLOADS
    first, second = path.read_text().splitlines()
    path.write_text(f"{first[:50]}\n{second}\n")
    with caplog.at_level(logging.WARNING):
        records = opened(tmp_path)
    assert f"{path} line 1 cannot be read; its records are ignored" in caplog.text
    assert records.best(conv()[0].key) is None
    best = records.best(dense()[0].key)
    assert best is not None
    assert best.trials == 2
    caplog.clear()
    assert opened(tmp_path).quarantined == 0
    assert not caplog.text
    filled(tmp_path)
    again = opened(tmp_path).best(conv()[0].key)
    assert again is not None
    assert again.trials == 3


def test_a_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    records = Records(tmp_path, TARGET)
    with pytest.raises(RecordsError, match=rf"written by process {os.getpid()}; wait for it, or pass another folder"):
        Records(tmp_path, TARGET)
    records.close()
    records.close()
    Records(tmp_path, TARGET).close()


def test_the_stock_database_reads_our_files(tmp_path: Path) -> None:
    filled(tmp_path)
    database = JSONDatabase(str(tmp_path / WORKLOADS), str(tmp_path / TUNING))
    assert len(database) == 5
    for found, seconds in ((conv()[0], 1e-6), (dense()[0], 5e-6)):
        record = database.query_tuning_record(tvm.IRModule({"main": found.function}), TARGET.to_tvm(), "main")
        assert record is not None
        assert [float(value) for value in record.run_secs] == [seconds]


def test_what_is_tuned_to_the_end_is_remembered_for_its_target_only(tmp_path: Path) -> None:
    with closing(Records(tmp_path, TARGET)) as records:
        records.settle("task", 7)
        records.settle("task", 2)
        assert (records.settled("task"), records.settled("other")) == (7, 0)
    with open(tmp_path / "settled.jsonl", "a") as file:
        file.write('["cut')
    with closing(Records(tmp_path, TARGET)) as records:
        assert records.settled("task") == 7
    with closing(Records(tmp_path, replace(TARGET, threads=1))) as records:
        assert records.settled("task") == 0
