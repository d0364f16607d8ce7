"""The program table for reading."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tvm_prune.codec import decode, encode
from tvm_prune.oracle.table import ProgramTable
from tvm_prune.report.markdown import to_markdown
from tvm_prune.report.programs import ProgramView, layers_text, program_sheet, program_view


def test_the_program_table_reads_as_agreed(dense_table: ProgramTable, golden: Callable[[str, str], None]) -> None:
    golden("programs.md", to_markdown(program_sheet(program_view(dense_table))))


def test_lines_are_ordered_by_time_and_shares_add_up_with_the_overhead(dense_table: ProgramTable) -> None:
    view = program_view(dense_table)
    totals = [line.total_us for line in view.lines]
    assert totals == sorted(totals, reverse=True)
    assert totals[0] == pytest.approx(4 * 23.0)
    overhead = view.overhead_us / (sum(totals) + view.overhead_us)
    assert sum(line.share for line in view.lines) + overhead == pytest.approx(1)


def test_a_layer_on_the_default_schedule_is_named_and_a_pooling_operator_is_not(dense_table: ProgramTable) -> None:
    first, *rest = dense_table.rows
    view = program_view(replace(dense_table, rows=(replace(first, program=None), *rest)))
    assert view.untuned == 1
    assert any("default schedule: tune them first" in note for note in program_sheet(view).notes)
    assert program_view(dense_table).untuned == 0


def test_the_view_survives_json(pruned_table: ProgramTable) -> None:
    view = program_view(pruned_table)
    assert decode(ProgramView, encode(view)) == view


def test_long_lists_of_layers_are_cut() -> None:
    assert layers_text(("a", "b", "c", "d")) == "a, b, c +1"
    assert layers_text(()) == "-"
