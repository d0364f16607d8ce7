"""A number format for every layer, chosen for a goal, with the real compiler."""

import json
from pathlib import Path

import pytest

from tests.oracle.quick import BENCH, TUNING
from tvm_prune.codec import decode
from tvm_prune.errors import ConfigError, GoalError, QuantizationError
from tvm_prune.jobs.apply import load_pruned
from tvm_prune.jobs.precision import FormatSearch, PrecisionSettings, precision
from tvm_prune.jobs.sensitivity import SENSITIVITY_FILE
from tvm_prune.models.datasets import DataSet
from tvm_prune.models.load import Model
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.target import Target


@pytest.mark.slow
def test_goals_are_met_one_after_another_from_the_same_sensitivities(
    lenet: Model, digits: DataSet, tmp_path: Path
) -> None:
    images = {"sensitivity_images": 64, "calibration_images": 64}
    with CompilerOracle(
        Target.local(threads=1), records_folder=tmp_path / "records", tuning=TUNING, bench=BENCH
    ) as oracle:

        def chosen(**goal: object) -> FormatSearch:
            settings = decode(PrecisionSettings, {"formats": ["int8", "w4a8"], **images, **goal})
            return precision(lenet, digits, oracle, out=tmp_path / "out", settings=settings)

        exact = chosen(max_drop=0.5)
        kept = (tmp_path / "out" / SENSITIVITY_FILE).read_text()
        small = chosen(size_goal=60_000)
        impossible = pytest.raises(GoalError, match="no choice of formats is within 1e-06 ms")
        with impossible:
            chosen(latency_goal_ms=1e-6)
    assert (tmp_path / "out" / SENSITIVITY_FILE).read_text() == kept
    assert len(exact.sensitivities) == 10
    lost = exact.float_validation.correct - exact.validation.correct
    assert 100 * lost <= 0.5 * exact.validation.total
    assert small.expected_bytes <= 60_000
    assert "w4a8" in small.formats.values()
    assert small.quantized.quantized_bytes < 80_000
    assert small.quantized.agreement >= 0.99
    assert decode(FormatSearch, json.loads((tmp_path / "out" / "search.json").read_text())) == small
    again = load_pruned(lenet, tmp_path / "out" / "recipe.json", weights=tmp_path / "out" / "weights.safetensors")
    formats = {layer: str(scheme) for layer, scheme in again.precision.items()}
    assert formats == {layer: name for layer, name in small.formats.items() if name != "float32"}


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({}, ConfigError, "precision needs a goal: --latency-goal MS, --size-goal BYTES or --max-drop POINTS"),
        ({"formats": ("int9",), "max_drop": 1.0}, QuantizationError, "no number format 'int9'"),
        ({"search": "greedy", "max_drop": 1.0}, ConfigError, "the greedy search goes by a latency alone"),
        ({"max_drop": -1.0}, ConfigError, "max_drop"),
        ({"latency_goal_ms": 0.0}, ConfigError, "latency_goal_ms"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    fields: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        PrecisionSettings(**fields).checked()  # type: ignore[arg-type]
