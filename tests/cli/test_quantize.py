"""`tvm-prune quantize`, with the real compiler."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tvm_prune.errors import ConfigError


@pytest.mark.slow
def test_a_bundle_and_a_report_are_written(invoke: Invoke, tmp_path: Path) -> None:
    options = ("--trials-per-task", "2", "--images", "64", "--keep-float", "features.0")
    ran = invoke("quantize", "lenet5", "--data", "digits", "--out", "int8", *options)
    assert ran.exit_code == 0, ran.output
    assert "lenet5 in integers, calibrated on 64 images" in ran.stdout
    assert "4 layers in integers, in float32: features.0." in ran.stdout
    report = json.loads((tmp_path / "int8" / "report.json").read_text())
    assert report["float_layers"] == ["features.0"]
    # Where integers are slower, as they may be on a processor without instructions for them, nobody is given them.
    assert (report["shipped"] == "int8") == (report["faster"]["median"] >= 1)
    assert f"int8/bundle ({report['shipped']})" in ran.stdout
    assert (tmp_path / "int8" / "bundle" / "run.py").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--observer", "median"), "minmax"),
        (("--scheme", "int4"), "mixed"),
        (("--pruned-weights", "w.safetensors"), r"add --recipe RUN_DIR/recipe\.json"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_starts(
    invoke: Invoke, options: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        invoke("quantize", "lenet5", "--out", "int8", *options)
