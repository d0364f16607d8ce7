"""The quantize step: made, carried out again from JSON, and refused where it does not fit."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tvm_prune.codec import decode, encode
from tvm_prune.compress.apply import apply_steps
from tvm_prune.compress.calibrate import observe
from tvm_prune.compress.quantize import step_of, with_precision
from tvm_prune.compress.recipe import BaseModel, Recipe
from tvm_prune.compress.step import PruneStep, QuantizeStep
from tvm_prune.errors import QuantizationError, RecipeError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.fingerprint import fingerprint
from tvm_prune.graph.scheme import INT8, Scheme
from tvm_prune.graph.stored_tensors import reference_module

W3 = Scheme.parse("w3a8")


@pytest.fixture
def model() -> CompressedModel:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Flatten(), nn.Linear(96, 4)
    )
    return CompressedModel(module=module.eval(), example_inputs=(torch.randn(1, 3, 8, 8),))


@pytest.fixture
def quantized(model: CompressedModel) -> CompressedModel:
    seen = observe(model, ["0", "3", "5"], [torch.randn(16, 3, 8, 8)])
    return with_precision(model, {"0": INT8, "3": W3, "5": INT8}, seen)


def test_batch_norms_are_folded_and_few_bits_get_scales_of_their_own(quantized: CompressedModel) -> None:
    assert isinstance(quantized.module[1], nn.Identity)  # type: ignore[index]
    assert list(quantized.weight_scales) == ["3"]
    assert len(quantized.weight_scales["3"]) == 6
    assert list(quantized.stored) == ["input_1", "relu", "conv2d_1"]


def test_a_step_makes_the_same_model_again_on_the_users_class(
    model: CompressedModel, quantized: CompressedModel, tmp_path: Path
) -> None:
    base = BaseModel(source="here", fingerprint=fingerprint(model))
    path = tmp_path / "recipe.json"
    Recipe(base=base, steps=(step_of(quantized),)).save(path)
    assert json.loads(path.read_text())["steps"][0]["precision"] == {"0": "int8", "3": "w3a8", "5": "int8"}
    again = Recipe.load(path).apply(model)
    assert (again.precision, again.stored, again.weight_scales) == (
        quantized.precision,
        quantized.stored,
        quantized.weight_scales,
    )
    image = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        results = [reference_module(each, any_batch=True)(image) for each in (quantized, again)]
    assert torch.equal(*results)
    assert fingerprint(again) == fingerprint(quantized)


def test_pruned_and_then_quantized_is_one_recipe(model: CompressedModel) -> None:
    cut = PruneStep(group="0", width=8, keep=(0, 1, 4))
    pruned = apply_steps(model, [cut])
    seen = observe(pruned, ["3"], [torch.randn(16, 3, 8, 8)])
    step = step_of(with_precision(pruned, {"3": W3}, seen))
    made = apply_steps(model, [cut, step])
    assert made.module.get_parameter("3.weight").shape == (6, 3, 3, 3)
    assert made.precision == {"3": W3}
    with pytest.raises(RecipeError, match="step 1 quantizes, but step 2 comes after it: quantize last"):
        apply_steps(model, [step, cut])


def test_layers_that_are_float_again_are_not_in_the_step(quantized: CompressedModel) -> None:
    mixed = replace(quantized, precision={"0": INT8})
    step = step_of(mixed)
    assert list(step.precision) == ["0"]
    assert step.weight_scales == {}


def changed(quantized: CompressedModel, **fields: object) -> QuantizeStep:
    return decode(QuantizeStep, encode(step_of(quantized)) | fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"precision": {"0": "int9"}}, "step 1: there is no number format 'int9'"),
        ({"precision": {"7": "int8"}}, "step 1 quantizes layer '7', which is not there"),
        ({"stored": {}}, "step 1 does not say how tensor 'input_1' is stored"),
        ({"weight_scales": {"3": [1.0]}}, "step 1 has 1 scales for layer '3' of 6 channels"),
    ],
)
def test_a_step_that_does_not_fit_is_refused(
    model: CompressedModel, quantized: CompressedModel, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        apply_steps(model, [changed(quantized, **fields)])


def test_layers_without_the_format_are_named(model: CompressedModel) -> None:
    with pytest.raises(QuantizationError, match="there is no layer 'conv' to quantize"):
        with_precision(model, {"conv": INT8}, {})
    grouped = CompressedModel(
        module=nn.Sequential(nn.Conv2d(4, 8, 1, groups=2)).eval(), example_inputs=(torch.randn(1, 4, 5, 5),)
    )
    with pytest.raises(QuantizationError, match=r"layer '0' has no integer form: .*\(w3\)"):
        with_precision(grouped, {"0": W3}, {})
