"""`tvm-prune train` and `tvm-prune evaluate`."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke, run_process
from tvm_prune.errors import ConfigError, WeightsError
from tvm_prune.models.load import load_model


def test_a_trained_network_is_written_and_scores_the_same_when_evaluated(invoke: Invoke, tmp_path: Path) -> None:
    trained = json.loads(invoke("train", "lenet5", "--epochs", "2", "--out", "lenet.safetensors", "--json").stdout)
    assert trained["test"]["total"] >= 600
    scored = json.loads(invoke("evaluate", "lenet5", "--weights", "lenet.safetensors", "--json").stdout)
    assert scored == trained["test"]
    assert load_model("lenet5", weights=tmp_path / "lenet.safetensors").name == "lenet5"


def test_tables_name_model_split_and_figures(invoke: Invoke) -> None:
    text = invoke("train", "lenet5", "--epochs", "1", "--out", "lenet.safetensors").stdout
    assert "lenet5 on digits" in text
    assert "validation" in text
    assert "lenet.safetensors: 15 optimizer steps" in text


def test_settings_of_training_can_be_changed_and_unknown_ones_are_named(invoke: Invoke) -> None:
    with pytest.raises(ConfigError, match="learning_rate"):
        invoke("train", "lenet5", "--set", "learning_rate=1", "--out", "x.safetensors")
    with pytest.raises(ConfigError, match="lr"):
        invoke("train", "lenet5", "--set", "lr=-1", "--out", "x.safetensors")


def test_an_unknown_split_is_refused(invoke: Invoke) -> None:
    result = invoke("evaluate", "lenet5", "--split", "train")
    assert result.exit_code == 2
    assert "neither val nor test" in result.output


def test_an_input_shape_that_is_no_list_of_sizes_is_refused(invoke: Invoke) -> None:
    with pytest.raises(ConfigError, match="no list of sizes; write it as --input-shape 1,3,32,32"):
        invoke("evaluate", "lenet5", "--input-shape", "1,3,large")


def test_missing_weights_are_an_error_that_says_what_to_do(invoke: Invoke) -> None:
    with pytest.raises(WeightsError, match="no weights file"):
        invoke("evaluate", "lenet5", "--weights", "absent.safetensors")


def test_a_user_sees_the_message_without_a_traceback_and_exit_code_2(tmp_path: Path) -> None:
    done = run_process("evaluate", "resnet21", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "ModelError: 'resnet21' is no model" in done.stderr
    assert "Traceback" not in done.stderr
