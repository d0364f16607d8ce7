"""Groups: what belongs together, what cannot go and why."""

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from tests.graph.networks import NETWORKS, built
from tvm_prune.errors import InputShapeError, PruningError
from tvm_prune.graph.groups import Group, find_groups


def groups_of(name: str, **settings: Any) -> dict[str, Group]:
    module, inputs = built(name)
    return {group.name: group for group in find_groups(module, inputs, **settings)}


def described(group: Group) -> set[tuple[str, str, str, int]]:
    return {(member.layer, member.kind, member.side, member.channels_per_unit) for member in group.members}


def test_a_residual_sum_ties_its_producers_together() -> None:
    groups = groups_of("residual")
    assert list(groups) == ["stem", "inner", "fc"]
    assert (groups["stem"].width, groups["stem"].unit, groups["stem"].prunable) == (8, 1, True)
    assert described(groups["stem"]) == {
        ("stem", "conv", "out", 1),
        ("stem_bn", "norm", "out", 1),
        ("inner", "conv", "in", 1),
        ("outer", "conv", "out", 1),
        ("outer_bn", "norm", "out", 1),
        ("fc", "linear", "in", 1),
    }
    assert [member.layer for member in groups["stem"].producers()] == ["stem", "outer"]


def test_a_depthwise_convolution_follows_its_producer() -> None:
    expand = groups_of("inverted")["expand"]
    assert ("depth", "depthwise", "out", 1) in described(expand)
    assert ("project", "conv", "in", 1) in described(expand)
    assert expand.prunable


def test_a_concatenation_keeps_its_branches_apart_and_counts_one_used_twice() -> None:
    groups = groups_of("concat")
    assert described(groups["left"]) == {
        ("left", "conv", "out", 1),
        ("bn", "norm", "out", 2),
        ("join", "conv", "in", 2),
    }
    join = next(member for member in groups["left"].members if member.layer == "join")
    assert join.channels[:4] == (0, 10, 1, 11)
    assert groups["right"].width == 4


def test_a_layer_added_to_a_concatenation_belongs_to_both_branches() -> None:
    groups = groups_of("concat_add")
    spans = {
        name: next(member.channels for member in groups[name].members if member.layer == "wide")
        for name in ("left", "right")
    }
    assert spans == {"left": tuple(range(6)), "right": tuple(range(6, 10))}


def test_units_of_a_grouped_convolution_take_one_channel_of_every_conv_group() -> None:
    groups = groups_of("grouped")
    assert (groups["stem"].width, groups["stem"].unit) == (4, 4)
    assert groups["stem"].members[0].channels[:4] == (0, 4, 8, 12)
    assert (groups["grouped"].width, groups["grouped"].unit) == (6, 4)
    assert groups["grouped"].members[0].channels[:4] == (0, 6, 12, 18)


def test_a_unit_before_a_group_norm_is_what_fills_whole_norm_groups() -> None:
    mix = groups_of("grouped")["mix"]
    # 12 normed channels in 4 norm groups of 3; the multiplier makes 2 channels of each of the 6: 3 in, 6 out a unit.
    assert (mix.width, mix.unit) == (2, 3)
    assert ("norm", "norm", "out", 6) in described(mix)


def test_a_flattened_map_gives_the_classifier_one_span_a_channel() -> None:
    conv2 = groups_of("flatten")["conv2"]
    assert ("fc1", "linear", "in", 16) in described(conv2)
    assert next(m.channels for m in conv2.members if m.layer == "fc1")[16:32] == tuple(range(16, 32))


def test_a_shared_layer_ties_its_input_to_its_output() -> None:
    stem = groups_of("shared")["stem"]
    assert {("twice", "conv", "out", 1), ("twice", "conv", "in", 1)} <= described(stem)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_no_output_of_the_network_is_prunable(name: str) -> None:
    blocked = [group for group in groups_of(name).values() if "an output of the network" in group.reason]
    assert blocked
    assert not any(group.prunable for group in blocked)


def test_an_output_that_is_also_used_inside_is_not_prunable() -> None:
    groups = groups_of("two_in_two_out")
    assert not groups["early"].prunable
    assert not groups["late"].prunable
    assert groups["image"].prunable
    assert ("vector", "linear", "out", 1) in described(groups["image"])


def test_channels_added_to_an_input_are_bound_to_it() -> None:
    back = groups_of("upsampling")["back"]
    assert not back.prunable
    assert back.reason == "they are bound to the channels of the network's input 0"


def test_a_transposed_convolution_and_an_instance_norm_are_prunable() -> None:
    groups = groups_of("upsampling")
    assert groups["down"].prunable
    assert groups["up"].prunable


def test_bare_parameters_follow_or_are_named_as_the_reason() -> None:
    groups = groups_of("scaled")
    assert {("scale", "param", "out", 1), ("act.weight", "param", "out", 1)} <= described(groups["a"])
    assert groups["a"].prunable
    assert not groups["b"].prunable
    assert "(bare parameters involved: pixels)" in groups["b"].reason


def test_a_bare_parameter_of_a_misleading_shape_is_found_by_the_trial_cut() -> None:
    class Square(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 1)
            self.pixels = nn.Parameter(torch.randn(8, 8, 8))
            self.head = nn.Conv2d(8, 2, 1)

        def forward(self, x: torch.Tensor) -> Any:
            return self.head(self.conv(x) + self.pixels)

    conv = find_groups(Square(), (torch.zeros(1, 3, 8, 8),))[0]
    assert not conv.prunable
    assert "bare parameters involved: pixels" in conv.reason


def test_channels_mixed_by_softmax_or_layer_norm_are_not_prunable() -> None:
    groups = groups_of("mixed")
    assert "mixes them" in groups["soft"].reason
    assert "norm (LayerNorm)" in groups["normed"].reason
    assert (groups["halves"].width, groups["halves"].unit, groups["halves"].prunable) == (4, 2, True)


def test_halves_of_unequal_use_are_refused_because_a_chunk_would_shift() -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 1)
            self.a, self.b = nn.Conv2d(4, 6, 1), nn.Conv2d(4, 6, 1)
            self.head = nn.Conv2d(6, 2, 1)

        def forward(self, x: torch.Tensor) -> Any:
            left, right = self.conv(x).chunk(2, 1)
            return self.head(self.a(left) + self.b(right))

    groups = {group.name: group for group in find_groups(Halves(), (torch.zeros(1, 3, 4, 4),))}
    assert list(groups) == ["conv", "conv#2", "a", "head"]
    assert [group.prunable for group in groups.values()] == [False, False, True, False]


def test_a_layer_read_only_as_an_index_is_an_output_too() -> None:
    class Index(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

        def forward(self, x: torch.Tensor) -> Any:
            y = self.a(x)
            return y.argmax(1), self.b(y)

    assert not find_groups(Index(), (torch.zeros(1, 3, 4, 4),))[0].prunable


def test_tied_weights_and_computed_weights_are_named() -> None:
    tied = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2))
    tied[1].weight = tied[0].weight
    assert "0.weight = 1.weight is shared" in find_groups(tied, (torch.zeros(1, 6),))[0].reason
    normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 1)), nn.Conv2d(8, 2, 1))
    assert "0 computes its weight" in find_groups(normed, (torch.zeros(1, 3, 4, 4),))[0].reason


def test_layers_of_unknown_width_are_named() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = nn.Linear(4, 6)
            self.lstm = nn.LSTM(6, 8, batch_first=True)
            self.head = nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> Any:
            return self.head(self.lstm(self.project(x))[0])

    project = find_groups(Recurrent(), (torch.zeros(2, 3, 4),))[0]
    assert project.reason == "lstm (LSTM) is of a type whose width cannot be changed here"


@pytest.mark.parametrize(
    "layer",
    [nn.ConvTranspose2d(8, 8, 1, groups=4), nn.Conv2d(8, 4, 1, groups=4)],
    ids=["grouped_transposed", "depthwise_that_narrows"],
)
def test_convolutions_that_cannot_shrink_evenly_are_named(layer: nn.Module) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 1), layer, nn.Conv2d(layer.out_channels, 2, 1))  # type: ignore[arg-type]  # the argument is one of several kinds
    stem = find_groups(network, (torch.zeros(1, 3, 4, 4),))[0]
    assert not stem.prunable
    assert stem.reason.startswith("1 ")


def test_pixel_shuffle_is_named_as_a_rearrangement() -> None:
    network = nn.Sequential(nn.Conv2d(3, 16, 1), nn.PixelShuffle(2), nn.Conv2d(4, 2, 1))
    assert "next to 2 does not keep them" in find_groups(network, (torch.zeros(1, 3, 4, 4),))[0].reason


def test_frozen_parameters_and_a_module_in_training_are_analysed_and_left_alone() -> None:
    module, inputs = built("residual")
    module.requires_grad_(False).train()
    module.stem_bn.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with torch.no_grad():
        assert find_groups(module, inputs)[0].prunable
    assert module.training
    assert not module.stem_bn.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_the_same_model_gives_the_same_groups() -> None:
    assert groups_of("concat") == groups_of("concat")


@pytest.mark.parametrize(
    ("ignored", "blocked"),
    [
        (("inner",), {"inner"}),
        (("*ner",), {"inner"}),
        ((nn.Linear,), set()),
        (("outer", "inner"), {"stem", "inner"}),
    ],
    ids=["name", "glob", "type", "several"],
)
def test_an_ignored_layer_keeps_its_output_channels(ignored: tuple[Any, ...], blocked: set[str]) -> None:
    groups = groups_of("residual", ignored_layers=ignored)
    assert {name for name, group in groups.items() if "is ignored" in group.reason} - {"fc"} == blocked
    assert not any(groups[name].prunable for name in blocked)


def test_ignoring_a_container_ignores_all_layers_inside() -> None:
    network = nn.Sequential(nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 5)), nn.Linear(5, 2))
    groups = find_groups(network, (torch.zeros(1, 4),), ignored_layers=["0"])
    assert [group.reason for group in groups[:2]] == ["0.0 is ignored", "0.1 is ignored"]


def test_a_pattern_that_matches_nothing_lists_near_names() -> None:
    with pytest.raises(PruningError, match=r"'iner' matches no layer of Residual; near names: .*inner"):
        groups_of("residual", ignored_layers=["iner"])
    with pytest.raises(PruningError, match="no layer of type LSTM; it has BatchNorm2d, Conv2d, Linear, Residual"):
        groups_of("residual", ignored_layers=[nn.LSTM])


def test_inputs_that_do_not_fit_are_named_with_their_shapes() -> None:
    module, _ = built("residual")
    with pytest.raises(InputShapeError, match=r"Residual does not run on inputs \(1, 4, 8, 8\) float32"):
        find_groups(module, (torch.zeros(1, 4, 8, 8),))


def test_scripted_modules_and_modules_that_cannot_be_copied_are_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.trace(nn.Linear(3, 2), torch.zeros(1, 3))
    with pytest.raises(PruningError, match=r"Give the nn\.Module it was made from"):
        find_groups(scripted, (torch.zeros(1, 3),))
    layer = nn.Linear(3, 2)
    layer.cached = layer.weight * 2
    with pytest.raises(PruningError, match="Linear cannot be copied"):
        find_groups(layer, (torch.zeros(1, 3),))


def test_a_network_without_weights_has_no_groups() -> None:
    assert find_groups(nn.ReLU(inplace=True), (torch.zeros(1, 3),)) == ()
