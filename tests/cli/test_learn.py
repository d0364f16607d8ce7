"""`tvm-prune train` and `tvm-prune evaluate`."""

import json
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Invoke, run_process
from tvm_prune.compress.recipe import BaseModel, Recipe
from tvm_prune.compress.step import PruneStep, QuantizeStep, Step
from tvm_prune.errors import ConfigError, WeightsError
from tvm_prune.graph.fingerprint import fingerprint
from tvm_prune.graph.groups import find_groups
from tvm_prune.jobs.tune import compressed
from tvm_prune.models.load import Model, load_model
from tvm_prune.models.weights import save_weights


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


def recipe_for(model: Model, path: Path, *, quantized: bool = False) -> Path:
    """Write a recipe that takes a few channels of the first group, and rounds weights if asked."""
    made = compressed(model)
    group = next(group for group in find_groups(made.module, made.example_inputs) if group.prunable)
    base = BaseModel(source=model.source, fingerprint=fingerprint(made))
    steps: list[Step] = [PruneStep(group=group.name, width=group.width, keep=tuple(range(group.width - 2)))]
    if quantized:
        layer = next(name for name, part in made.module.named_modules() if isinstance(part, torch.nn.Conv2d))
        steps.append(QuantizeStep(precision={layer: "w4"}, stored={}))
    Recipe(base=base, steps=tuple(steps)).save(path)
    return path


def test_a_pruned_network_is_trained_further(invoke: Invoke, tmp_path: Path) -> None:
    recipe = str(recipe_for(load_model("lenet5"), tmp_path / "recipe.json"))
    first = ("train", "lenet5", "--recipe", recipe, "--epochs", "1")
    invoke(*first, "--out", "first.safetensors")
    again = invoke(*first, "--pruned-weights", "first.safetensors", "--out", "second.safetensors", "--json")
    trained = json.loads(again.stdout)
    scored = invoke("evaluate", "lenet5", "--recipe", recipe, "--weights", "second.safetensors", "--json")
    assert json.loads(scored.stdout) == trained["test"]


def test_the_network_before_pruning_teaches_the_pruned_one(invoke: Invoke, tmp_path: Path) -> None:
    dense = load_model("lenet5")
    # A teacher that knows one answer.
    last = [part for part in dense.module.modules() if isinstance(part, torch.nn.Linear)][-1]
    with torch.no_grad():
        last.bias[3] += 8.0
    save_weights(dense.module, tmp_path / "dense.safetensors", metadata={})
    recipe = str(recipe_for(dense, tmp_path / "recipe.json"))
    command = ("train", "lenet5", "--weights", "dense.safetensors", "--recipe", recipe, "--epochs", "4", "--json")
    scores = {}
    for weight in ("0", "1"):
        out = ("--out", f"taught{weight}.safetensors", "--set", f"distill_weight={weight}")
        scores[weight] = json.loads(invoke(*command, *out).stdout)["test"]
    assert scores["1"]["correct"] < 0.2 * scores["1"]["total"]
    assert scores["0"]["correct"] > 0.5 * scores["0"]["total"]


def test_a_teacher_without_trained_weights_is_pointed_out(invoke: Invoke, tmp_path: Path) -> None:
    recipe = str(recipe_for(load_model("lenet5"), tmp_path / "recipe.json"))
    said = invoke(
        "train", "lenet5", "--recipe", recipe, "--epochs", "1", "--set", "distill_weight=0.5", "--out", "x.safetensors"
    ).stderr
    assert "lenet5 has random weights" in said


def test_a_distill_weight_without_a_teacher_is_refused(invoke: Invoke) -> None:
    with pytest.raises(ConfigError, match=r"there is no teacher: give --recipe RUN_DIR/recipe\.json"):
        invoke("train", "lenet5", "--set", "distill_weight=0.5", "--out", "x.safetensors")


def test_weights_of_a_pruned_network_need_their_recipe(invoke: Invoke) -> None:
    with pytest.raises(ConfigError, match=r"add --recipe RUN_DIR/recipe\.json"):
        invoke("train", "lenet5", "--pruned-weights", "w.safetensors", "--out", "x.safetensors")


def test_a_recipe_that_quantizes_is_not_trained_without_rounding(invoke: Invoke, tmp_path: Path) -> None:
    recipe = str(recipe_for(load_model("lenet5"), tmp_path / "recipe.json", quantized=True))
    with pytest.raises(ConfigError, match=r"quantizes 1 layers.*tvm-prune quantize --recipe \.\.\. --train-epochs N"):
        invoke("train", "lenet5", "--recipe", recipe, "--out", "x.safetensors")


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
