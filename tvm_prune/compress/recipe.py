"""A recipe: the steps that made a compressed model, and the model they start from. JSON in and out."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tvm_prune.codec import STRICT, decode, encode
from tvm_prune.compress.apply import apply_steps, check_order, check_step
from tvm_prune.compress.step import Step
from tvm_prune.errors import ConfigError, RecipeError
from tvm_prune.files import write_atomically
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.fingerprint import fingerprint

__all__ = ["RECIPE_VERSION", "BaseModel", "Recipe"]

RECIPE_VERSION: Final = 1


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """The model a recipe starts from: where the user got it, and its fingerprint (graph/fingerprint.py).

    That holds the names of the layers; `file_sha256`, of an ONNX file, stands for its weights too.
    """

    source: str
    fingerprint: str
    file_sha256: str | None = None
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A base model and the steps to take from it, in order."""

    base: BaseModel
    steps: tuple[Step, ...] = ()
    version: Literal[1] = RECIPE_VERSION
    __pydantic_config__ = STRICT

    def apply(self, model: CompressedModel) -> CompressedModel:
        """Return the compressed model, built from the user's own uncompressed one with the weights it has.

        Raises RecipeError if `model` is not the base, or a step does not fit.
        """
        found = fingerprint(model)
        if found != self.base.fingerprint:
            raise RecipeError(
                f"the recipe was made from {self.base.source!r} with fingerprint {self.base.fingerprint[:12]}, but "
                f"this {type(model.module).__name__} has {found[:12]}. Build the model exactly as it was before "
                "pruning: same class and settings, same input shape and batch size."
            )
        return apply_steps(model, self.steps)

    def save(self, path: Path) -> None:
        """Write the recipe as JSON, whole or not at all."""
        write_atomically(path, json.dumps(encode(self), indent=1) + "\n")

    @staticmethod
    def load(path: Path) -> "Recipe":
        """Read what `save` wrote. Raises RecipeError saying what is wrong with the file and what to do."""
        again = "Restore it from the run folder, or make it again with `tvm-prune cprune`."
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise RecipeError(f"there is no recipe at {path}; give the recipe.json of a run folder.") from error
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise RecipeError(f"{path} is not JSON ({error}): it is damaged or not a recipe. {again}") from error
        if not isinstance(data, dict) or "base" not in data or "steps" not in data:
            raise RecipeError(f"{path} is JSON but not a recipe: it lacks 'base' and 'steps'. {again}")
        version = data.get("version")
        if isinstance(version, int) and version > RECIPE_VERSION:
            raise RecipeError(
                f"{path} has recipe version {version}; this tvm_prune reads up to {RECIPE_VERSION}. "
                "Install a newer tvm_prune."
            )
        try:
            recipe = decode(Recipe, data)
        except ConfigError as error:
            raise RecipeError(f"{path} is {error}. {again}") from error
        for number, step in enumerate(recipe.steps, start=1):
            check_step(step, number=number)
        check_order(recipe.steps)
        return recipe
