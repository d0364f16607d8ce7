"""Latency from the program table alone: vectors filled, input channels read, and a floor below which nothing falls."""

from dataclasses import replace

import pytest

from tests.search.toy import SETTINGS, search
from tvm_prune.oracle.table import ProgramTable
from tvm_prune.search.forecast import forecast
from tvm_prune.search.options import prune_to
from tvm_prune.search.trial import ScoredGroup, Trial


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """Return trial 0 of the toy."""
    return search(tmp_path_factory.mktemp("toy"), settings=replace(SETTINGS, latency_floor=1.0)).dense


def parts(dense: Trial) -> tuple[ProgramTable, dict[str, ScoredGroup]]:
    assert dense.table is not None
    assert dense.groups is not None
    return dense.table, {group.name: group for group in dense.groups}


def saved(dense: Trial, **counts: int) -> float:
    """Return the seconds that the forecast saves when groups keep so many units."""
    table, groups = parts(dense)
    steps = [prune_to(groups[name], count) for name, count in counts.items()]
    return table.whole.latency_s - forecast(table, tuple(groups.values()), steps)


def row_s(dense: Trial, layer: str) -> float:
    row = parts(dense)[0].row_of(layer)
    return row.total_s / len(row.task.layers)


def test_without_steps_it_is_the_whole(dense: Trial) -> None:
    assert saved(dense) == 0


def test_half_the_channels_save_half_of_the_layer_that_makes_them_and_of_the_one_that_reads_them(dense: Trial) -> None:
    assert saved(dense, two=64) == pytest.approx((row_s(dense, "two") + row_s(dense, "two.out")) / 2)


def test_both_sides_of_a_layer_multiply(dense: Trial) -> None:
    both = saved(dense, stem=32, one=32)
    only = saved(dense, stem=32)
    assert both - only == pytest.approx((row_s(dense, "one") + row_s(dense, "one.out")) / 4)


def test_a_vector_partly_filled_costs_as_much_as_a_full_one(dense: Trial) -> None:
    table, _ = parts(dense)
    program = table.row_of("one").program
    assert program is not None
    assert program.lanes == 16
    reading = saved(dense, one=63)
    assert reading == pytest.approx(row_s(dense, "one.out") / 64)
    assert saved(dense, one=49) == pytest.approx(15 * reading)
    assert saved(dense, one=48) == pytest.approx(16 * reading + row_s(dense, "one") / 4)


def test_no_kernel_falls_below_the_cheapest_of_the_table(dense: Trial) -> None:
    table, _ = parts(dense)
    floor_s = min(row.in_situ_s for row in table.rows)
    thin = saved(dense, stem=1, one=1, two=1)
    layers = [layer for row in table.rows for layer in row.task.layers]
    assert table.whole.latency_s - thin >= floor_s * len(layers)


def test_what_has_no_layers_and_no_groups_stays(dense: Trial) -> None:
    table, groups = parts(dense)
    anonymous = replace(table, rows=tuple(replace(row, task=replace(row.task, layers=())) for row in table.rows))
    assert forecast(anonymous, tuple(groups.values()), [prune_to(groups["one"], 16)]) == table.whole.latency_s
    assert forecast(replace(table, rows=()), (), []) == table.whole.latency_s


def test_a_program_that_is_not_known_has_no_vectors(dense: Trial) -> None:
    table, groups = parts(dense)
    unknown = replace(table, rows=tuple(replace(row, program=None) for row in table.rows))
    step = prune_to(groups["one"], 63)
    expected = (row_s(dense, "one") + row_s(dense, "one.out")) / 64
    found = table.whole.latency_s - forecast(unknown, tuple(groups.values()), [step])
    assert found == pytest.approx(expected)
