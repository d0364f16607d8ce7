"""`tvm-prune export` and `run`, with the real compiler."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cli.conftest import Invoke, run_process
from tvm_prune.errors import ConfigError, ModelError

IMAGE = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype("float32")


@pytest.mark.slow
def test_an_exported_bundle_runs_from_the_command_line_and_computes_what_torch_computes(
    invoke: Invoke, tmp_path: Path
) -> None:
    shipped = invoke("export", "lenet5", "--out", "shipped", "--trials-per-task", "2")
    assert shipped.exit_code == 0, shipped.output
    assert "Bundle of lenet5 for llvm" in shipped.stdout
    assert "Try: tvm-prune run shipped/bundle --input x.npy" in shipped.stdout
    assert {path.name for path in (tmp_path / "shipped").iterdir()} >= {"bundle", "model.pt2", "model.onnx"}

    np.save(tmp_path / "x.npy", IMAGE)
    ran = run_process("run", "shipped/bundle", "--input", "x.npy", "--out", "outputs", "--json", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    with torch.no_grad():
        expected = torch.export.load(tmp_path / "shipped" / "model.pt2").module()(torch.from_numpy(IMAGE)).numpy()
    np.testing.assert_allclose(json.loads(ran.stdout)[0], expected, atol=1e-4)
    np.testing.assert_allclose(np.load(tmp_path / "outputs" / "output0.npy"), expected, atol=1e-4)

    table = invoke("run", "shipped/bundle", "--input", "x.npy").stdout
    assert "Output 0 (1x10), largest values" in table
    assert f"{expected.max():.4g}" in table


def test_an_input_that_is_no_array_is_named(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_text("not an array")
    with pytest.raises(ModelError, match=r"cannot read the input x\.npy .*save it with numpy\.save"):
        invoke("run", "bundle", "--input", "x.npy")


def test_pruned_weights_without_their_recipe_are_refused(invoke: Invoke) -> None:
    with pytest.raises(ConfigError, match=r"add --recipe RUN_DIR/recipe\.json"):
        invoke("export", "lenet5", "--out", "shipped", "--pruned-weights", "w.safetensors")


def test_a_place_that_cannot_be_written_is_named_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    arguments = ("train", "lenet5", "--data", "digits", "--epochs", "1", "--out", "taken/lenet5.safetensors")
    ran = run_process(*arguments, cwd=tmp_path)
    assert ran.returncode == 2
    assert "taken" in ran.stderr
    assert "choose a place that you may write to" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_random_weights_are_not_used_in_silence(invoke: Invoke, capsys: pytest.CaptureFixture[str]) -> None:
    result = invoke("evaluate", "lenet5", "--data", "digits")
    assert "lenet5 has random weights; give --weights FILE" in result.output
