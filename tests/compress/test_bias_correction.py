"""Corrected biases give rounded layers the means of the float network."""

import pytest
import torch
from torch import nn

from tvm_prune.compress.bias_correction import correct_biases
from tvm_prune.compress.calibrate import observe
from tvm_prune.compress.quantize import with_precision
from tvm_prune.errors import QuantizationError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.scheme import Scheme
from tvm_prune.graph.stored_tensors import reference_module

LAYERS = ("0", "2", "4")


def data() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [1 + torch.randn(8, 3, 8, 8, generator=generator) for _ in range(3)]


def rounded(scheme: str, *, bias: bool = True) -> CompressedModel:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3, bias=bias), nn.Flatten(), nn.Linear(96, 4))
    dense = CompressedModel(module=module.eval(), example_inputs=(torch.randn(1, 3, 8, 8),))
    precision = dict.fromkeys(LAYERS, Scheme.parse(scheme))
    return with_precision(dense, precision, observe(dense, LAYERS, data()))


def means(module: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([module(batch) for batch in data()]).mean(0)


@pytest.mark.parametrize("scheme", ["w3a8", "w2a3", "int8", "w2"])
def test_means_of_the_outputs_are_those_of_the_float_network(scheme: str) -> None:
    model = rounded(scheme)
    made = correct_biases(model, model.module, data())
    wanted = means(model.module)
    before, after = ((means(reference_module(each, any_batch=True)) - wanted).abs().max() for each in (model, made))
    assert after < 1e-5 < before
    for layer in LAYERS:
        assert torch.equal(made.module.get_parameter(f"{layer}.weight"), model.module.get_parameter(f"{layer}.weight"))
    assert (made.stored, made.weight_scales) == (model.stored, model.weight_scales)


def test_a_layer_without_a_bias_gets_none() -> None:
    model = rounded("w3a8", bias=False)
    made = correct_biases(model, model.module, data())
    assert dict(made.module.named_parameters()).keys() == dict(model.module.named_parameters()).keys()


def test_no_data_are_refused() -> None:
    model = rounded("w3")
    with pytest.raises(QuantizationError, match="there are no calibration data to refine the rounding on"):
        correct_biases(model, model.module, [])
