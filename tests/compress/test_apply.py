"""Applying steps: in order, in one cut, refused where they do not fit."""

from typing import Any

import pytest
import torch
from torch import nn

from tvm_prune.compress.apply import apply_steps, kept_outputs
from tvm_prune.compress.step import PruneStep
from tvm_prune.errors import RecipeError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.scheme import Scheme


def model() -> CompressedModel:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    return CompressedModel(module=module, example_inputs=(torch.zeros(1, 4),), precision={"0": Scheme()})


def step(group: str, width: int, *keep: int) -> PruneStep:
    return PruneStep(group=group, width=width, keep=keep)


def test_steps_on_one_group_build_on_each_other() -> None:
    dense = model()
    source: Any = dense.module
    pruned: Any = apply_steps(dense, (step("0", 8, 0, 2, 4, 6), step("2", 6, 1, 5), step("0", 4, 1, 3))).module
    assert torch.equal(pruned[0].weight, source[0].weight[[2, 6]])
    assert torch.equal(pruned[2].weight, source[2].weight[[1, 5]][:, [2, 6]])
    assert torch.equal(pruned[4].weight, source[4].weight[:, [1, 5]])


def test_the_outputs_that_stay_are_told_by_layer_over_all_steps() -> None:
    steps = (step("0", 8, 0, 2, 4, 6), step("2", 6, 1, 5), step("0", 4, 1, 3))
    assert kept_outputs(model(), steps) == {"0": (2, 6), "2": (1, 5)}
    assert kept_outputs(model(), ()) == {}
    with pytest.raises(RecipeError, match="step 1 expects group '0' to be 4 wide, but it is 8"):
        kept_outputs(model(), (step("0", 4, 1),))


def test_applying_together_equals_applying_one_after_the_other() -> None:
    steps = (step("2", 6, 0, 3, 4), step("0", 8, 1, 2, 3), step("2", 3, 0, 2))
    together = apply_steps(model(), steps)
    apart = model()
    for one in steps:
        apart = apply_steps(apart, (one,))
    pairs = zip(together.module.parameters(), apart.module.parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)


def test_the_rest_of_the_model_is_carried_over_and_the_given_one_is_not_changed() -> None:
    dense = model()
    before = [parameter.clone() for parameter in dense.module.parameters()]
    pruned = apply_steps(dense, (step("0", 8, 0),))
    assert pruned.precision == dense.precision
    assert pruned.example_inputs is dense.example_inputs
    assert all(torch.equal(a, b) for a, b in zip(dense.module.parameters(), before, strict=True))
    assert apply_steps(dense, ()) is dense


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((step("conv1", 8, 0),), "step 1 prunes group 'conv1', which Sequential does not have; near names: 0, 2, 4"),
        ((step("0", 16, 0),), "step 1 expects group '0' to be 16 wide, but it is 8"),
        ((step("0", 8, 0, 1), step("0", 8, 0)), "step 2 expects group '0' to be 8 wide, but it is 2"),
        ((step("0", 8),), r"step 1 \(group '0', width 8\) keeps nothing"),
        ((step("0", 8, 0, 8),), r"keeps units outside 0 to 7: \[0, 8\]"),
        ((step("0", 8, -1, 3),), r"keeps units outside 0 to 7: \[-1, 3\]"),
        ((step("0", 8, 3, 1),), r"in rising order, each once: \[3, 1\]"),
        ((step("0", 8, 3, 3),), r"in rising order, each once: \[3, 3\]"),
        ((step("4", 3, 0),), "the recipe cannot be applied: group '4' cannot be pruned: they are an output"),
    ],
)
def test_a_step_that_does_not_fit_is_refused(steps: tuple[PruneStep, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        apply_steps(model(), steps)
