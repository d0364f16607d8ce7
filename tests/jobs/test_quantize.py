"""A trained network in integers, compiled and measured for real."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.oracle.quick import BENCH, TUNING
from tvm_prune.codec import decode
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.stored_tensors import reference_module
from tvm_prune.jobs.apply import load_pruned
from tvm_prune.jobs.number_formats import QuantizeSettings, calibration_batches, in_formats, rounding_training
from tvm_prune.jobs.quantize import Quantized, compiled_predictions, quantize, trained_in_formats
from tvm_prune.models.datasets import DataSet
from tvm_prune.models.datasets.batches import normalised
from tvm_prune.models.evaluate import evaluate, predictions
from tvm_prune.models.load import Model
from tvm_prune.oracle.bundle import export_bundle, open_bundle
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.target import Target

LAYERS = ("features.0", "features.3", "classifier.0", "classifier.2", "classifier.4")


@pytest.mark.slow
def test_the_compiled_integers_answer_as_torch_does_and_lose_next_to_nothing(
    lenet: Model, digits: DataSet, tmp_path: Path
) -> None:
    target = Target.local(threads=1)
    with CompilerOracle(target, records_folder=tmp_path / "records", tuning=TUNING, bench=BENCH) as oracle:
        found = quantize(lenet, digits, oracle, out=tmp_path, settings=QuantizeSettings(images=128))
        replayed = load_pruned(lenet, tmp_path / "recipe.json", weights=tmp_path / "weights.safetensors")
        export_bundle(replayed, tmp_path / "again", oracle=oracle, name="lenet5")
    assert found.precision == dict.fromkeys(LAYERS, "int8")
    assert found.float_layers == ()
    assert found.fp32 == evaluate(lenet.module, digits.test, digits)
    assert found.fp32.correct - found.compiled.correct <= 6  # of 600
    assert found.agreement >= 0.995
    assert found.quantized_ms > 0
    assert found.faster.median > 0
    assert found.quantized_bytes < 0.3 * found.fp32_bytes
    bundled = compiled_predictions(tmp_path / "bundle", digits.test, digits)
    shipped = found.compiled if found.shipped == "quantized" else found.fp32
    assert abs(int((bundled == digits.test.labels).sum()) - shipped.correct) <= 1
    # The recipe makes the rounded network again, whichever of the two was shipped.
    again = compiled_predictions(tmp_path / "again", digits.test, digits)
    assert int((again == digits.test.labels).sum()) == found.compiled.correct
    packed = load_pruned(lenet, tmp_path / "recipe.json", weights=tmp_path / "packed.safetensors")
    assert packed.precision == replayed.precision
    near = predictions(reference_module(packed, any_batch=True), digits.test, digits)
    assert int((near == digits.test.labels).sum()) == found.rounded.correct
    assert decode(Quantized, json.loads((tmp_path / "report.json").read_text())) == found


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["w3a5", "w2", "fixed7.4", "w1a8"])
def test_any_number_of_bits_is_compiled_to_what_torch_computes(
    lenet: Model, digits: DataSet, tmp_path: Path, scheme: str
) -> None:
    model = CompressedModel(module=lenet.module, example_inputs=lenet.example_inputs)
    made = in_formats(model, calibration_batches(digits, 64), QuantizeSettings(scheme=scheme))
    with CompilerOracle(
        Target.local(threads=1), records_folder=tmp_path / "records", tuning=TUNING, bench=BENCH
    ) as oracle:
        export_bundle(made, tmp_path / "bundle", oracle=oracle, name="lenet5")
    compiled = compiled_predictions(tmp_path / "bundle", digits.test, digits)
    rounded = predictions(reference_module(made, any_batch=True), digits.test, digits)
    exact = predictions(lenet.module, digits.test, digits)
    assert float((compiled == rounded).float().mean()) >= 0.99
    assert not torch.equal(rounded, exact)


@pytest.mark.slow
def test_training_with_rounding_gives_back_what_few_bits_have_cost(
    lenet: Model, digits: DataSet, tmp_path: Path
) -> None:
    model = CompressedModel(module=lenet.module, example_inputs=lenet.example_inputs)
    settings = QuantizeSettings(scheme="w1a2", training=rounding_training(3))
    rounded = in_formats(model, calibration_batches(digits, 128), settings)
    trained = trained_in_formats(rounded, model, digits, settings, folder=tmp_path)
    before, after = (
        evaluate(reference_module(each, any_batch=True), digits.val, digits).correct for each in (rounded, trained)
    )
    assert after > before
    assert trained.weight_scales != rounded.weight_scales
    assert trained.stored != rounded.stored
    assert (tmp_path / "train.ckpt").exists()
    without = replace(settings, training=None)
    assert trained_in_formats(rounded, model, digits, without) is rounded


@pytest.mark.slow
def test_a_model_is_compiled_anew_where_only_its_scales_have_changed(
    lenet: Model, digits: DataSet, tmp_path: Path
) -> None:
    model = CompressedModel(module=lenet.module, example_inputs=lenet.example_inputs)
    made = in_formats(model, calibration_batches(digits, 64))
    coarse = replace(made, stored={name: replace(how, scale=8 * how.scale) for name, how in made.stored.items()})
    target = Target.local(threads=1)
    with CompilerOracle(target, records_folder=tmp_path / "records", tuning=TUNING, bench=BENCH) as oracle:
        for number, each in enumerate((made, coarse)):
            export_bundle(each, tmp_path / f"bundle{number}", oracle=oracle, name="lenet5")
    image = normalised(digits.test.images[:1], digits).contiguous().numpy()
    first, second = (open_bundle(tmp_path / f"bundle{number}")([image])[0] for number in (0, 1))
    assert np.abs(first - second).max() > 1e-3 * np.abs(first).max()
