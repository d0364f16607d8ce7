"""Which layers get which number format."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tvm_prune.errors import ConfigError, QuantizationError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.stored_tensors import reference_module
from tvm_prune.graph.surgery import prune_groups
from tvm_prune.jobs.number_formats import (
    MIXED,
    QuantizeSettings,
    calibration_batches,
    in_formats,
    precision_of,
    pruned_in_formats,
    rounding_training,
)
from tvm_prune.models.datasets import DataSet
from tvm_prune.models.evaluate import predictions
from tvm_prune.models.load import Model


@pytest.fixture
def model(lenet: Model) -> CompressedModel:
    return CompressedModel(module=lenet.module, example_inputs=lenet.example_inputs)


def names(model: CompressedModel, scheme: str, **layers: str) -> list[str]:
    chosen = {name.replace("_", "."): value for name, value in layers.items()}
    return [str(found) for found in precision_of(model, scheme, chosen).values()]


def test_all_layers_get_the_format(model: CompressedModel) -> None:
    assert names(model, "int8") == names(model, MIXED) == ["int8"] * 5
    assert names(model, "fixed8.4") == ["fixed8.4"] * 5
    assert names(model, "w4") == ["w4"] * 5


def test_less_than_8_bits_leave_the_first_and_the_last_layer_in_int8(model: CompressedModel) -> None:
    assert names(model, "w4a8") == ["int8", "w4a8", "w4a8", "w4a8", "int8"]
    assert names(model, "w8a4") == ["int8", "w8a4", "w8a4", "w8a4", "int8"]


def test_single_layers_may_have_another_format(model: CompressedModel) -> None:
    assert names(model, "w4a8", features_0="w4a8", features_3="float32") == ["w4a8", "w4a8", "w4a8", "int8"]


def test_layers_that_shall_stay_float_do(model: CompressedModel, digits: DataSet) -> None:
    settings = QuantizeSettings(layers={"features.0": "float32", "classifier.4": "float32"}, observer="minmax")
    made = in_formats(model, calibration_batches(digits, 70), settings)
    assert list(made.precision) == ["features.3", "classifier.0", "classifier.2"]
    rounded = predictions(reference_module(made, any_batch=True), digits.test, digits)
    exact = predictions(model.module, digits.test, digits)
    assert 0.98 < float((rounded == exact).float().mean()) <= 1.0


def test_what_is_pruned_from_a_network_gets_its_formats_and_ranges(model: CompressedModel) -> None:
    batches = [torch.randn(8, *model.example_inputs[0].shape[1:])]
    change = pruned_in_formats(model, batches, QuantizeSettings(layers={"classifier.4": "float32"}, observer="minmax"))
    whole = in_formats(model, batches, QuantizeSettings(layers={"classifier.4": "float32"}, observer="minmax"))
    assert change(model).stored == whole.stored
    pruned = prune_groups(model.module, model.example_inputs, {"features.0": [0, 2]})
    found = change(replace(model, module=pruned))
    assert found.precision == whole.precision
    assert found.stored == whole.stored
    assert found.module.get_submodule("features.0").out_channels == 2


def test_a_layer_that_is_not_there_is_named(model: CompressedModel) -> None:
    with pytest.raises(QuantizationError, match=r"no layer 'features\.1' to give the format w4a8; .*features\.0"):
        precision_of(model, "int8", {"features.1": "w4a8"})


def test_a_model_without_a_layer_to_quantize_is_refused() -> None:
    grouped = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.Flatten())
    model = CompressedModel(module=grouped.eval(), example_inputs=(torch.randn(1, 4, 8, 8),))
    with pytest.raises(QuantizationError, match="no layer of this model has an integer form"):
        in_formats(model, [torch.randn(2, 4, 8, 8)])
    # Its weights can be rounded all the same, without any data.
    made = in_formats(model, [], QuantizeSettings(scheme="w4"))
    assert made.rounded_layers == ["0"]
    assert made.integer_layers == []


def test_settings_of_the_training_are_checked() -> None:
    assert rounding_training(2, changes={"lr": 0.02}).lr == 0.02
    with pytest.raises(ConfigError, match="rate"):
        rounding_training(2, changes={"rate": 0.02})
