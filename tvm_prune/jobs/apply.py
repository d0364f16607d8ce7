"""Replay a recipe on the user's own class."""

from pathlib import Path

from tvm_prune.compress.recipe import Recipe
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.jobs.tune import compressed
from tvm_prune.models.load import Model
from tvm_prune.models.weights import load_weights

__all__ = ["load_pruned"]


def load_pruned(
    model: Model | CompressedModel, recipe: Path | str, *, weights: Path | str | None = None
) -> CompressedModel:
    """Return the model that the recipe makes of `model`.

    Its weights are the kept channels of the weights that `model` has; with `weights` (safetensors of the pruned model,
    as a run folder holds them) those instead. Raises RecipeError, WeightsError.
    """
    made = Recipe.load(Path(recipe)).apply(compressed(model))
    if weights is not None:
        load_weights(made.module, Path(weights))
    return made
