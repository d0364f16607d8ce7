"""Refined rounding: nearer to the float network, delivered as weights that a recipe takes."""

from pathlib import Path

import pytest
import torch

from tvm_prune.codec import decode
from tvm_prune.compress.packed import write_packed
from tvm_prune.compress.quantize import step_of
from tvm_prune.compress.recipe import BaseModel, Recipe
from tvm_prune.errors import ConfigError, QuantizationError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.fingerprint import fingerprint
from tvm_prune.graph.stored_tensors import reference_module
from tvm_prune.jobs.apply import load_pruned
from tvm_prune.jobs.number_formats import MIXED, QuantizeSettings, calibration_batches, in_formats
from tvm_prune.jobs.refine import Refinement, refined
from tvm_prune.jobs.watcher import Silent
from tvm_prune.models.datasets import DataSet
from tvm_prune.models.load import Model
from tvm_prune.models.weights import save_weights

# Learning the rounding of every layer would take a while.
FEW_BITS = {"features.3": "w2a8"}


class Stages(Silent):
    def __init__(self) -> None:
        self.told: list[str] = []

    def stage(self, text: str, *, total: int | None = None) -> None:
        self.told.append(text)

    def advance(self, done: int, *, total: int | None = None, detail: str = "") -> None:
        self.told.append(f"{done} of {total}: {detail}")


@pytest.fixture(scope="module")
def model(lenet: Model) -> CompressedModel:
    return CompressedModel(module=lenet.module, example_inputs=lenet.example_inputs)


@pytest.fixture(scope="module")
def batches(digits: DataSet) -> list[torch.Tensor]:
    return calibration_batches(digits, 128)


def error(made: CompressedModel, model: CompressedModel, batches: list[torch.Tensor]) -> float:
    image = torch.cat(batches)
    with torch.no_grad():
        return float((reference_module(made, any_batch=True)(image) - model.module(image)).square().mean())


def test_all_of_it_together_is_nearer_to_the_float_network(model: CompressedModel, batches: list[torch.Tensor]) -> None:
    stages = Stages()
    settings = QuantizeSettings(layers=FEW_BITS, refine=("bias", "equalise", "adaround"))
    made = in_formats(model, batches, settings, watcher=stages)
    plain = in_formats(model, batches, QuantizeSettings(layers=FEW_BITS))
    assert error(made, model, batches) < 0.7 * error(plain, model, batches)
    assert stages.told[0] == "choose which weights are rounded up"
    assert stages.told[1] == "0 of 5: features.0"
    assert stages.told[6] == "correct biases"


def test_ranges_are_those_of_the_equalised_network(model: CompressedModel, batches: list[torch.Tensor]) -> None:
    plain, made = (in_formats(model, batches, QuantizeSettings(refine=each)) for each in ((), ("equalise",)))
    assert made.stored.keys() == plain.stored.keys()
    assert made.stored != plain.stored
    # With ranges of the network as it was before, the answers would be far off.
    assert error(made, model, batches) < 4 * error(plain, model, batches)


def test_a_recipe_with_the_delivered_weights_makes_the_same_network(
    model: CompressedModel, batches: list[torch.Tensor], tmp_path: Path
) -> None:
    settings = QuantizeSettings(layers=FEW_BITS, refine=("equalise", "adaround", "bias"))
    made = in_formats(model, batches, settings)
    base = BaseModel(source="here", fingerprint=fingerprint(model))
    Recipe(base=base, steps=(step_of(made),)).save(tmp_path / "recipe.json")
    save_weights(made.module, tmp_path / "weights.safetensors")
    write_packed(made, tmp_path / "packed.safetensors")
    with torch.no_grad():
        wanted = reference_module(made, any_batch=True)(batches[0])
        again = load_pruned(model, tmp_path / "recipe.json", weights=tmp_path / "weights.safetensors")
        assert torch.equal(reference_module(again, any_batch=True)(batches[0]), wanted)
        packed = load_pruned(model, tmp_path / "recipe.json", weights=tmp_path / "packed.safetensors")
        torch.testing.assert_close(reference_module(packed, any_batch=True)(batches[0]), wanted)


def test_a_network_whose_formats_are_not_known_yet_is_refined_later(
    model: CompressedModel, batches: list[torch.Tensor]
) -> None:
    refine: tuple[Refinement, ...] = ("bias",)
    mixed = in_formats(model, batches, QuantizeSettings(scheme=MIXED, refine=refine))
    unrefined = in_formats(model, batches, QuantizeSettings())
    refined_now = in_formats(model, batches, QuantizeSettings(refine=refine))
    name = "classifier.4.bias"
    assert torch.equal(mixed.module.get_parameter(name), unrefined.module.get_parameter(name))
    later = refined(mixed, batches, refine)
    assert torch.equal(later.module.get_parameter(name), refined_now.module.get_parameter(name))
    assert not torch.equal(later.module.get_parameter(name), mixed.module.get_parameter(name))


def test_a_network_without_rounded_layers_is_left_alone(model: CompressedModel) -> None:
    assert refined(model, [], ("bias", "adaround")) is model


def test_refining_weights_alone_needs_data_too(model: CompressedModel) -> None:
    with pytest.raises(QuantizationError, match="there are no calibration data to refine the rounding on; give --data"):
        in_formats(model, [], QuantizeSettings(scheme="w4", refine=("bias",)))


def test_a_name_that_is_none_is_refused() -> None:
    assert decode(QuantizeSettings, {"refine": ["bias", "equalise"]}).refine == ("bias", "equalise")
    with pytest.raises(ConfigError, match="equalise"):
        decode(QuantizeSettings, {"refine": ["equalize"]})
