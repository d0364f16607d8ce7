"""The zoo builds, counts what the papers count, exports, and is a function of the seed."""

import pytest
import torch
from torch import nn

from tvm_prune.errors import ModelError
from tvm_prune.models.zoo import ZOO, build


def _params(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


@pytest.mark.parametrize("name", ZOO)
def test_a_net_maps_a_batch_to_logits(name: str) -> None:
    module = build(name, num_classes=7)
    with torch.no_grad():
        assert module(torch.zeros(2, *ZOO[name].input_shape)).shape == (2, 7)
    assert not module.training


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "mobilenetv2-0.5"])
def test_a_net_survives_export(name: str) -> None:
    module = build(name)
    inputs = (torch.randn(1, *ZOO[name].input_shape),)
    exported = torch.export.export(module, inputs).module()
    torch.testing.assert_close(exported(*inputs), module(*inputs))


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("resnet20", 0.270e6, 0.280e6),
        ("resnet32", 0.460e6, 0.475e6),
        ("resnet56", 0.850e6, 0.862e6),
        ("resnet18", 11.1e6, 11.2e6),
        ("vgg16", 14.7e6, 14.8e6),
        ("mobilenetv2", 2.2e6, 2.35e6),
        ("lenet5", 62_006, 62_006),
    ],
)
def test_parameters_are_as_many_as_published(name: str, least: float, most: float) -> None:
    assert least <= _params(build(name)) <= most


@pytest.mark.parametrize("name", ["resnet20", "vgg16", "mobilenetv2"])
def test_every_convolution_has_a_norm_and_no_bias(name: str) -> None:
    layers = list(build(name).modules())
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == sum(isinstance(layer, nn.BatchNorm2d) for layer in layers)
    assert all(layer.bias is None for layer in convolutions)


def test_equal_seeds_give_equal_weights_and_leave_the_callers_state_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second, other = build("lenet5", seed=1), build("lenet5", seed=1), build("lenet5", seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.state_dict()["features.0.weight"], second.state_dict()["features.0.weight"])
    assert not torch.equal(first.state_dict()["features.0.weight"], other.state_dict()["features.0.weight"])


def test_grey_images_are_a_matter_of_in_channels() -> None:
    assert build("lenet5", in_channels=1)(torch.zeros(1, 1, 32, 32)).shape == (1, 10)


def test_an_unknown_name_lists_the_zoo_and_the_closest() -> None:
    with pytest.raises(ModelError, match=r"no network 'resnet_20'.*Did you mean 'resnet20'\?.*lenet5"):
        build("resnet_20")
