"""A recipe from an ONNX file knows the file it was made from."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.models.onnx.graphs import model_of, node, save, values_of
from tvm_prune.compress.recipe import BaseModel, Recipe
from tvm_prune.compress.step import PruneStep
from tvm_prune.errors import RecipeError
from tvm_prune.graph.fingerprint import fingerprint
from tvm_prune.graph.groups import find_groups
from tvm_prune.jobs.apply import load_pruned
from tvm_prune.jobs.tune import compressed
from tvm_prune.models.load import Model, load_model
from tvm_prune.models.weights import save_weights


@pytest.fixture
def model(tmp_path: Path) -> Model:
    nodes = [node("Conv", ["x", "first.w"], ["a"]), node("Relu", ["a"], ["b"]), node("Conv", ["b", "last.w"], ["y"])]
    weights = {"first.w": values_of(8, 4, 3, 3), "last.w": values_of(3, 8, 1, 1)}
    return load_model(str(save(model_of(nodes, constants=weights), tmp_path)))


def recipe_of(model: Model, path: Path) -> Path:
    made = compressed(model)
    (group,) = [group for group in find_groups(made.module, made.example_inputs) if group.prunable]
    base = BaseModel(source=model.source, fingerprint=fingerprint(made), file_sha256=model.file_sha256)
    Recipe(base=base, steps=(PruneStep(group=group.name, width=8, keep=(0, 2, 3, 5)),)).save(path)
    return path


def test_it_replays_on_the_file(model: Model, tmp_path: Path) -> None:
    pruned = load_pruned(model, recipe_of(model, tmp_path / "recipe.json")).module
    assert torch.equal(pruned.get_parameter("first.weight"), model.module.get_parameter("first.weight")[[0, 2, 3, 5]])


def test_a_file_that_has_changed_is_refused_unless_the_weights_are_given(model: Model, tmp_path: Path) -> None:
    path = recipe_of(model, tmp_path / "recipe.json")
    changed = replace(model, file_sha256="0" * 64)
    with pytest.raises(
        RecipeError, match=r"with the hash [0-9a-f]{12}, but the file has 000000000000 now: give the file"
    ):
        load_pruned(changed, path)
    weights = tmp_path / "weights.safetensors"
    save_weights(load_pruned(model, path).module, weights)
    assert load_pruned(changed, path, weights=weights).module.get_parameter("first.weight").shape[0] == 4
