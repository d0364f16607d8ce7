"""Sensitivities are measured once and kept, whatever happens in between."""

from pathlib import Path

import pytest

from tvm_prune.compress.calibrate import Seen, observe
from tvm_prune.errors import ConfigError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.scheme import INT8, Scheme
from tvm_prune.jobs.number_formats import calibration_batches
from tvm_prune.jobs.sensitivity import SENSITIVITY_FILE, measured_sensitivities
from tvm_prune.models.datasets import DataSet
from tvm_prune.models.load import Model
from tvm_prune.search.sensitivity import Sensitivity

FORMATS = {"features.0": [INT8], "classifier.4": [INT8, Scheme.parse("w2")]}


@pytest.fixture
def model(lenet: Model) -> CompressedModel:
    return CompressedModel(module=lenet.module, example_inputs=lenet.example_inputs)


@pytest.fixture
def seen(model: CompressedModel, digits: DataSet) -> dict[str, Seen]:
    return observe(model, list(FORMATS), calibration_batches(digits, 32))


def measured(
    model: CompressedModel, digits: DataSet, seen: dict[str, Seen], out: Path, images: int = 40
) -> tuple[Sensitivity, ...]:
    return measured_sensitivities(model, digits, FORMATS, seen, images=images, observer="mse", out=out)


def test_each_is_written_once_and_read_again(
    model: CompressedModel, digits: DataSet, seen: dict[str, Seen], tmp_path: Path
) -> None:
    found = measured(model, digits, seen, tmp_path)
    assert [(each.layer, each.format) for each in found] == [
        ("features.0", "int8"),
        ("classifier.4", "int8"),
        ("classifier.4", "w2"),
    ]
    lines = (tmp_path / SENSITIVITY_FILE).read_text().splitlines()
    assert len(lines) == 4
    # A line that stands there is believed.
    changed = lines[1].replace(f'"correct": {found[0].correct}', '"correct": 7')
    (tmp_path / SENSITIVITY_FILE).write_text("\n".join([lines[0], changed, *lines[2:]]) + "\n")
    again = measured(model, digits, seen, tmp_path)
    assert again[0].correct == 7
    assert again[1:] == found[1:]


def test_a_line_half_written_is_measured_again(
    model: CompressedModel, digits: DataSet, seen: dict[str, Seen], tmp_path: Path
) -> None:
    found = measured(model, digits, seen, tmp_path)
    text = (tmp_path / SENSITIVITY_FILE).read_text()
    (tmp_path / SENSITIVITY_FILE).write_text(text[:-30])
    assert measured(model, digits, seen, tmp_path) == found
    assert (tmp_path / SENSITIVITY_FILE).read_text() == text


def test_those_of_other_images_are_refused(
    model: CompressedModel, digits: DataSet, seen: dict[str, Seen], tmp_path: Path
) -> None:
    measured(model, digits, seen, tmp_path)
    with pytest.raises(ConfigError, match=r"sensitivity\.jsonl is of another network, other images .*another --out"):
        measured(model, digits, seen, tmp_path, images=30)
