"""What the search loop may do with models; searchers see only values, and only the loop holds models."""

from pathlib import Path
from typing import Protocol

import numpy as np
from torch import nn

from tvm_prune.compress.recipe import BaseModel, Recipe
from tvm_prune.compress.step import PruneStep
from tvm_prune.errors import RecipeError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.fingerprint import fingerprint
from tvm_prune.graph.groups import Group, Ignored, find_groups
from tvm_prune.graph.importance import importance
from tvm_prune.graph.obs import second_moments
from tvm_prune.models.weights import load_weights, save_weights, weights_digest
from tvm_prune.search.parent import Parent
from tvm_prune.search.quality import Quality
from tvm_prune.search.trial import Accuracy, ScoredGroup

__all__ = ["TorchWorkbench", "Workbench"]


class Workbench(Protocol):
    """Builds, trains, scores and stores models. Every method returns a new value and changes none."""

    @property
    def identity(self) -> str:
        """A digest of the dense model, structure and weights: what a run may be resumed with."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one pass over the training split."""

    def dense(self) -> CompressedModel:
        """Return the model to start from."""

    def build(self, parent: CompressedModel, steps: tuple[PruneStep, ...]) -> CompressedModel:
        """Return `parent` with `steps` applied, weights carried over. Raises PruningError, RecipeError."""

    def refit(
        self, model: CompressedModel, parent: CompressedModel, steps: tuple[PruneStep, ...], *, seed: int
    ) -> CompressedModel:
        """Return `model`, which is `parent` after `steps`, with its layers fitted to what they gave there."""

    def finetune(self, model: CompressedModel, *, steps: int, seed: int, final: bool = False) -> CompressedModel:
        """Return `model` trained for `steps` optimizer steps; `final` selects the settings of the last retraining."""

    def probe(self, model: CompressedModel, parent: CompressedModel, steps: tuple[PruneStep, ...]) -> float | None:
        """Return how far `model`, which is `parent` after `steps`, is from it before any training; None if unknown.

        0 = the same; harms of steps that have nothing to do with each other add up.
        """

    def evaluate(self, model: CompressedModel) -> Accuracy:
        """Return the accuracy on the validation split: the only one that decisions see."""

    def test(self, model: CompressedModel) -> Accuracy:
        """Return the accuracy on the test split: for the report, after the last decision."""

    def groups(self, model: CompressedModel) -> tuple[ScoredGroup, ...]:
        """Return the dependency groups of `model` with the importance of each unit."""

    def save(self, model: CompressedModel, steps: tuple[PruneStep, ...], stem: Path) -> None:
        """Write ``stem.safetensors`` and ``stem.recipe.json`` (`steps` lead from dense to `model`), each atomically."""

    def load(self, steps: tuple[PruneStep, ...], stem: Path) -> CompressedModel:
        """Return what `save` wrote, rebuilt from the dense model. Raises WeightsError, RecipeError."""


class TorchWorkbench:
    """The workbench over torch modules.

    `source` is how the user named the model and `file_sha256` the hash of its ONNX file, if it is one (both go into the
    recipe), `quality` says how good a module is and how to
    train it, `criterion` ranks channels ("obs" becomes "l1" where there are no images to look at), `ignored_layers` are
    never pruned. Layers are fitted, and looked at by "obs", on `refit_images` training images, cuts probed on
    `probe_images`.
    """

    def __init__(
        self,
        dense: CompressedModel,
        quality: Quality,
        *,
        source: str,
        file_sha256: str | None = None,
        criterion: str = "l1",
        ignored_layers: tuple[Ignored, ...] = (),
        probe_images: int = 512,
        refit_images: int = 0,
        seed: int = 0,
    ) -> None:
        self._dense = dense
        self._quality = quality
        self._base = BaseModel(source=source, fingerprint=fingerprint(dense), file_sha256=file_sha256)
        self._criterion = criterion
        self._ignored = ignored_layers
        self._probe_images = probe_images
        self._refit_images = refit_images
        self._seed = seed
        self._last: Parent | None = None

    @property
    def identity(self) -> str:
        """Fingerprint of the structure and digest of the weights."""
        return f"{self._base.fingerprint[:16]}-{weights_digest(self._dense.module)[:16]}"

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one pass over the training split."""
        return self._quality.steps_per_epoch

    @property
    def has_test(self) -> bool:
        """Whether `test` looks at other images than `evaluate`."""
        return self._quality.has_test

    def dense(self) -> CompressedModel:
        """Return the model to start from."""
        return self._dense

    def build(self, parent: CompressedModel, steps: tuple[PruneStep, ...]) -> CompressedModel:
        """Return `parent` with `steps` applied, weights carried over. Raises PruningError, RecipeError."""
        return self._parent(parent).build(steps)

    def refit(
        self, model: CompressedModel, parent: CompressedModel, steps: tuple[PruneStep, ...], *, seed: int
    ) -> CompressedModel:
        """Return `model` with its layers fitted to those of `parent`; as it is where there is nothing to fit on."""
        fitted = self._parent(parent).refit(model, steps, images=self._refit_images, seed=seed)
        return model if fitted is None else _with_module(model, fitted)

    def finetune(self, model: CompressedModel, *, steps: int, seed: int, final: bool = False) -> CompressedModel:
        """Return `model` trained for `steps` optimizer steps; `final` selects the settings of the last retraining."""
        module = self._quality.finetune(model.module, steps=steps, seed=seed, final=final)
        return _with_module(model, module)

    def probe(self, model: CompressedModel, parent: CompressedModel, steps: tuple[PruneStep, ...]) -> float | None:
        """Return the relative squared difference of the answers, to six digits; None where there are no images."""
        distance = self._parent(parent).distance(model, steps)
        return None if distance is None else float(f"{distance:.6g}")

    def evaluate(self, model: CompressedModel) -> Accuracy:
        """Return the accuracy on the validation split."""
        return self._quality.validate(model.module)

    def test(self, model: CompressedModel) -> Accuracy:
        """Return the accuracy on the test split."""
        return self._quality.test(model.module)

    def groups(self, model: CompressedModel) -> tuple[ScoredGroup, ...]:
        """Return the dependency groups of `model` with the importance of each unit. Raises PruningError."""
        criterion, moments = self._criterion, None
        gradients = self._quality.gradients(model.module) if criterion == "taylor" else None
        if criterion == "obs":
            inputs = self._quality.calibration(self._refit_images)
            if inputs is None:
                criterion = "l1"
            else:
                moments = second_moments(model.module, inputs, seed=self._seed)
        found = find_groups(model.module, model.example_inputs, ignored_layers=self._ignored)
        return tuple(
            _scored(
                group,
                importance(model.module, group, criterion, gradients=gradients, moments=moments, seed=self._seed)
                if group.prunable
                else np.ones(group.width),
            )
            for group in found
        )

    def save(self, model: CompressedModel, steps: tuple[PruneStep, ...], stem: Path) -> None:
        """Write ``stem.safetensors`` and ``stem.recipe.json``. Raises DiskFullError."""
        save_weights(model.module, stem.with_name(f"{stem.name}.safetensors"))
        Recipe(base=self._base, steps=steps).save(stem.with_name(f"{stem.name}.recipe.json"))

    def load(self, steps: tuple[PruneStep, ...], stem: Path) -> CompressedModel:
        """Return what `save` wrote, rebuilt from the dense model. Raises WeightsError, RecipeError."""
        path = stem.with_name(f"{stem.name}.recipe.json")
        recipe = Recipe.load(path)
        if recipe.steps != steps:
            raise RecipeError(
                f"{path} holds other steps than the journal beside it; restore the run folder from one copy, or start "
                f"a new run with another --out"
            )
        model = recipe.apply(self._dense)
        load_weights(model.module, stem.with_name(f"{stem.name}.safetensors"))
        return model

    def _parent(self, model: CompressedModel) -> Parent:
        """Return what is known of `model`; kept until another one is asked for."""
        if self._last is None or self._last.model is not model:
            self._last = Parent(model, self._quality, probe_images=self._probe_images)
        return self._last


def _with_module(model: CompressedModel, module: nn.Module) -> CompressedModel:
    return CompressedModel(module=module.eval(), example_inputs=model.example_inputs, precision=model.precision)


def _scored(group: Group, scores: np.ndarray) -> ScoredGroup:
    """Return `group` as values. Six digits of a score are plenty, and hide how a sum was ordered."""
    weighted = ("conv", "depthwise", "linear")
    return ScoredGroup(
        name=group.name,
        width=group.width,
        prunable=group.prunable,
        reason=group.reason,
        scores=tuple(float(f"{score:.6g}") for score in scores),
        outputs={member.layer: member.channels_per_unit for member in group.producers()},
        inputs={
            member.layer: member.channels_per_unit
            for member in group.members
            if member.side == "in" and member.kind in weighted
        },
    )
