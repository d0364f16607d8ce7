"""Uniform pruning: how many units stay and which."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tvm_prune.compress.apply import apply_steps
from tvm_prune.compress.step import PruneStep
from tvm_prune.compress.uniform import kept_width, uniform_steps
from tvm_prune.errors import ConfigError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.groups import Group


def model() -> CompressedModel:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3), nn.ReLU(), nn.Linear(3, 5)).eval()
    return CompressedModel(module=module, example_inputs=(torch.zeros(1, 4),))


def rising(group: Group) -> np.ndarray:
    return np.arange(group.width, dtype=np.float64)


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


def test_the_units_with_the_highest_scores_stay_and_outputs_are_left() -> None:
    assert uniform_steps(model(), 0.5, round_to=1, scores=rising) == (
        PruneStep(group="0", width=8, keep=(4, 5, 6, 7)),
        PruneStep(group="2", width=3, keep=(1, 2)),
    )


def test_equal_scores_keep_the_first_units() -> None:
    steps = uniform_steps(model(), 0.25, round_to=1, scores=lambda group: np.ones(group.width))
    assert [step.keep for step in steps] == [(0, 1), (0,)]


def test_groups_that_stay_whole_have_no_step() -> None:
    assert [step.group for step in uniform_steps(model(), 0.5, round_to=4, scores=rising)] == ["0"]
    assert uniform_steps(model(), 1.0, round_to=1, scores=rising) == ()


def test_ignored_layers_are_left() -> None:
    steps = uniform_steps(model(), 0.5, round_to=1, scores=rising, ignored_layers=["0"])
    assert [step.group for step in steps] == ["2"]


def test_uniform_steps_apply() -> None:
    dense = model()
    pruned = apply_steps(dense, uniform_steps(dense, 0.5, round_to=2, scores=rising))
    assert pruned.module.get_parameter("0.weight").shape == (4, 4)
    assert pruned.module.get_parameter("2.weight").shape == (2, 4)
    assert pruned.module(torch.zeros(1, 4)).shape == (1, 5)


def test_ratios_and_roundings_out_of_range_are_refused() -> None:
    for ratio in (0, -0.5, 1.5):
        with pytest.raises(ConfigError, match=f"ratio must be above 0 and at most 1, not {ratio}"):
            uniform_steps(model(), ratio, round_to=1, scores=rising)
    with pytest.raises(ConfigError, match="round_to must be at least 1, not 0"):
        kept_width(8, 0.5, round_to=0)
