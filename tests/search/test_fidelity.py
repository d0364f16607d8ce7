"""Networks judged and trained by the answers of the original alone."""

import copy

import pytest
import torch
from torch import nn

from tvm_prune.errors import DataError, ModelError
from tvm_prune.search.fidelity import FidelityQuality, agreement, cosine


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4)).eval()


def inputs(count: int = 100) -> torch.Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(1))


def test_the_original_agrees_with_itself_and_another_network_seldom() -> None:
    quality = FidelityQuality(network(), inputs())
    assert quality.validate(network()).fraction == 1.0
    assert quality.test(network()).fraction == 1.0
    assert quality.validate(network(seed=5)).fraction < 0.9
    assert quality.has_test


def test_training_brings_a_network_closer_and_leaves_the_one_it_was_given() -> None:
    quality = FidelityQuality(network(), inputs(), lr=1e-2)
    worse = copy.deepcopy(network())
    with torch.no_grad():
        for value in worse.parameters():
            value.add_(0.3 * torch.randn(value.shape, generator=torch.Generator().manual_seed(2)))
    before = {name: value.clone() for name, value in worse.state_dict().items()}
    trained = quality.finetune(worse, steps=60, seed=0, final=False)
    assert all(torch.equal(value, before[name]) for name, value in worse.state_dict().items())
    held_back = inputs()[80:]
    assert cosine(trained(held_back), network()(held_back)) > cosine(worse(held_back), network()(held_back))
    again = quality.finetune(worse, steps=60, seed=0, final=False)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in trained.state_dict().items())


def test_inputs_that_steer_and_that_report_are_not_trained_on() -> None:
    quality = FidelityQuality(network(), inputs())
    trained_on = quality.calibration(1000)
    unseen = quality.unseen(1000)
    assert trained_on is not None
    assert unseen is not None
    assert (len(trained_on), len(unseen), quality.steps_per_epoch) == (80, 10, 5)
    assert quality.calibration(0) is None
    assert quality.unseen(0) is None


def test_gradients_point_away_from_the_original() -> None:
    quality = FidelityQuality(network(), inputs())
    gradients = quality.gradients(network(seed=3))
    assert set(gradients) == {name for name, _ in network().named_parameters()}


def test_places_are_counted_one_by_one() -> None:
    scores = torch.tensor([[[0.1, 0.9], [0.8, 0.2]], [[0.3, 0.7], [0.4, 0.6]]])
    other = torch.tensor([[[0.2, 0.8], [0.1, 0.9]], [[0.4, 0.6], [0.3, 0.7]]])
    assert agreement(scores, other) == (3, 4)


def test_too_few_inputs_and_outputs_without_classes_are_refused() -> None:
    with pytest.raises(DataError, match="4 inputs are too few to compare answers on; give at least 10"):
        FidelityQuality(network(), inputs(4))
    with pytest.raises(ModelError, match=r"the model returns \[1, 1\]; agreement needs scores"):
        FidelityQuality(nn.Linear(6, 1), inputs())
