"""Learned rounding is rounding, up or down, and brings outputs nearer to those of the float network."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tvm_prune.compress.adaround import RoundingSettings, round_adaptively
from tvm_prune.compress.calibrate import observe
from tvm_prune.compress.quantize import with_precision
from tvm_prune.errors import QuantizationError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.integer_ops import integer_weight, weight_limit
from tvm_prune.graph.scheme import INT8, Scheme
from tvm_prune.graph.stored_tensors import own_scales, reference_module

QUICK = RoundingSettings(steps=300, positions=2048, rows=256, lr=0.03)
FEW = ("2", "4", "7")


def data() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    # Neighbouring pixels are alike, as in images: errors of weights can make up for each other.
    coarse = torch.randn(96, 3, 3, 3, generator=generator)
    return list(nn.functional.interpolate(coarse, size=(8, 8), mode="bilinear").split(40))


def rounded(scheme: str) -> CompressedModel:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 12, 3, stride=2, groups=12, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 8, 3, dilation=1, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, 5),
    )
    dense = CompressedModel(module=module.eval(), example_inputs=(torch.randn(1, 3, 8, 8),))
    precision = {"0": INT8} | dict.fromkeys(FEW, Scheme.parse(scheme))
    return with_precision(dense, precision, observe(dense, list(precision), data()))


def error(model: CompressedModel, exact: nn.Module) -> float:
    image = torch.cat(data())
    with torch.no_grad():
        return float((reference_module(model, any_batch=True)(image) - exact(image)).square().mean())


@pytest.mark.parametrize("scheme", ["w2a8", "w3a8", "w3", "fixed4.4"])
def test_outputs_come_nearer_to_those_of_the_float_network(scheme: str) -> None:
    model = rounded(scheme)
    made = round_adaptively(model, model.module, data(), QUICK)
    assert error(made, model.module) < 0.7 * error(model, model.module)


@pytest.mark.parametrize("scheme", ["w2a8", "w3a8", "w7a8", "fixed4.4"])
def test_rounding_to_nearest_gives_exactly_the_chosen_integers(scheme: str) -> None:
    model = rounded(scheme)
    made = round_adaptively(model, model.module, data(), replace(QUICK, steps=60))
    moved = 0
    for layer in FEW:
        scales, bits = own_scales(made, layer), made.precision[layer].weight_bits
        assert scales is not None
        weight, before = (each.module.get_parameter(f"{layer}.weight").detach() for each in (made, model))
        assert torch.equal(integer_weight(weight, bits, scales), weight)
        limit, steps = weight_limit(bits), scales.reshape(-1, *[1] * (weight.dim() - 1))
        integers = torch.round(weight / steps)
        assert torch.equal(integers * steps, weight)
        clipped = (before / steps).clamp(-limit, limit)
        # Up or down, never further.
        assert bool(((integers - clipped).abs() < 1.001).all())
        moved += int((integers != torch.round(clipped)).sum())
    assert moved > 0
    assert made.weight_scales == model.weight_scales


def test_eight_bits_one_bit_and_biases_are_left_alone() -> None:
    model = rounded("w1a8")
    made = round_adaptively(model, model.module, data(), replace(QUICK, steps=5))
    pairs = zip(made.module.parameters(), model.module.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_the_same_seed_gives_the_same_integers() -> None:
    model, settings = rounded("w3a8"), replace(QUICK, steps=30)
    state = torch.get_rng_state()
    first, second = (round_adaptively(model, model.module, data(), settings).module for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first.parameters(), second.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_layer_without_scales_of_its_own_gets_those_of_its_weight() -> None:
    model = rounded("w3a8")
    made = round_adaptively(replace(model, weight_scales={}), model.module, data(), replace(QUICK, steps=5))
    assert list(made.weight_scales) == list(FEW)


def test_no_data_are_refused() -> None:
    model = rounded("w3")
    with pytest.raises(QuantizationError, match="there are no calibration data to refine the rounding on"):
        round_adaptively(model, model.module, [])
