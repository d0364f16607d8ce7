"""Candidates: which groups a task leads to, what they lose, and in which order they are taken."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.search.toy import SETTINGS, WIDTHS, search
from tvm_prune.oracle.table import ProgramTable, Row
from tvm_prune.search.options import Limits, Option, best_units, options_of
from tvm_prune.search.settings import CPruneSettings
from tvm_prune.search.trial import Trial


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """Return trial 0 of the toy."""
    folder: Path = tmp_path_factory.mktemp("toy")
    return search(folder, settings=replace(SETTINGS, latency_floor=1.0)).dense


def table_of(dense: Trial) -> ProgramTable:
    assert dense.table is not None
    return dense.table


def options(
    dense: Trial, row: Row, *, settings: CPruneSettings = SETTINGS, limits: Limits | None = None
) -> tuple[Option, ...]:
    assert dense.groups is not None
    return options_of(row, table_of(dense), dense.groups, original=WIDTHS, settings=settings, limits=limits or Limits())


def test_a_task_leads_to_every_group_it_produces_or_reads(dense: Trial) -> None:
    found = options(dense, table_of(dense).row_of("two"))
    assert {group for option in found for group in option.groups} == {"two", "stem"}
    assert [option.text for option in found] == ["stem 64 -> 48", "stem 64 -> 32", "two 128 -> 112", "two 128 -> 96"]


def test_the_papers_mode_takes_all_groups_a_task_produces_together(dense: Trial) -> None:
    row = table_of(dense).row_of("one")
    assert row.task.layers == ("one", "one.out")
    found = options(dense, row, settings=replace(SETTINGS, candidates="task"))
    assert [option.text for option in found] == ["stem 64 -> 48, one 64 -> 48", "stem 64 -> 32, one 64 -> 32"]


def test_no_group_goes_below_the_sparsity_of_its_original_width(dense: Trial) -> None:
    found = options(
        dense, table_of(dense).row_of("two"), settings=replace(SETTINGS, max_sparsity=0.25, counts_per_group=4)
    )
    least = {group: min(len(s.keep) for o in found for s in o.steps if s.group == group) for group in ("stem", "two")}
    assert least == {"stem": 48, "two": 96}


def test_limits_close_counts_and_groups(dense: Trial) -> None:
    row = table_of(dense).row_of("two")
    assert [
        option.text for option in options(dense, row, limits=Limits(above={"stem": 32}, banned=frozenset({"two"})))
    ] == [
        "stem 64 -> 56",
        "stem 64 -> 48",
    ]
    deeper = options(dense, row, limits=Limits(below={"stem": 48, "two": 112}))
    assert [option.text for option in deeper] == ["stem 64 -> 32", "stem 64 -> 16", "two 128 -> 96", "two 128 -> 80"]


def test_a_group_that_cannot_be_pruned_gives_no_option(dense: Trial) -> None:
    found = options(dense, table_of(dense).row_of("head"))
    assert {group for option in found for group in option.groups} == {"stem"}


def test_a_row_without_a_program_falls_back_and_says_so(dense: Trial) -> None:
    table = table_of(dense)
    bare = replace(table, rows=tuple(replace(row, program=None) for row in table.rows))
    assert dense.groups is not None
    row = bare.row_of("two")
    found = options_of(row, bare, dense.groups, original=WIDTHS, settings=SETTINGS, limits=Limits())
    assert "no program known: step 16 from the width 128" in found[-1].note


def test_the_units_of_the_highest_scores_stay_and_ties_keep_the_lower() -> None:
    assert best_units([1.0, 3.0, 1.0, 2.0], 3) == (0, 1, 3)
    assert best_units([], 0) == ()


def test_a_group_that_many_layers_share_loses_more(dense: Trial) -> None:
    found = {option.text: option.loss for option in options(dense, table_of(dense).row_of("one"))}
    assert found["stem 64 -> 48"] == pytest.approx(3 * found["one 64 -> 48"])


def test_scores_of_zero_count_every_unit_alike(dense: Trial) -> None:
    table = table_of(dense)
    assert dense.groups is not None
    flat = tuple(replace(group, scores=(0.0,) * group.width) for group in dense.groups)
    found = options_of(table.row_of("two"), table, flat, original=WIDTHS, settings=SETTINGS, limits=Limits())
    assert all(option.loss > 0 for option in found)
