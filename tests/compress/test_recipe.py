"""Recipes: JSON and back, replay on the original class, and every way a file can be wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.examples import few
from tvm_prune.compress.recipe import RECIPE_VERSION, BaseModel, Recipe
from tvm_prune.compress.step import PruneStep
from tvm_prune.errors import RecipeError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.fingerprint import fingerprint


def model(*, width: int = 8, seed: int = 1) -> CompressedModel:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3)).eval()
    return CompressedModel(module=module, example_inputs=(torch.zeros(1, 4),))


def recipe() -> Recipe:
    base = BaseModel(source="mine:net", fingerprint=fingerprint(model()))
    return Recipe(base=base, steps=(PruneStep(group="0", width=8, keep=(1, 2, 6)),))


steps = st.builds(
    lambda group, width, seed: PruneStep(group=group, width=width, keep=tuple(range(seed % width, width))),
    st.text(min_size=1, max_size=12),
    st.integers(1, 64),
    st.integers(0, 1000),
)


@given(made=st.builds(Recipe, base=st.builds(BaseModel), steps=st.tuples(steps, steps)))
@settings(max_examples=few(30))
def test_a_saved_recipe_loads_equal(made: Recipe, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("recipe") / "recipe.json"
    made.save(path)
    assert Recipe.load(path) == made


def test_the_file_is_plain_json_that_says_what_it_is(tmp_path: Path) -> None:
    recipe().save(tmp_path / "recipe.json")
    assert json.loads((tmp_path / "recipe.json").read_text()) == {
        "base": {"source": "mine:net", "fingerprint": fingerprint(model()), "file_sha256": None},
        "steps": [{"group": "0", "width": 8, "keep": [1, 2, 6], "kind": "prune"}],
        "version": 1,
    }


def test_a_recipe_replays_on_the_original_class_with_any_weights() -> None:
    other = model(seed=2)
    source: Any = other.module
    pruned: Any = recipe().apply(other).module
    assert torch.equal(pruned[0].weight, source[0].weight[[1, 2, 6]])
    assert torch.equal(pruned[2].weight, source[2].weight[:, [1, 2, 6]])
    assert type(pruned) is nn.Sequential


def test_another_model_is_refused_with_both_fingerprints() -> None:
    made, other = recipe(), model(width=9)
    message = f"with fingerprint {made.base.fingerprint[:12]}, but this Sequential has {fingerprint(other)[:12]}"
    with pytest.raises(RecipeError, match=message):
        made.apply(other)


def test_a_pruned_model_is_refused_as_a_base() -> None:
    with pytest.raises(RecipeError, match="Build the model exactly as it was before pruning"):
        recipe().apply(recipe().apply(model()))


def changed(**parts: Any) -> str:
    data = {
        "base": {"source": "a", "fingerprint": "b"},
        "steps": [{"group": "0", "width": 8, "keep": [1, 2], "kind": "prune"}],
        "version": 1,
    }
    return json.dumps({**data, **parts})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON .* damaged or not a recipe. Restore it"),
        ("\x00\x01", "is not JSON"),
        ("[1, 2]", "is JSON but not a recipe: it lacks 'base' and 'steps'"),
        ('{"loss": 3}', "is JSON but not a recipe"),
        (changed(version=RECIPE_VERSION + 1), "has recipe version 2; this tvm_prune reads up to 1. Install a newer"),
        (changed(version=0), r"not a valid Recipe: .*version"),
        (changed(version="new"), "not a valid Recipe: .*version"),
        (changed(extra=1), "not a valid Recipe: .*extra: Unexpected keyword argument"),
        (changed(base={"source": "a"}), r"not a valid Recipe: .*base\.fingerprint"),
        (changed(base={"source": "a", "fingerprint": "b", "c": 1}), r"not a valid Recipe: .*base\.c"),
        (
            changed(steps=[{"group": "0", "width": 8, "keep": [1], "kind": "melt"}]),
            "not a valid Recipe: .*steps.0: .*'melt'.* 'prune', 'quantize'",
        ),
        (changed(steps=[{"group": "0", "width": 8, "keep": [], "kind": "prune"}]), "step 1 .* keeps nothing"),
        (changed(steps=[{"group": "0", "width": 2, "keep": [1, 2], "kind": "prune"}]), "keeps units outside 0 to 1"),
    ],
)
def test_a_file_that_is_not_a_sound_recipe_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        Recipe.load(path)


def test_bytes_that_are_no_text_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="is not JSON"):
        Recipe.load(tmp_path / "recipe.json")
    with pytest.raises(RecipeError, match=r"there is no recipe at .*none\.json; give the recipe\.json of a run folder"):
        Recipe.load(tmp_path / "none.json")
