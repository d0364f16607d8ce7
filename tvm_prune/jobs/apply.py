"""Replay a recipe on the user's own class."""

from pathlib import Path

from tvm_prune.compress.packed import is_packed, read_packed
from tvm_prune.compress.recipe import Recipe
from tvm_prune.errors import RecipeError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.jobs.tune import compressed
from tvm_prune.models.load import Model
from tvm_prune.models.weights import load_tensors, load_weights

__all__ = ["load_pruned"]


def load_pruned(
    model: Model | CompressedModel, recipe: Path | str, *, weights: Path | str | None = None
) -> CompressedModel:
    """Return the model that the recipe makes of `model`.

    Its weights are the kept channels of the weights that `model` has; with `weights` (safetensors of the pruned or
    quantized model, as a run folder holds them, packed ones too) those instead. Raises RecipeError, also where an ONNX
    file has changed since and its own weights are wanted, and WeightsError.
    """
    loaded = Recipe.load(Path(recipe))
    wanted, found = loaded.base.file_sha256, model.file_sha256 if isinstance(model, Model) else None
    if weights is None and wanted is not None and found is not None and wanted != found:
        raise RecipeError(
            f"the recipe was made from {loaded.base.source!r} with the hash {wanted[:12]}, but the file has "
            f"{found[:12]} now: give the file it was made from, or the weights of the run folder with --weights"
        )
    made = loaded.apply(compressed(model))
    if weights is not None:
        if is_packed(Path(weights)):
            load_tensors(made.module, read_packed(Path(weights)), Path(weights))
        else:
            load_weights(made.module, Path(weights))
    return made
