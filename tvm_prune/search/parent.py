"""What is found out about one model once and used for all candidates made from it."""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import nn

from tvm_prune.compress.apply import apply_steps, kept_outputs
from tvm_prune.compress.step import PruneStep
from tvm_prune.graph.behaviour import Behaviour
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.groups import Traced, trace
from tvm_prune.graph.refit import refit
from tvm_prune.graph.running import evaluating, tensors_of
from tvm_prune.search.quality import Quality

__all__ = ["Parent"]

# A look at a cut needs fewer rows than the fit that is kept.
_PROBE_ROWS_PER_ELEMENT = 8


class Parent:
    """A model that others are cut from; `quality` has the images, `probe_images` of them are for `distance`."""

    def __init__(self, model: CompressedModel, quality: Quality, *, probe_images: int) -> None:
        self.model = model
        self._quality = quality
        self._probe_images = probe_images

    def build(self, steps: tuple[PruneStep, ...]) -> CompressedModel:
        """Return the model with `steps` applied, weights carried over. Raises RecipeError."""
        return apply_steps(self.model, steps, traced=self._traced)

    def refit(
        self, child: CompressedModel, steps: tuple[PruneStep, ...], *, images: int, seed: int
    ) -> nn.Module | None:
        """Return `child`, made by `steps`, with all its layers fitted on so many images; None if there are none."""
        inputs = self._quality.calibration(images)
        if inputs is None:
            return None
        behaviour = Behaviour.of(self.model.module, inputs, seed=seed)
        return refit(child.module, behaviour, kept_outputs(self.model, steps, traced=self._traced))

    def distance(self, child: CompressedModel, steps: tuple[PruneStep, ...]) -> float | None:
        """Return how far the answers of `child` are from the model's once the readers of what is gone are fitted.

        Fitted on training images, compared on others: the mean squared difference of the answers over how much the
        model's own differ among images, added over outputs (0 = the same, 1 = no better than the mean answer). Labels
        play no part; where the network was trained to a small loss, the loss tells small cuts apart less well.
        """
        if self._behaviour is None or self._unseen is None:
            return None
        kept = kept_outputs(self.model, steps, traced=self._traced)
        fitted = refit(child.module, self._behaviour, kept, only_readers=True)
        inputs, wanted = self._unseen
        total = 0.0
        for own, other in zip(wanted, _answers(fitted, inputs), strict=True):
            energy = (own - own.mean(dim=0)).square().mean()
            total += float((own - other).square().mean() / energy.clamp(min=1e-30))
        return total

    @cached_property
    def _traced(self) -> Traced:
        return trace(self.model.module, self.model.example_inputs)

    @cached_property
    def _behaviour(self) -> Behaviour | None:
        inputs = self._quality.calibration(self._probe_images)
        if inputs is None:
            return None
        return Behaviour.of(self.model.module, inputs, rows_per_element=_PROBE_ROWS_PER_ELEMENT)

    @cached_property
    def _unseen(self) -> tuple[torch.Tensor, Sequence[torch.Tensor]] | None:
        inputs = self._quality.unseen(self._probe_images)
        return None if inputs is None else (inputs, _answers(self.model.module, inputs))


def _answers(module: nn.Module, inputs: torch.Tensor) -> Sequence[torch.Tensor]:
    with torch.inference_mode(), evaluating(module):
        return tensors_of(module(inputs))
