"""Channels ranked by what is missed of them once the others have taken over."""

import numpy as np
import pytest
import torch
from torch import nn

from tvm_prune.errors import PruningError
from tvm_prune.graph import obs
from tvm_prune.graph.groups import find_groups
from tvm_prune.graph.importance import importance
from tvm_prune.graph.obs import second_moments, surgeon_scores
from tvm_prune.graph.units import Member


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the moments as they are."""
    monkeypatch.setattr(obs, "_DAMPING", 1e-12)


def reader(name: str = "0", width: int = 6, per_unit: int = 1) -> tuple[Member, ...]:
    channels = tuple(range(width * per_unit))
    return (Member(layer=name, kind="linear", side="in", channels_per_unit=per_unit, channels=channels),)


@pytest.mark.usefixtures("exact")
def test_the_first_unit_to_go_costs_what_a_new_fit_without_it_leaves() -> None:
    torch.manual_seed(0)
    net, inputs = nn.Sequential(nn.Linear(6, 4, bias=False)), torch.randn(500, 6) @ torch.randn(6, 6)
    scores = surgeon_scores(net, reader(), width=6, moments=second_moments(net, inputs))
    assert scores is not None
    outputs = net(inputs).detach().double()
    errors = []
    for unit in range(6):
        others = np.delete(inputs.double().numpy(), unit, axis=1)
        fitted = others @ np.linalg.lstsq(others, outputs.numpy(), rcond=None)[0]
        errors.append(((fitted - outputs.numpy()) ** 2).sum() / (outputs.numpy() ** 2).sum())
    assert scores.argmin() == int(np.argmin(errors))
    assert scores.min() == pytest.approx(min(errors), rel=1e-3)


@pytest.mark.usefixtures("exact")
def test_two_units_at_once_are_judged_by_what_the_first_has_left() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4, bias=False))
    inputs = torch.randn(500, 4)
    inputs[:, 1] = inputs[:, 0] + 1e-4 * torch.randn(500)
    with torch.no_grad():
        net.get_parameter("0.weight").copy_(torch.eye(4))
    scores = surgeon_scores(net, reader(width=4), width=4, moments=second_moments(net, inputs))
    assert scores is not None
    twins, others = sorted(scores[:2]), scores[2:]
    assert twins[0] < 1e-6
    # The one that is left now does the work of both.
    assert twins[1] > others.max() > 0.1


def test_a_unit_of_several_elements_is_judged_as_a_whole() -> None:
    torch.manual_seed(0)
    net, inputs = nn.Sequential(nn.Linear(6, 4)), torch.randn(300, 6)
    with torch.no_grad():
        net.get_parameter("0.weight")[:, 2:4] = 0
    scores = surgeon_scores(net, reader(width=3, per_unit=2), width=3, moments=second_moments(net, inputs))
    assert scores is not None
    assert scores.argmin() == 1
    assert scores[1] == pytest.approx(0, abs=1e-12)


def test_a_wide_group_loses_several_units_a_round_and_later_ones_never_cost_less() -> None:
    torch.manual_seed(0)
    net, inputs = nn.Sequential(nn.Linear(150, 20)), torch.randn(400, 150)
    scores = surgeon_scores(net, reader(width=150), width=150, moments=second_moments(net, inputs))
    assert scores is not None
    assert np.isfinite(scores).all()
    # Units that go in one round are ordered by their own errors, of which the highest so far is kept.
    assert 0 < scores.min() < 0.01 < scores.max()


class Net(nn.Module):
    """A convolution read by a convolution that runs twice, one read by a depthwise one only, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 6, 1)
        self.deep = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.head = nn.Linear(6, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.second(torch.relu(self.second(torch.relu(self.first(images)))))
        return self.head(self.deep(found).mean(dim=(2, 3)))  # type: ignore[no-any-return]  # a call of a module is Any


def test_moments_are_those_of_all_that_a_layer_reads() -> None:
    net, images = Net().eval(), torch.randn(4, 3, 5, 5)
    found = second_moments(net, images)
    assert sorted(found) == ["first", "head", "second"]
    assert found["first"].shape == (27, 27)
    with torch.no_grad():
        once = torch.relu(net.first(images))
        read = [rows.permute(0, 2, 3, 1).reshape(-1, 6).double() for rows in (once, torch.relu(net.second(once)))]
    torch.testing.assert_close(
        found["second"], sum(rows.T @ rows / rows.shape[0] for rows in read), atol=1e-5, rtol=1e-4
    )
    assert not any(part._forward_hooks for part in net.modules())


def test_the_criterion_uses_them_for_every_group_that_a_layer_reads() -> None:
    net, images = Net().eval(), torch.randn(16, 3, 5, 5)
    with torch.no_grad():
        net.head.weight[:, 4] = 0
    groups = {group.name: group for group in find_groups(net, (images[:1],))}
    group = next(group for group in groups.values() if any(member.layer == "head" for member in group.members))
    scores = importance(net, group, "obs", moments=second_moments(net, images))
    assert scores.mean() == pytest.approx(1)
    assert len(scores) == group.width


def test_where_no_layer_can_take_over_the_weights_decide() -> None:
    net, images = Net().eval(), torch.randn(16, 3, 5, 5)
    group = find_groups(net, (images[:1],))[0]
    np.testing.assert_array_equal(importance(net, group, "obs", moments={}), importance(net, group, "l1"))


def test_the_criterion_without_moments_is_refused() -> None:
    net = Net().eval()
    group = find_groups(net, (torch.randn(1, 3, 5, 5),))[0]
    with pytest.raises(PruningError, match=r"criterion 'obs' needs moments: pass moments=second_moments"):
        importance(net, group, "obs")
