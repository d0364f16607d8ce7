"""Where did the time go, and why is this layer not faster."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tvm_prune.oracle.table import ProgramTable
from tvm_prune.report.change import TaskChange, change_sheet, task_changes
from tvm_prune.report.markdown import to_markdown


def changes_of(dense: ProgramTable, pruned: ProgramTable) -> dict[str, TaskChange]:
    changes = task_changes(dense, pruned, unprunable={"head": "its channels are an output of the graph"})
    return {change.task: change for change in changes}


def test_the_changes_read_as_agreed(
    dense_table: ProgramTable, pruned_table: ProgramTable, golden: Callable[[str, str], None]
) -> None:
    changes = task_changes(dense_table, pruned_table, unprunable={"head": "its channels are an output of the graph"})
    golden("change.md", to_markdown(change_sheet(changes)))


def test_every_microsecond_of_both_tables_is_in_one_line(dense_table: ProgramTable, pruned_table: ProgramTable) -> None:
    changes = task_changes(dense_table, pruned_table)
    assert sum(change.before_us for change in changes) == pytest.approx(
        1e6 * (dense_table.explained_s - dense_table.overhead_s)
    )
    assert sum(change.after_us for change in changes) == pytest.approx(
        1e6 * (pruned_table.explained_s - pruned_table.overhead_s)
    )


def test_a_split_task_lists_its_widths_and_its_padding(dense_table: ProgramTable, pruned_table: ProgramTable) -> None:
    change = changes_of(dense_table, pruned_table)["conv2d 32x32 3x3 16->16"]
    assert change.channels == "16 -> 16/11"
    assert change.programs_after == 2
    assert change.after_us == pytest.approx(2 * 18 + 2 * 16)
    assert "program padded: out_c 11 runs as 16" in change.reasons


def test_a_task_shared_by_layers_of_two_dense_tasks_is_divided(
    dense_table: ProgramTable, pruned_table: ProgramTable
) -> None:
    merged = replace(
        pruned_table.rows[0],
        task=replace(pruned_table.rows[0].task, layers=("stages.0.0.conv1", "stages.2.1.conv1"), weight=2),
    )
    both = replace(pruned_table, rows=(merged,))
    after = [change.after_us for change in task_changes(dense_table, both) if change.layers]
    assert after == [pytest.approx(18.0), pytest.approx(18.0), 0.0]


def test_unpruned_layers_say_whether_they_could_have_been(
    dense_table: ProgramTable, pruned_table: ProgramTable
) -> None:
    changes = changes_of(dense_table, pruned_table)
    assert changes["conv2d 64->10"].reasons[0] == "not pruned: its channels are an output of the graph"
    assert changes["conv2d 8x8 3x3 64->64"].reasons[0] == "not pruned: no step on it was accepted"


def test_cold_weights_and_the_launch_floor_are_told_apart(
    dense_table: ProgramTable, pruned_table: ProgramTable
) -> None:
    changes = changes_of(dense_table, pruned_table)
    assert "memory bound: 22.0 us with weights in cache, 40.0 us in place" in changes["conv2d 8x8 3x3 64->64"].reasons
    assert any("launch floor of about 0.5 us" in text for text in changes["conv2d 64->10"].reasons)


def test_an_untuned_task_and_lost_efficiency_are_reasons(dense_table: ProgramTable, pruned_table: ProgramTable) -> None:
    slow = replace(pruned_table.rows[0], in_situ_s=100e-6, isolated_s=100e-6)
    untuned = replace(pruned_table.rows[1], program=None)
    changes = changes_of(dense_table, replace(pruned_table, rows=(slow, untuned)))
    reasons = changes["conv2d 32x32 3x3 16->16"].reasons
    assert "runs the default schedule: not tuned" in reasons
    assert "less work a call: 205 -> 32.4 GFLOPS" in reasons


def test_layers_that_vanished_are_said_so(dense_table: ProgramTable, pruned_table: ProgramTable) -> None:
    changes = changes_of(dense_table, replace(pruned_table, rows=()))
    assert changes["conv2d 64->10"].reasons == ("its layers are in no task of the pruned model",)
    assert changes["conv2d 64->10"].speedup == 0
