"""Importance: each criterion by a case worked by hand, and by what all criteria share."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.graph.networks import NETWORKS, built
from tvm_prune.errors import PruningError
from tvm_prune.graph.groups import Group, find_groups
from tvm_prune.graph.importance import CRITERIA, accumulate_gradients, importance
from tvm_prune.graph.obs import second_moments


def two_layers(first: list[list[float]], second: list[list[float]]) -> tuple[Any, Group]:
    """Return a linear network with these weights, no bias, and its first group."""
    layers = [nn.Linear(len(rows[0]), len(rows), bias=False) for rows in (first, second)]
    network = nn.Sequential(*layers)
    with torch.no_grad():
        for layer, rows in zip(layers, (first, second), strict=True):
            layer.weight.copy_(torch.tensor(rows))
    return network, find_groups(network, (torch.zeros(1, len(first[0])),))[0]


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        # Rows (3, 4), (0, 1), (-2, 0); divided by their mean.
        ("l1", np.array([7, 1, 2]) / (10 / 3)),
        ("l2", np.array([5, 1, 2]) / (8 / 3)),
        (
            "fpgm",
            np.array([18**0.5 + 41**0.5, 18**0.5 + 5**0.5, 41**0.5 + 5**0.5]) / (2 * (18**0.5 + 41**0.5 + 5**0.5) / 3),
        ),
    ],
)
def test_a_weight_criterion_scores_filters_as_its_paper_says(criterion: str, expected: np.ndarray) -> None:
    network, group = two_layers([[3, 4], [0, 1], [-2, 0]], [[1, 1, 1]])
    assert importance(network, group, criterion) == pytest.approx(expected)


def test_scores_of_all_producers_of_a_group_are_added() -> None:
    module, inputs = built("residual")
    group = find_groups(module, inputs)[0]
    norms = [layer.weight.detach().double().flatten(1).abs().sum(1).numpy() for layer in (module.stem, module.outer)]
    assert importance(module, group, "l1") == pytest.approx(sum(norms) / sum(norms).mean())


def test_a_unit_of_several_channels_gets_the_sum_of_its_channels() -> None:
    module, inputs = built("grouped")
    group = find_groups(module, inputs)[0]
    channels = module.stem.weight.detach().double().flatten(1).abs().sum(1).numpy()
    units = channels.reshape(4, 4).sum(axis=0)
    assert importance(module, group, "l1") == pytest.approx(units / units.mean())


def test_batch_norm_scale_adds_the_norms_of_the_group() -> None:
    module, inputs = built("residual")
    scales = (module.stem_bn.weight.abs() + module.outer_bn.weight.abs()).detach().double().numpy()
    assert importance(module, find_groups(module, inputs)[0], "bn-scale") == pytest.approx(scales / scales.mean())


def test_taylor_is_the_squared_gradient_of_switching_a_channel() -> None:
    network, group = two_layers([[1, 2], [3, 0], [0, 0]], [[1, 2, 5]])
    batches = [(torch.tensor([[1.0, 1.0]]), torch.zeros(1, 1)), (torch.tensor([[1.0, 0.0]]), torch.zeros(1, 1))]
    gradients = accumulate_gradients(network, batches, lambda output, label: (output - label).sum())
    # d output / d w1 = second weight x input, inputs averaging (1, 0.5): w.g = 1 + 1, 6, 0 -> squares 4, 36, 0.
    assert importance(network, group, "taylor", gradients=gradients) == pytest.approx(np.array([4, 36, 0]) / (40 / 3))


def test_taylor_counts_bias_and_norm_too() -> None:
    module, inputs = built("residual")
    labels = torch.tensor([1, 2, 3, 4])
    gradients = accumulate_gradients(module, [(torch.randn(4, 3, 8, 8), labels)], functional.cross_entropy)
    group = find_groups(module, inputs)[1]
    conv = sum((p * gradients[f"inner.{n}"]).reshape(12, -1).sum(1) for n, p in module.inner.named_parameters())
    norm = sum(p * gradients[f"inner_bn.{n}"] for n, p in module.inner_bn.named_parameters())
    want = (conv**2 + norm**2).detach().double().numpy()
    assert importance(module, group, "taylor", gradients=gradients) == pytest.approx(want / want.mean(), rel=1e-4)


def test_gradients_are_averaged_without_touching_the_module() -> None:
    module, _ = built("residual")
    module.train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    batch = (torch.randn(2, 3, 8, 8), torch.tensor([0, 1]))
    with torch.no_grad():
        once = accumulate_gradients(module, [batch], functional.cross_entropy)
        twice = accumulate_gradients(module, [batch, batch], functional.cross_entropy)
    assert all(torch.allclose(once[name], twice[name]) for name in once)
    assert set(once) == dict(module.named_parameters()).keys()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert module.training


def test_random_depends_on_the_seed_and_the_group_alone() -> None:
    module, inputs = built("residual")
    stem, inner, _ = find_groups(module, inputs)
    first = importance(module, stem, "random", seed=1)
    assert np.array_equal(first, importance(module, stem, "random", seed=1))
    assert not np.array_equal(first, importance(module, stem, "random", seed=2))
    assert not np.array_equal(first, importance(module, inner, "random", seed=1)[:8])


@pytest.mark.parametrize("criterion", sorted(set(CRITERIA) - {"taylor", "bn-scale"}))
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_scores_have_mean_one_and_one_entry_a_unit(name: str, criterion: str) -> None:
    module, inputs = built(name)
    moments = second_moments(module, inputs[0]) if len(inputs) == 1 else {}
    for group in find_groups(module, inputs):
        scores = importance(module, group, criterion, moments=moments)
        assert scores.shape == (group.width,)
        assert scores.dtype == np.float64
        assert scores.mean() == pytest.approx(1)
        assert (scores >= 0).all()


def test_scores_that_are_all_zero_become_ones() -> None:
    network, group = two_layers([[0, 0], [0, 0]], [[1, 1]])
    assert importance(network, group, "l1").tolist() == [1, 1]


def test_a_transposed_convolution_is_scored_by_output_channel() -> None:
    module, inputs = built("upsampling")
    group = next(group for group in find_groups(module, inputs) if group.name == "up")
    norms = module.up.weight.detach().double().abs().sum((0, 2, 3)).numpy()
    assert importance(module, group, "l1") == pytest.approx(norms / norms.mean())


def test_what_cannot_be_scored_is_refused_with_what_to_do() -> None:
    module, inputs = built("flatten")
    group = find_groups(module, inputs)[1]
    with pytest.raises(
        PruningError, match="unknown criterion 'l3'; choose one of bn-scale, fpgm, l1, l2, obs, random, taylor"
    ):
        importance(module, group, "l3")
    with pytest.raises(PruningError, match="'taylor' needs gradients: pass gradients=accumulate_gradients"):
        importance(module, group, "taylor")
    with pytest.raises(PruningError, match=r"gradients hold nothing for conv2\.weight"):
        importance(module, group, "taylor", gradients={})
    with pytest.raises(PruningError, match="group 'conv2' has no batch norm with a scale"):
        importance(module, group, "bn-scale")
    with pytest.raises(PruningError, match="was given no batches"):
        accumulate_gradients(module, [], functional.cross_entropy)
    module.conv2 = nn.Conv2d(6, 7, 3)
    with pytest.raises(PruningError, match="has channel 9, but it has 7 channels: the group is of another module"):
        importance(module, group, "l1")
