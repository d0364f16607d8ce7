"""Surgery: the smaller network computes what the masked one does."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.examples import few
from tests.graph.networks import NETWORKS, built, outputs, randomised
from tvm_prune.errors import PruningError
from tvm_prune.graph.groups import Group, find_groups
from tvm_prune.graph.surgery import prune_groups

Keep = dict[str, tuple[int, ...]]


@st.composite
def keeps(draw: st.DrawFn, groups: tuple[Group, ...]) -> Keep:
    """Any non-empty choice of units for some prunable groups."""
    chosen = {}
    for group in groups:
        if group.prunable and draw(st.booleans()):
            units = draw(st.sets(st.integers(0, group.width - 1), min_size=1))
            chosen[group.name] = tuple(sorted(units))
    return chosen


def removed(groups: tuple[Group, ...], keep: Keep, *, side: str) -> dict[str, list[int]]:
    """Return the channels that each layer loses on one side."""
    lost: dict[str, list[int]] = {}
    for group in groups:
        gone = [unit for unit in range(group.width) if unit not in keep.get(group.name, range(group.width))]
        for member in group.members:
            if member.side == side:
                per = member.channels_per_unit
                lost.setdefault(member.layer, []).extend(
                    c for u in gone for c in member.channels[u * per : (u + 1) * per]
                )
    return lost


def agree(one: list[torch.Tensor], two: list[torch.Tensor]) -> bool:
    return len(one) == len(two) and all(
        torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(one, two, strict=True)
    )


@pytest.mark.parametrize("name", sorted(NETWORKS))
@given(data=st.data())
@settings(max_examples=few(8))
def test_pruned_equals_masked(name: str, data: st.DataObject) -> None:
    module, example = built(name)
    groups = find_groups(module, example)
    keep = data.draw(keeps(groups))
    inputs = randomised(example, 7)
    smaller = prune_groups(module, example, keep)
    masked, _ = built(name)
    with torch.no_grad():
        for layer_name, channels in removed(groups, keep, side="in").items():
            layer: Any = masked.get_submodule(layer_name)
            if getattr(layer, "groups", 1) == 1:
                (layer.weight.transpose(0, 1) if getattr(layer, "transposed", False) else layer.weight)[:, channels] = 0
            else:
                size = layer.in_channels // layer.groups
                for channel in channels:
                    reads = slice(channel // size * (layer.out_channels // layer.groups), None)
                    layer.weight[reads][: layer.out_channels // layer.groups, channel % size] = 0
    assert type(smaller) is type(module)
    assert agree(outputs(smaller, inputs), outputs(masked, inputs))


@pytest.mark.parametrize("name", ["residual", "inverted", "flatten", "mlp", "shared", "concat_add"])
@given(data=st.data())
@settings(max_examples=few(8))
def test_removing_channels_whose_weights_are_zero_changes_nothing(name: str, data: st.DataObject) -> None:
    module, example = built(name)
    groups = find_groups(module, example)
    keep = data.draw(keeps(groups))
    with torch.no_grad():
        for layer_name, channels in removed(groups, keep, side="out").items():
            layer: Any = module.get_submodule(layer_name)
            for parameter in layer.parameters():
                parameter[channels] = 0
    inputs = randomised(example, 8)
    assert agree(outputs(prune_groups(module, example, keep), inputs), outputs(module, inputs))


def test_every_attribute_that_states_a_width_is_updated() -> None:
    module, example = built("grouped")
    smaller: Any = prune_groups(module, example, {"stem": [1, 2], "grouped": [0, 5], "mix": [1]})
    assert (smaller.stem.out_channels, smaller.stem.bias.shape) == (8, (8,))
    assert (smaller.grouped.in_channels, smaller.grouped.out_channels, smaller.grouped.groups) == (8, 8, 4)
    assert smaller.grouped.weight.shape == (8, 2, 3, 3)
    assert (smaller.mix.in_channels, smaller.mix.out_channels) == (8, 3)
    assert (smaller.multiply.in_channels, smaller.multiply.out_channels, smaller.multiply.groups) == (3, 6, 3)
    assert (smaller.norm.num_channels, smaller.norm.num_groups) == (6, 2)
    assert smaller.head.in_channels == 6


def test_batch_norm_statistics_prelu_and_bare_parameters_are_cut_with_their_channels() -> None:
    module, example = built("residual")
    smaller: Any = prune_groups(module, example, {"inner": [0, 3, 4]})
    assert torch.equal(smaller.inner_bn.running_var, module.inner_bn.running_var[[0, 3, 4]])
    assert smaller.inner_bn.num_features == 3
    module, example = built("scaled")
    smaller = prune_groups(module, example, {"a": [2, 6]})
    assert torch.equal(smaller.scale, module.scale[[2, 6]])
    assert (smaller.act.num_parameters, smaller.act.weight.shape) == (2, (2,))


def test_units_stay_in_their_old_order_however_they_are_listed() -> None:
    module, example = built("flatten")
    smaller: Any = prune_groups(module, example, {"conv1": [4, 1]})
    assert torch.equal(smaller.conv1.weight, module.conv1.weight[[1, 4]])


def test_the_given_module_and_its_flags_stay_as_they_were() -> None:
    module, example = built("residual")
    module.train()
    module.inner.requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    smaller: Any = prune_groups(module, example, {"inner": [0]})
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.training
    assert smaller.training
    assert smaller.inner_bn.training
    assert not smaller.inner.weight.requires_grad
    assert smaller.outer.weight.requires_grad


def test_pruning_twice_equals_pruning_once_with_the_units_combined() -> None:
    module, example = built("inverted")
    first = prune_groups(module, example, {"expand": [0, 2, 4, 6, 8]})
    second = prune_groups(first, example, {"expand": [1, 3]})
    once = prune_groups(module, example, {"expand": [2, 6]})
    assert all(torch.equal(a, b) for a, b in zip(second.parameters(), once.parameters(), strict=True))


def test_group_names_survive_pruning() -> None:
    module, example = built("concat")
    smaller = prune_groups(module, example, {"left": [0, 1], "right": [3]})
    assert [group.name for group in find_groups(smaller, example)] == [
        group.name for group in find_groups(module, example)
    ]


def test_a_pruned_network_trains() -> None:
    module, example = built("residual")
    smaller = prune_groups(module.train(), example, {"stem": [0, 1, 2], "inner": [1, 5]})
    smaller(torch.randn(4, 3, 8, 8)).sum().backward()
    assert all(parameter.grad is not None for parameter in smaller.parameters())


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({"iner": [0]}, "Residual has no group 'iner'; near names: inner"),
        ({"inner": []}, "group 'inner': keep is empty; keep at least one of its 12 units"),
        ({"inner": [0, 12]}, r"units \[12\] are out of range; it has units 0 to 11"),
        ({"inner": [-1]}, r"units \[-1\] are out of range"),
        ({"inner": [3, 3]}, r"units \[3\] are listed twice"),
        ({"fc": [0]}, "group 'fc' cannot be pruned: they are an output of the network"),
    ],
)
def test_units_that_do_not_fit_the_group_are_refused(keep: dict[str, list[int]], message: str) -> None:
    module, example = built("residual")
    with pytest.raises(PruningError, match=message):
        prune_groups(module, example, keep)


def test_a_cut_that_would_change_the_function_is_refused_with_the_reason() -> None:
    module, example = built("mixed")
    with pytest.raises(PruningError, match="channels of soft cannot be removed from Mixed: an operation mixes them"):
        prune_groups(module, example, {"soft": [0, 1, 2]})


def test_a_cut_after_which_the_network_cannot_run_is_refused_with_the_reason() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)
            self.register_buffer("mean", torch.ones(6, 1, 1))

        def forward(self, x: torch.Tensor) -> Any:
            return self.b(self.a(x) - self.mean)

    with pytest.raises(PruningError, match="the network no longer runs without them: The size of tensor a"):
        prune_groups(Fixed(), (torch.zeros(1, 3, 4, 4),), {"a": [0, 1]})


def test_an_ignored_layer_is_refused() -> None:
    module, example = built("residual")
    with pytest.raises(PruningError, match="'inner' cannot be pruned: inner is ignored"):
        prune_groups(module, example, {"inner": [0]}, ignored_layers=["inner"])


def test_all_units_of_an_unprunable_group_may_be_listed() -> None:
    module, example = built("residual")
    same = prune_groups(module, example, {"fc": range(5)})
    assert agree(outputs(same, randomised(example, 1)), outputs(module, randomised(example, 1)))
