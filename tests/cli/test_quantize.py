"""`tvm-prune quantize`, with the real compiler."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import run_process


@pytest.mark.slow
def test_a_bundle_and_a_report_are_written(tmp_path: Path) -> None:
    arguments = ("quantize", "lenet5", "--data", "digits", "--out", "int8")
    options = ("--trials-per-task", "2", "--images", "64", "--keep-float", "features.0", "--scheme", "mixed")
    ran = run_process(*arguments, *options, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "lenet5 in integers, calibrated on 64 images" in ran.stdout
    report = json.loads((tmp_path / "int8" / "report.json").read_text())
    assert "features.0" in report["float_layers"]
    assert len(report["integer_layers"]) + len(report["float_layers"]) == 5
    # Where integers are slower, as they may be on a processor without instructions for them, nobody is given them.
    assert (report["shipped"] == "int8") == (bool(report["integer_layers"]) and report["faster"]["median"] >= 1)
    assert f"int8/bundle ({report['shipped']})" in ran.stdout
    assert (tmp_path / "int8" / "bundle" / "run.py").exists()


def test_an_unknown_observer_or_scheme_is_named(tmp_path: Path) -> None:
    ran = run_process("quantize", "lenet5", "--observer", "median", "--out", "int8", cwd=tmp_path)
    assert ran.returncode == 2
    assert "minmax" in ran.stderr
    ran = run_process("quantize", "lenet5", "--scheme", "int4", "--out", "int8", cwd=tmp_path)
    assert ran.returncode == 2
    assert "mixed" in ran.stderr
