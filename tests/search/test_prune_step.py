"""The prune step: golden text on the cases of the paper's rule, and its properties."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_prune.oracle.program import Axis, Program
from tvm_prune.search.prune_step import combine, fallback_step, keep_counts, output_step, reduction_step


def program(
    out_c: tuple[int, ...] | None = None,
    *,
    in_c: tuple[int, ...] | None = None,
    lanes: int = 16,
    extent: int | None = None,
) -> Program:
    axes = {}
    for role, factors in (("out_c", out_c), ("in_c", in_c)):
        if factors is not None:
            padded = 1
            for factor in factors:
                padded *= factor
            axes[role] = Axis(extent=extent or padded, padded_extent=padded, factors=factors)
    return Program(space="s", space_version=1, variant="direct", axes=axes, lanes=lanes, parallel=1, latency_s=1e-5)


def test_steps_of_known_tilings_are_as_reviewed(golden: Callable[[str, str], None]) -> None:
    cases = [
        ((4, 4, 2, 16), 16),
        ((8, 8), 8),
        ((64,), 16),
        ((2, 2, 16), 16),
        ((2, 32), 16),
        ((1, 32), 16),
        ((1, 16), 16),
        ((1, 8), 8),
        ((16, 4), 4),
        ((1, 1, 1), 16),
        ((2, 24), 8),
        ((7,), 1),
    ]
    lines = []
    for factors, lanes in cases:
        tiling = program(factors, lanes=lanes)
        width = tiling.axes["out_c"].extent
        step = output_step(tiling)
        counts = keep_counts(width=width, least=1, stride=step, limit=3)
        text = "x".join(str(factor) for factor in factors)
        lines.append(
            f"{text} of {lanes} lanes: {width} channels, step {step}, keep {', '.join(map(str, counts)) or '-'}"
        )
    golden("prune_steps.txt", "\n".join(lines) + "\n")


def test_a_padded_program_goes_to_the_next_count_that_fills_vectors() -> None:
    padded = program((1, 16), extent=11)
    assert output_step(padded) == 4
    assert keep_counts(width=11, least=1, stride=4, limit=2) == (8, 4)


def test_a_program_without_a_channel_axis_asks_for_nothing() -> None:
    assert output_step(program()) == 1
    assert reduction_step(program()) == 1


def test_a_reduction_keeps_its_inner_tile() -> None:
    assert reduction_step(program(in_c=(4, 8))) == 8
    assert reduction_step(program(in_c=(32,))) == 1


def test_channels_become_units_of_the_group() -> None:
    assert output_step(program((4, 16)), per_unit=4) == 4
    # Behind a flatten of 5x5 pixels a tile of 10 elements ends with every second channel.
    assert reduction_step(program(in_c=(40, 10)), per_unit=25) == 2


def test_programs_combine_by_their_common_multiple() -> None:
    assert combine([4, 6], width=64).units == 12
    assert combine([4, 6], width=64).note == ""


def test_a_common_multiple_over_half_the_width_gives_way_to_the_largest_single_step() -> None:
    stride = combine([8, 12], width=40)
    assert stride.units == 12
    assert stride.note == "common multiple 24 is over half of 40: step 12"
    assert combine([32], width=40).units == 1


def test_a_group_without_a_program_falls_back_to_an_eighth() -> None:
    assert [fallback_step(width) for width in (3, 16, 40, 64, 512)] == [1, 2, 4, 8, 64]
    assert combine([], width=64).units == 8
    assert "no program" in combine([], width=64).note


def test_many_counts_are_thinned_to_doubling_distances() -> None:
    assert keep_counts(width=512, least=64, stride=16, limit=4) == (496, 480, 448, 384)


def test_at_a_faster_pace_the_nearest_count_is_further_away() -> None:
    assert keep_counts(width=512, least=64, stride=16, limit=3, pace=4) == (448, 384, 256)
    assert keep_counts(width=64, least=16, stride=16, limit=2, pace=2) == (32, 16)
    assert keep_counts(width=64, least=16, stride=16, limit=2, pace=8) == (16,)
    assert keep_counts(width=64, least=64, stride=16, limit=2, pace=2) == ()


def test_few_counts_are_filled_up_with_half_strides() -> None:
    assert keep_counts(width=32, least=7, stride=16, limit=3) == (24, 16, 8)


def test_after_a_step_that_was_too_small_only_whole_strides_remain() -> None:
    assert keep_counts(width=64, least=13, stride=16, limit=3, below=48) == (32, 16)
    assert keep_counts(width=64, least=13, stride=16, limit=3, below=16) == ()


@given(
    factors=st.lists(st.sampled_from([1, 2, 3, 4, 8]), min_size=1, max_size=4),
    lanes=st.sampled_from([1, 4, 8, 16]),
)
def test_the_step_never_exceeds_half_the_width_and_never_cuts_a_whole_vector(factors: list[int], lanes: int) -> None:
    tiling = program((*factors, lanes), lanes=lanes)
    width = tiling.axes["out_c"].extent
    step = output_step(tiling)
    assert 1 <= step <= max(1, width // 2)
    if width >= 2 * lanes:
        assert step % lanes == 0


@given(
    width=st.integers(1, 300),
    least=st.integers(1, 300),
    stride=st.integers(1, 64),
    limit=st.integers(1, 5),
    below=st.none() | st.integers(1, 300),
    pace=st.integers(1, 64),
)
def test_counts_fall_and_stay_inside_their_bounds(
    width: int, least: int, stride: int, limit: int, below: int | None, pace: int
) -> None:
    counts = keep_counts(width=width, least=least, stride=stride, limit=limit, below=below, pace=pace)
    assert len(counts) <= limit
    assert list(counts) == sorted(set(counts), reverse=True)
    assert all(least <= count < min(width, below or width) for count in counts)


@pytest.mark.parametrize("steps", [[4], [4, 8], [16, 3]])
def test_a_combined_step_fits_at_least_twice(steps: list[int]) -> None:
    for width in range(2, 130):
        assert combine(steps, width=width).units <= width // 2
