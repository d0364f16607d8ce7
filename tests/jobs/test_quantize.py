"""A trained network in integers, compiled and measured for real."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.oracle.quick import BENCH, TUNING
from tvm_prune.errors import QuantizationError
from tvm_prune.graph.compressed import INT8, CompressedModel
from tvm_prune.graph.stored_tensors import reference_module
from tvm_prune.jobs.quantize import calibrated, compiled_predictions, quantize
from tvm_prune.models.datasets import DataSet
from tvm_prune.models.datasets.batches import normalised
from tvm_prune.models.evaluate import evaluate, predictions
from tvm_prune.models.load import Model
from tvm_prune.oracle.bundle import export_bundle, open_bundle
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.target import Target


@pytest.mark.slow
def test_the_compiled_integers_answer_as_torch_does_and_lose_next_to_nothing(
    lenet: Model, digits: DataSet, tmp_path: Path
) -> None:
    target = Target.local(threads=1)
    with CompilerOracle(target, records_folder=tmp_path / "records", tuning=TUNING, bench=BENCH) as oracle:
        found = quantize(lenet, digits, oracle, out=tmp_path, images=128)
    assert found.integer_layers == ("features.0", "features.3", "classifier.0", "classifier.2", "classifier.4")
    assert found.float_layers == ()
    assert found.fp32 == evaluate(lenet.module, digits.test, digits)
    assert found.fp32.correct - found.compiled.correct <= 6  # of 600
    assert found.agreement >= 0.995
    assert found.int8_ms > 0
    assert found.faster.median > 0
    assert found.int8_bytes < 0.3 * found.fp32_bytes
    again = compiled_predictions(tmp_path / "bundle", digits.test, digits)
    shipped = found.compiled if found.shipped == "int8" else found.fp32
    assert abs(int((again == digits.test.labels).sum()) - shipped.correct) <= 1


@pytest.mark.slow
def test_a_model_is_compiled_anew_where_only_its_scales_have_changed(
    lenet: Model, digits: DataSet, tmp_path: Path
) -> None:
    model = CompressedModel(module=lenet.module, example_inputs=lenet.example_inputs)
    made = calibrated(model, digits, images=64, observer="minmax", keep_float=frozenset())
    coarse = replace(made, stored={name: replace(how, scale=8 * how.scale) for name, how in made.stored.items()})
    target = Target.local(threads=1)
    with CompilerOracle(target, records_folder=tmp_path / "records", tuning=TUNING, bench=BENCH) as oracle:
        for number, each in enumerate((made, coarse)):
            export_bundle(each, tmp_path / f"bundle{number}", oracle=oracle, name="lenet5")
    image = normalised(digits.test.images[:1], digits).contiguous().numpy()
    first, second = (open_bundle(tmp_path / f"bundle{number}")([image])[0] for number in (0, 1))
    assert np.abs(first - second).max() > 0.01 * np.abs(first).max()


def test_layers_that_shall_stay_float_do(lenet: Model, digits: DataSet) -> None:
    model = CompressedModel(module=lenet.module, example_inputs=lenet.example_inputs)
    made = calibrated(model, digits, images=70, observer="minmax", keep_float=frozenset({"features.0", "classifier.4"}))
    assert made.precision == dict.fromkeys(["features.3", "classifier.0", "classifier.2"], INT8)
    assert made.module is lenet.module
    rounded = predictions(reference_module(made, any_batch=True), digits.test, digits)
    exact = predictions(lenet.module, digits.test, digits)
    assert 0.98 < float((rounded == exact).float().mean()) <= 1.0


def test_a_layer_that_is_not_there_cannot_be_kept(lenet: Model, digits: DataSet) -> None:
    model = CompressedModel(module=lenet.module, example_inputs=lenet.example_inputs)
    with pytest.raises(QuantizationError, match=r"no layer 'features\.1' to keep in float32; .*features\.0"):
        calibrated(model, digits, images=8, observer="mse", keep_float=frozenset({"features.1"}))


def test_a_model_without_a_layer_to_quantize_is_refused(digits: DataSet) -> None:
    grouped = nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.Flatten())
    model = CompressedModel(module=grouped.eval(), example_inputs=(torch.randn(1, 3, 32, 32),))
    with pytest.raises(QuantizationError, match="no layer of this model has an integer form"):
        calibrated(model, digits, images=8, observer="mse", keep_float=frozenset())
