"""`tvm-prune precision`, with the real compiler."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tvm_prune.errors import TvmPruneError


@pytest.mark.slow
def test_formats_are_chosen_and_shown_layer_by_layer(invoke: Invoke, tmp_path: Path) -> None:
    options = ("--trials-per-task", "2", "--images", "64", "--sensitivity-images", "64", "--max-drop", "2")
    ran = invoke("precision", "lenet5", "--data", "digits", "--out", "mixed", *options)
    assert ran.exit_code == 0, ran.output
    assert "Number formats of lenet5" in ran.stdout
    assert "features.3" in ran.stdout
    assert "times as fast" in ran.stdout
    search = json.loads((tmp_path / "mixed" / "search.json").read_text())
    assert set(search["formats"].values()) <= {"int8", "float32"}
    for name in ("bundle/run.py", "sensitivity.png", "recipe.json", "weights.safetensors", "packed.safetensors"):
        assert (tmp_path / "mixed" / name).exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "precision needs a goal: --latency-goal MS"),
        (("--max-drop", "1", "--formats", "int8,w9"), "weights of 9 bits"),
        (("--latency-goal", "1", "--search", "random"), "search"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_starts(
    invoke: Invoke, options: tuple[str, ...], message: str
) -> None:
    with pytest.raises(TvmPruneError, match=message):
        invoke("precision", "lenet5", "--out", "mixed", *options)
