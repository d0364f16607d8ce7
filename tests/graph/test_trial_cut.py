"""The trial cut: a right cut passes, each kind of wrong one is told apart."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tvm_prune.graph.slicing import Cuts, remove_channels
from tvm_prune.graph.trial_cut import why_wrong

CUTS: Cuts = {("0", "linear", "out"): np.array([1, 3]), ("2", "linear", "in"): np.array([1, 3])}
INPUTS = (torch.linspace(-1, 1, 8).reshape(2, 4),)


def network() -> Any:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).eval()


def test_a_right_cut_passes() -> None:
    assert why_wrong(network(), remove_channels(network(), CUTS), INPUTS, cuts=CUTS) == ""


def test_reading_the_wrong_channel_is_noticed() -> None:
    wrong = remove_channels(network(), {**CUTS, ("2", "linear", "in"): np.array([1, 4])})
    assert "mixes them" in why_wrong(network(), wrong, INPUTS, cuts=CUTS)


def test_cutting_one_side_only_is_noticed() -> None:
    half = remove_channels(network(), {("0", "linear", "out"): np.array([1, 3])})
    assert "no longer runs without them: mat1 and mat2" in why_wrong(network(), half, INPUTS, cuts=CUTS)


def test_cutting_an_output_is_noticed() -> None:
    cuts: Cuts = {("2", "linear", "out"): np.array([0])}
    assert "another shape" in why_wrong(network(), remove_channels(network(), cuts), INPUTS, cuts=cuts)


def test_outputs_that_overflow_say_nothing() -> None:
    large = network()
    with torch.no_grad():
        large[2].bias.fill_(float("inf"))
    wrong = remove_channels(large, {**CUTS, ("2", "linear", "in"): np.array([1, 4])})
    assert why_wrong(large, wrong, INPUTS, cuts=CUTS) == ""


@pytest.mark.parametrize("unit", range(6))
def test_every_single_swapped_unit_is_noticed(unit: int) -> None:
    module = network()
    cuts: Cuts = {("0", "linear", "out"): np.array([unit]), ("2", "linear", "in"): np.array([unit])}
    swapped: Cuts = {**cuts, ("2", "linear", "in"): np.array([(unit + 1) % 6])}
    assert why_wrong(module, remove_channels(module, cuts), INPUTS, cuts=cuts) == ""
    assert why_wrong(module, remove_channels(module, swapped), INPUTS, cuts=cuts) != ""
