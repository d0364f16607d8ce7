"""Counting: figures worked by hand."""

import pytest
import torch
from torch import nn

from tests.graph.networks import built
from tvm_prune.errors import InputShapeError
from tvm_prune.graph.count import Counts, LayerShape, count, layer_shapes


def test_a_convolution_is_counted_as_it_ran() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8))
    inputs = (torch.zeros(2, 3, 8, 6),)
    assert layer_shapes(network, inputs) == (
        LayerShape(
            name="0",
            kind="conv",
            in_channels=3,
            out_channels=8,
            kernel=(3, 3),
            stride=(2, 2),
            groups=1,
            input_hw=(8, 6),
            output_hw=(4, 3),
            macs=2 * 8 * 4 * 3 * 27,
            params=8 * 27 + 8,
            calls=1,
        ),
        LayerShape(
            name="2",
            kind="depthwise",
            in_channels=8,
            out_channels=8,
            kernel=(3, 3),
            stride=(1, 1),
            groups=8,
            input_hw=(4, 3),
            output_hw=(2, 1),
            macs=2 * 8 * 2 * 9,
            params=8 * 9 + 8,
            calls=1,
        ),
    )
    params, macs = 224 + 16 + 80, 2 * 8 * 12 * 27 + 2 * 8 * 2 * 9
    # Batch norm also stores a mean and a variance a channel.
    assert count(network, inputs) == Counts(macs=macs, params=params, bytes=4 * (params + 16))


def test_a_linear_layer_is_counted_for_every_token() -> None:
    (layer,) = layer_shapes(nn.Sequential(nn.Linear(7, 5)), (torch.zeros(2, 3, 7),))
    assert (layer.kind, layer.macs, layer.params) == ("linear", 2 * 3 * 5 * 7, 40)
    assert (layer.kernel, layer.input_hw, layer.output_hw) == ((), (), ())


def test_a_shared_layer_is_counted_for_every_call_but_stored_once() -> None:
    module, inputs = built("shared")
    twice = next(layer for layer in layer_shapes(module, inputs) if layer.name == "twice")
    assert (twice.calls, twice.macs, twice.params) == (2, 2 * 8 * 36 * 72, 8 * 72 + 8)


def test_a_transposed_convolution_is_counted_by_its_inputs() -> None:
    (layer,) = layer_shapes(nn.Sequential(nn.ConvTranspose2d(4, 6, 2, stride=2)), (torch.zeros(1, 4, 5, 5),))
    assert layer.macs == 4 * 25 * 6 * 4
    assert layer.output_hw == (10, 10)


def test_half_precision_weights_take_half_the_bytes() -> None:
    network = nn.Linear(4, 4).to(torch.bfloat16)
    assert count(network, (torch.zeros(1, 4, dtype=torch.bfloat16),)).bytes == 2 * 20


def test_counting_leaves_the_module_as_it_was() -> None:
    module, inputs = built("residual")
    module.train()
    before = module.stem_bn.running_mean.clone()
    count(module, inputs)
    assert module.training
    assert torch.equal(module.stem_bn.running_mean, before)
    assert not module.stem._forward_hooks


def test_inputs_that_do_not_fit_are_named_and_no_hook_stays() -> None:
    module, _ = built("residual")
    with pytest.raises(InputShapeError, match="does not run on inputs"):
        count(module, (torch.zeros(1, 9, 8, 8),))
    assert not module.stem._forward_hooks
