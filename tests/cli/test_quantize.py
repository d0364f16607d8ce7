"""`tvm-prune quantize`, with the real compiler."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import run_process


@pytest.mark.slow
def test_a_bundle_and_a_report_are_written(tmp_path: Path) -> None:
    arguments = ("quantize", "lenet5", "--data", "digits", "--out", "int8")
    options = ("--trials-per-task", "2", "--images", "64", "--keep-float", "features.0")
    ran = run_process(*arguments, *options, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "lenet5 in integers, calibrated on 64 images" in ran.stdout
    assert "4 layers in integers, in float32: features.0." in ran.stdout
    report = json.loads((tmp_path / "int8" / "report.json").read_text())
    assert report["float_layers"] == ["features.0"]
    assert (tmp_path / "int8" / "bundle" / "run.py").exists()


def test_an_unknown_observer_is_named(tmp_path: Path) -> None:
    ran = run_process("quantize", "lenet5", "--observer", "median", "--out", "int8", cwd=tmp_path)
    assert ran.returncode == 2
    assert "minmax" in ran.stderr
