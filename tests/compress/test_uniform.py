"""How many units stay."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_prune.compress.uniform import kept_width
from tvm_prune.errors import ConfigError


@given(
    width=st.integers(1, 600),
    ratio=st.floats(0.001, 1.0),
    round_to=st.sampled_from([1, 4, 8, 16]),
)
def test_the_kept_width_is_a_multiple_or_the_whole_and_never_less_than_asked(
    width: int, ratio: float, round_to: int
) -> None:
    kept = kept_width(width, ratio, round_to=round_to)
    assert 1 <= kept <= width
    assert kept % round_to == 0 or kept == width
    assert kept >= min(width, math.floor(width * ratio + 0.5))
    assert kept < max(1, width * ratio + 0.5) + round_to
    assert kept <= kept_width(width, min(1.0, ratio * 1.5), round_to=round_to)


@pytest.mark.parametrize(
    ("width", "ratio", "round_to", "kept"),
    [
        (16, 0.5, 1, 8),
        (16, 0.6, 4, 12),
        (16, 0.1, 8, 8),
        (6, 0.5, 8, 6),
        (3, 0.01, 1, 1),
        (5, 0.5, 1, 3),
        (7, 1, 16, 7),
    ],
)
def test_widths_worked_by_hand(width: int, ratio: float, round_to: int, kept: int) -> None:
    assert kept_width(width, ratio, round_to=round_to) == kept


def test_ratios_and_roundings_out_of_range_are_refused() -> None:
    for ratio in (0, -0.5, 1.5):
        with pytest.raises(ConfigError, match=f"ratio must be above 0 and at most 1, not {ratio}"):
            kept_width(8, ratio, round_to=1)
    with pytest.raises(ConfigError, match="round_to must be at least 1, not 0"):
        kept_width(8, 0.5, round_to=0)
