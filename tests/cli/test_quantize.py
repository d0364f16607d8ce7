"""`tvm-prune quantize`, with the real compiler."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tvm_prune.errors import TvmPruneError


@pytest.mark.slow
def test_a_bundle_and_a_report_are_written(invoke: Invoke, tmp_path: Path) -> None:
    options = ("--trials-per-task", "2", "--images", "64", "--keep-float", "features.0")
    ran = invoke("quantize", "lenet5", "--data", "digits", "--out", "int8", *options)
    assert ran.exit_code == 0, ran.output
    assert "lenet5 as int8, calibrated on 64 images" in ran.stdout
    assert "4 layers in int8, in float32: features.0." in ran.stdout
    report = json.loads((tmp_path / "int8" / "report.json").read_text())
    assert report["float_layers"] == ["features.0"]
    # Where integers are slower, as they may be on a processor without instructions for them, nobody is given them.
    assert (report["shipped"] == "quantized") == (report["faster"]["median"] >= 1)
    assert f"int8/bundle ({report['shipped']})" in ran.stdout
    assert (tmp_path / "int8" / "bundle" / "run.py").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--observer", "median"), "minmax"),
        (("--refine", "adaround,luck"), "equalise"),
        (("--scheme", "int4"), "no number format 'int4'; known are float32, int8"),
        (("--layer", "features.0=w99"), "weights of 99 bits are not supported"),
        (("--layer", "features.0"), "cannot read the setting 'features.0'"),
        (("--set", "lr=0.1"), "add --train-epochs N"),
        (("--train-epochs", "1", "--set", "lr=-1"), "lr"),
        (("--pruned-weights", "w.safetensors"), r"add --recipe RUN_DIR/recipe\.json"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_starts(
    invoke: Invoke, options: tuple[str, ...], message: str
) -> None:
    with pytest.raises(TvmPruneError, match=message):
        invoke("quantize", "lenet5", "--out", "int8", *options)
