"""Layers fitted by least squares: what can be restored is, what cannot be fitted is left alone."""

import copy

import pytest
import torch
from torch import nn

from tests.graph.networks import Residual
from tvm_prune.graph import refit as refit_module
from tvm_prune.graph.behaviour import Behaviour
from tvm_prune.graph.groups import cuts_of, trace
from tvm_prune.graph.refit import refit
from tvm_prune.graph.surgery import prune_groups


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fit without holding the weights where they are."""
    monkeypatch.setattr(refit_module, "_RIDGE", 1e-9)


def shaken(module: nn.Module, seed: int = 0) -> nn.Module:
    """Return a copy with other weights."""
    generator = torch.Generator().manual_seed(seed)
    other = copy.deepcopy(module).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return other


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(
    "layer",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "stride": 2},
        {"kernel_size": (1, 3), "padding": (0, 1), "stride": (2, 1)},
        {"kernel_size": 3, "dilation": (1, 2), "padding": 2},
        {"kernel_size": 1},
    ],
    ids=str,
)
@pytest.mark.usefixtures("exact")
def test_a_convolution_finds_back_the_weights_that_gave_the_outputs(layer: dict[str, object], bias: bool) -> None:
    torch.manual_seed(1)
    reference = nn.Sequential(nn.Conv2d(3, 4, bias=bias, **layer))  # type: ignore[arg-type]  # the argument is one of several kinds
    found = refit(shaken(reference), Behaviour.of(reference, torch.randn(32, 3, 9, 8)), {})
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(found.get_parameter(name), parameter, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("shape", [(256, 6), (32, 8, 6)], ids=str)
@pytest.mark.usefixtures("exact")
def test_a_linear_layer_does_so_as_well(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    reference = nn.Sequential(nn.Linear(6, 5))
    found = refit(shaken(reference), Behaviour.of(reference, torch.randn(shape)), {})
    torch.testing.assert_close(found.get_parameter("0.weight"), reference.get_parameter("0.weight"), atol=1e-3, rtol=0)


class Doubled(nn.Module):
    """Channel 1 of the first layer is twice channel 0."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 4, 3, padding=1)
        with torch.no_grad():
            self.first.weight[1] = 2 * self.first.weight[0]
            assert self.first.bias is not None
            self.first.bias[1] = 2 * self.first.bias[0]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(images)))  # type: ignore[no-any-return]  # a call of a module is Any


@pytest.mark.usefixtures("exact")
def test_a_channel_that_the_others_tell_is_not_missed() -> None:
    dense, images = Doubled().eval(), torch.randn(16, 3, 12, 12)
    pruned = prune_groups(dense, (images[:1],), {"first": (0, 2)})
    fitted = refit(pruned, Behaviour.of(dense, images), {"first": (0, 2)})
    with torch.no_grad():
        assert (pruned(images) - dense(images)).abs().max() > 0.1
        torch.testing.assert_close(fitted(images), dense(images), atol=2e-3, rtol=0)


def pruned_residual() -> tuple[nn.Module, nn.Module, dict[str, tuple[int, ...]], torch.Tensor]:
    torch.manual_seed(0)
    dense = Residual().eval()
    images = torch.randn(64, 3, 8, 8)
    groups = {group.name: group.width for group in trace(dense, (images[:1],)).groups}
    keep = {"stem": tuple(range(groups["stem"] // 2)), "inner": tuple(range(0, groups["inner"], 2))}
    cuts = cuts_of(trace(dense, (images[:1],)).groups, keep)
    kept = {
        layer: tuple(unit for unit in range(dense.get_parameter(f"{layer}.weight").shape[0]) if unit not in removed)
        for (layer, kind, side), removed in cuts.items()
        if side == "out" and kind in ("conv", "linear", "norm")
    }
    return dense, prune_groups(dense, (images[:1],), keep), kept, images


def test_a_pruned_residual_network_comes_nearer_to_the_dense_one_also_on_other_images() -> None:
    dense, pruned, kept, images = pruned_residual()
    fitted = refit(pruned, Behaviour.of(dense, images), kept)
    others = torch.randn(64, 3, 8, 8)
    with torch.no_grad():
        before = (pruned(others) - dense(others)).square().mean()
        after = (fitted(others) - dense(others)).square().mean()
    assert after < 0.7 * before


def test_readers_alone_are_fitted_where_no_more_is_asked_for() -> None:
    dense, pruned, kept, images = pruned_residual()
    behaviour = Behaviour.of(dense, images)
    fitted = refit(pruned, behaviour, kept, only_readers=True)
    changed = {
        name
        for name, parameter in fitted.named_parameters()
        if not torch.equal(parameter, pruned.get_parameter(name)) and name.endswith("weight")
    }
    assert "stem.weight" not in changed
    assert changed == {
        f"{name}.weight"
        for name in behaviour.rows
        if pruned.get_parameter(f"{name}.weight").shape[1] < dense.get_parameter(f"{name}.weight").shape[1]
    }


def test_neither_network_is_changed_and_the_result_is_a_function_of_the_seed() -> None:
    dense, pruned, kept, images = pruned_residual()
    before = [copy.deepcopy(module.state_dict()) for module in (dense, pruned)]
    one, two = (refit(pruned, Behaviour.of(dense, images, seed=7), kept) for _ in range(2))
    for module, state in zip((dense, pruned), before, strict=True):
        assert all(torch.equal(state[name], value) for name, value in module.state_dict().items())
        assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in one.modules())


class Normed(nn.Module):
    """A convolution, its norm, and a reader."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 1, bias=False)
        self.norm = nn.BatchNorm2d(4, momentum=0.3)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(self.conv(images)))  # type: ignore[no-any-return]  # a call of a module is Any


def statistics(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var


def test_batch_norm_keeps_statistics_that_nothing_has_changed() -> None:
    reference = Normed().eval()
    statistics(reference.norm)[0].add_(torch.randn(4))
    fitted = refit(reference, Behaviour.of(reference, 5 + torch.randn(16, 3, 6, 6)), {})
    assert all(torch.equal(value, fitted.state_dict()[name]) for name, value in reference.state_dict().items())
    assert not any(part.training for part in fitted.modules())


def test_batch_norm_statistics_move_with_what_it_is_fed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refit_module, "_RIDGE", 1e9)  # the convolution stays as it is
    reference, images = Normed().eval(), 5 + torch.randn(16, 3, 6, 6)
    mean, variance = statistics(reference.norm)
    with torch.no_grad():
        mean.copy_(reference.conv(images).mean(dim=(0, 2, 3)))
        variance.copy_(reference.conv(images).var(dim=(0, 2, 3), correction=0))
        pruned = copy.deepcopy(reference)
        pruned.conv.weight.mul_(2.0)
        fitted = refit(pruned, Behaviour.of(reference, images), {})
        assert isinstance(fitted, Normed)
        found = fitted.norm(fitted.conv(images))
    torch.testing.assert_close(found.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(found.var(dim=(0, 2, 3)), torch.ones(4), atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.ConvTranspose2d(4, 4, 3),
    ],
    ids=["depthwise", "padding by name", "reflecting", "transposed"],
)
def test_what_is_no_plain_convolution_keeps_its_weights(layer: nn.Module) -> None:
    reference = nn.Sequential(layer)
    other = shaken(reference)
    found = refit(other, Behaviour.of(reference, torch.randn(8, 4, 6, 6)), {})
    assert torch.equal(found.get_parameter("0.weight"), other.get_parameter("0.weight"))


def test_a_layer_that_reads_only_zeros_keeps_its_weights_and_moves_its_bias() -> None:
    reference = nn.Sequential(nn.Linear(3, 2))
    other = shaken(reference)
    found = refit(other, Behaviour.of(reference, torch.zeros(32, 3)), {})
    assert torch.equal(found.get_parameter("0.weight"), other.get_parameter("0.weight"))
    torch.testing.assert_close(found.get_parameter("0.bias"), reference.get_parameter("0.bias"))


class Twice(nn.Module):
    """One convolution runs twice, another never."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv2d(4, 4, 3, padding=1)
        self.idle = nn.Conv2d(4, 4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.shared(self.shared(images))  # type: ignore[no-any-return]  # a call of a module is Any


def test_a_layer_that_runs_twice_or_never_keeps_its_weights() -> None:
    reference = Twice()
    other = shaken(reference)
    found = refit(other, Behaviour.of(reference, torch.randn(8, 4, 6, 6)), {})
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in found.state_dict().items())
