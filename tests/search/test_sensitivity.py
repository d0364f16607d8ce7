"""What a layer's format costs is told by the network with that layer alone rounded."""

import pytest
import torch
from torch import nn

from tvm_prune.compress.calibrate import Seen, observe
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.scheme import FLOAT32, INT8, Scheme
from tvm_prune.search.sensitivity import Sensitivity, possible_formats, sensitivities

W2, W1A8 = Scheme.parse("w2"), Scheme.parse("w1a8")


@pytest.fixture
def model() -> CompressedModel:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)
    )
    return CompressedModel(module=module.eval(), example_inputs=(torch.randn(1, 3, 8, 8),))


@pytest.fixture
def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(32, 3, 8, 8, generator=generator), torch.randint(4, (32,), generator=generator)) for _ in range(2)
    ]


@pytest.fixture
def seen(model: CompressedModel, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, Seen]:
    return observe(model, ["0", "5"], [images for images, _ in batches])


def test_a_layer_without_an_integer_form_can_have_its_weights_rounded(model: CompressedModel) -> None:
    found = possible_formats(model, [FLOAT32, INT8, W2])
    assert found == {"0": [INT8, W2], "2": [W2], "5": [INT8, W2]}


def test_fewer_bits_move_what_the_network_says_by_more(
    model: CompressedModel, batches: list[tuple[torch.Tensor, torch.Tensor]], seen: dict[str, Seen]
) -> None:
    formats = {"0": [INT8, W1A8], "2": [W2], "5": [INT8]}
    told: list[int] = []
    found = list(sensitivities(model, formats, seen, batches, progress=told.append))
    assert [(each.layer, each.format) for each in found] == [("0", "int8"), ("0", "w1a8"), ("2", "w2"), ("5", "int8")]
    assert told == [0, 1, 2, 3]
    harm = {(each.layer, each.format): each.kl for each in found}
    assert 0 < harm["0", "int8"] < 0.02 * harm["0", "w1a8"]
    with torch.no_grad():
        right = sum(int((model.module(images).argmax(1) == labels).sum()) for images, labels in batches)
    assert {(each.float_correct, each.total) for each in found} == {(right, 64)}


def test_what_is_known_is_not_measured_again(
    model: CompressedModel, batches: list[tuple[torch.Tensor, torch.Tensor]], seen: dict[str, Seen]
) -> None:
    known = {("0", "int8"), ("5", "int8")}
    found = list(sensitivities(model, {"0": [INT8], "2": [W2], "5": [INT8]}, seen, batches, known=known))
    assert [each.layer for each in found] == ["2"]
    assert list(sensitivities(model, {"0": [INT8]}, seen, batches, known=known)) == []


def test_a_drop_is_what_was_right_before_and_is_not_any_more() -> None:
    one = Sensitivity(layer="a", format="int8", kl=0.1, correct=90, float_correct=95, total=100)
    assert one.drop == 0.05
