"""Figures from timings: percentiles, spreads, paired ratios, and rounds in which the machine was itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_prune.oracle.timing import (
    best_rounds,
    keep,
    median_and_spread,
    median_interval,
    median_share,
    paired_ratio,
    percentile,
    steady_rounds,
    usual,
)

times = st.lists(st.floats(1e-6, 1e-1), min_size=1, max_size=40)


@given(values=times, percent=st.floats(0, 100))
def test_a_percentile_is_numpys(values: list[float], percent: float) -> None:
    assert percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)))


def test_median_and_spread_are_worked_by_hand() -> None:
    assert median_and_spread([5.0, 1.0, 2.0, 4.0, 3.0]) == pytest.approx((3.0, 4.6 - 1.4))
    assert median_and_spread([2.0]) == (2.0, 0.0)


def test_a_ratio_pairs_blocks_so_that_a_change_of_speed_cancels() -> None:
    incumbent = [1.0, 1.0, 2.0, 2.0]
    ratio = paired_ratio(incumbent, [0.5 * value for value in incumbent])
    assert (ratio.low, ratio.median, ratio.high) == (0.5, 0.5, 0.5)
    assert (ratio.incumbent_s, ratio.candidate_s, ratio.blocks) == (1.5, 0.75, 4)
    assert ratio.clears(0.5)
    assert not ratio.clears(0.49)


def test_a_share_pairs_rounds_so_that_a_change_of_speed_cancels() -> None:
    assert median_share([1.0, 4.0, 2.0, 2.0, 2.0], [2.0, 8.0, 8.0, 4.0, 4.0]) == 0.5


def test_more_blocks_make_a_median_surer_and_leave_its_percentiles() -> None:
    few = paired_ratio([1.0] * 10, [0.9, 1.1] * 5)
    many = paired_ratio([1.0] * 11, [0.9, 0.99, 0.99, 0.99, 0.99, 0.99, 0.99, 0.99, 0.99, 0.99, 1.1])
    assert (few.median_low, few.median_high) == (0.9, 1.1)
    assert not few.tells(1.0)
    assert (many.median_low, many.median_high) == (0.99, 0.99)
    assert many.tells(1.0)
    assert many.clears(0.99)
    assert many.tells(0.98)
    assert not many.clears(0.98)


@pytest.mark.parametrize(("count", "outside"), [(5, 0), (6, 0), (9, 1), (25, 7), (100, 39)])
def test_the_interval_of_a_median_leaves_out_what_the_binomial_table_says(count: int, outside: int) -> None:
    values = [float(number) for number in range(count)]
    assert median_interval(values) == (outside, count - 1 - outside)


def test_the_interval_of_a_median_encloses_it_as_often_as_promised() -> None:
    draws = np.random.default_rng(0).exponential(size=(2000, 25))
    enclosed = [low <= np.log(2) <= high for low, high in map(median_interval, draws)]
    assert 0.94 < np.mean(enclosed) < 0.98


def test_series_of_different_length_are_not_paired() -> None:
    with pytest.raises(ValueError, match="zip"):
        paired_ratio([1.0, 2.0], [1.0])


@given(pairs=st.lists(st.tuples(st.floats(1e-6, 1e-1), st.floats(1e-6, 1e-1)), min_size=1, max_size=30))
def test_a_ratio_lies_in_its_interval(pairs: list[tuple[float, float]]) -> None:
    ratio = paired_ratio([one for one, _ in pairs], [other for _, other in pairs])
    assert 0 < ratio.low <= ratio.median * (1 + 1e-9)
    assert ratio.median <= ratio.high * (1 + 1e-9)
    back = paired_ratio([other for _, other in pairs], [one for one, _ in pairs])
    assert back.blocks == ratio.blocks
    if len(pairs) % 2:
        assert back.median == pytest.approx(1 / ratio.median)


def test_rounds_in_which_the_canary_was_slower_than_usual_are_left_out() -> None:
    assert steady_rounds([1.0, 1.01, 1.2, 1.0, 1.04, 1.5], usual_s=1.0) == [0, 1, 3, 4]


def test_the_best_rounds_are_in_order() -> None:
    assert best_rounds([3.0, 1.0, 2.0, 5.0, 1.5], 3) == [1, 2, 4]


def test_the_usual_speed_is_neither_a_lucky_moment_nor_a_slow_hour() -> None:
    assert usual([1.0]) == 1.0
    assert usual([0.8] + [1.0] * 9) == pytest.approx(1.0)
    assert usual([1.0] * 5 + [2.0] * 15) == pytest.approx(1.0)


def test_all_series_keep_the_same_rounds() -> None:
    assert keep({"a": [1.0, 2.0, 3.0], "b": [4.0, 5.0, 6.0]}, [0, 2]) == {"a": [1.0, 3.0], "b": [4.0, 6.0]}


def test_an_interval_that_is_looked_at_often_is_wider() -> None:
    values = [float(number) for number in range(25)]
    assert median_interval(values, looks=4) == (5, 19)


def test_looking_four_times_misses_a_limit_that_is_the_truth_no_oftener_than_promised() -> None:
    generator = np.random.default_rng(1)
    cleared = 0
    for _ in range(600):
        blocks: list[float] = []
        for _ in range(4):
            blocks += list(generator.normal(1.0, 0.05, size=25))
            ratio = paired_ratio([1.0] * len(blocks), blocks, looks=4)
            if ratio.tells(1.0):
                cleared += ratio.clears(1.0)
                break
    assert cleared / 600 < 0.025
