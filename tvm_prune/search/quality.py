"""How good a network is and how it recovers: from a data set, or from two functions of the user."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from tvm_prune.errors import ConfigError, ModelError
from tvm_prune.graph.importance import Gradients, accumulate_gradients
from tvm_prune.lock import machine_lock
from tvm_prune.models.datasets.batches import normalised
from tvm_prune.models.datasets.dataset import DataSet
from tvm_prune.models.evaluate import Score, evaluate
from tvm_prune.models.memory_format import training_format
from tvm_prune.models.train import train
from tvm_prune.models.train_settings import Progress, TrainSettings
from tvm_prune.search.trial import Accuracy

__all__ = ["DataQuality", "Quality", "UserQuality"]

_GRADIENT_IMAGES = 1024
_PROBED_AT_ONCE = 128


class Quality(Protocol):
    """Scores and trains modules; never changes the one it is given."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one pass over the training data."""

    @property
    def has_test(self) -> bool:
        """Whether `test` looks at other images than `validate`."""

    def validate(self, module: nn.Module) -> Accuracy:
        """Return the accuracy that decisions rest on."""

    def test(self, module: nn.Module) -> Accuracy:
        """Return the accuracy for the report."""

    def finetune(self, module: nn.Module, *, steps: int, seed: int, final: bool) -> nn.Module:
        """Return a trained copy of `module`."""

    def calibration(self) -> torch.Tensor | None:
        """Return a batch of training inputs that layers may be fitted on; None = they are not to be fitted."""

    def probe(self, module: nn.Module) -> float | None:
        """Return how far off `module` is before any training (lower = better); None if that cannot be had cheaply."""

    def gradients(self, module: nn.Module) -> Gradients:
        """Return the mean gradient of the loss by parameter name, for the criterion "taylor"."""


class DataQuality:
    """A labelled data set: top-1 on its splits, cross-entropy training with `short` and `final` settings.

    `teacher` is distilled from where the settings give it a weight. The number of steps and the seed of a call replace
    those of the settings. `probe_images` of the training split are what `probe` looks at, `refit_images` of it what
    `calibration` returns. `progress` is told after each step of a training.
    """

    has_test = True

    def __init__(
        self,
        data: DataSet,
        *,
        short: TrainSettings,
        final: TrainSettings,
        teacher: nn.Module | None = None,
        probe_images: int = 512,
        refit_images: int = 0,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        for settings in (short, final):
            if settings.distill_weight and teacher is None:
                raise ConfigError("distill_weight is above 0 but no teacher was given; pass teacher=, or set it to 0")
        self._data = data
        self._short = short
        self._final = final
        self._teacher = teacher
        self._progress = progress
        # Always the same images, drawn over the whole split: some data sets are sorted by class.
        order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
        self._sample = data.train.take(order[:probe_images])
        self._refit_sample = data.train.take(order[:refit_images])
        self._gradient_sample = data.train.take(order[:_GRADIENT_IMAGES])

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of the short-term batch size in the training split; the rest of an epoch is not trained on."""
        return max(1, len(self._data.train) // self._short.batch_size)

    def validate(self, module: nn.Module) -> Accuracy:
        """Return top-1 on the validation split."""
        return _accuracy(evaluate(module, self._data.val, self._data))

    def test(self, module: nn.Module) -> Accuracy:
        """Return top-1 on the test split."""
        return _accuracy(evaluate(module, self._data.test, self._data))

    def finetune(self, module: nn.Module, *, steps: int, seed: int, final: bool) -> nn.Module:
        """Return a copy of `module` trained for `steps` optimizer steps."""
        settings = replace(self._final if final else self._short, epochs=None, steps=steps, seed=seed)
        teacher = self._teacher if settings.distill_weight else None
        return train(module, self._data, settings, teacher=teacher, progress=self._progress).module

    def calibration(self) -> torch.Tensor | None:
        """Return the same `refit_images` of the training split each time, as inputs; None if that is 0."""
        return normalised(self._refit_sample.images, self._data) if len(self._refit_sample) else None

    def probe(self, module: nn.Module) -> float | None:
        """Return the mean cross-entropy on a fixed sample of the training split.

        The statistics of batch norm no longer fit a pruned network and would hide how good it can be: those of the
        sample itself take their place (after Li et al., EagleEye, ECCV 2020, section 3.3).
        """
        probed = copy.deepcopy(module).eval()
        if len(self._sample) > 1:
            for part in probed.modules():
                if isinstance(part, _BatchNorm):
                    part.train()
        inputs = normalised(self._sample.images, self._data)
        # Of nearly equal size, so that none is too small to have statistics.
        pieces = math.ceil(len(self._sample) / _PROBED_AT_ONCE)
        with torch.inference_mode():
            losses = [
                functional.cross_entropy(probed(batch), labels, reduction="sum")
                for batch, labels in zip(
                    inputs.tensor_split(pieces), self._sample.labels.tensor_split(pieces), strict=True
                )
            ]
        return float(sum(losses) / len(self._sample))

    def gradients(self, module: nn.Module) -> Gradients:
        """Return the mean gradient of the cross-entropy over a fixed sample of the training split."""
        sample, size = self._gradient_sample, self._short.batch_size
        inputs = normalised(sample.images, self._data).contiguous(memory_format=training_format(module))
        batches = zip(inputs.split(size), sample.labels.split(size), strict=True)
        return accumulate_gradients(module, batches, functional.cross_entropy)


class UserQuality:
    """The user's own functions instead of a data set.

    `evaluate(module)` returns an accuracy in 0..1 and steers the search; `test(module)` (default: `evaluate`) is for
    the report; `finetune(module, epochs)` returns the trained module or trains in place. The search's settings must
    count training in epochs (`short_term_epochs`, `final_epochs`).
    """

    def __init__(
        self,
        evaluate: Callable[[nn.Module], float],
        finetune: Callable[[nn.Module, int], nn.Module | None],
        *,
        test: Callable[[nn.Module], float] | None = None,
    ) -> None:
        self._evaluate = evaluate
        self._finetune = finetune
        self._test = test

    @property
    def steps_per_epoch(self) -> int:
        """One: the user's function counts epochs."""
        return 1

    @property
    def has_test(self) -> bool:
        """Whether a function of its own was given for the report."""
        return self._test is not None

    def validate(self, module: nn.Module) -> Accuracy:
        """Return what the user's `evaluate` says."""
        return _checked(self._evaluate(module), "evaluate")

    def test(self, module: nn.Module) -> Accuracy:
        """Return what the user's `test` says."""
        return _checked((self._test or self._evaluate)(module), "test")

    def finetune(self, module: nn.Module, *, steps: int, seed: int, final: bool) -> nn.Module:
        """Return a copy of `module` trained by the user's function for `steps` epochs from the seed."""
        student = copy.deepcopy(module)
        with machine_lock("training"), torch.random.fork_rng():
            torch.manual_seed(seed)
            returned = self._finetune(student, steps)
        return student if returned is None else returned

    def calibration(self) -> torch.Tensor | None:
        """Return None: what the user's model is fed is not known here."""
        return None

    def probe(self, module: nn.Module) -> float | None:
        """Return None: the user's evaluation may be slow, and the importance of channels will do."""
        return None

    def gradients(self, module: nn.Module) -> Gradients:
        """Refuse: there is no loss to differentiate. Raises ConfigError."""
        raise ConfigError("criterion 'taylor' needs a data set; with your own functions use l1, l2, fpgm or bn-scale")


def _accuracy(score: Score) -> Accuracy:
    return Accuracy(correct=score.correct, total=score.total)


def _checked(value: float, name: str) -> Accuracy:
    if not 0.0 <= value <= 1.0:
        raise ModelError(f"your {name} function returned {value}; it must return an accuracy between 0 and 1")
    return Accuracy(correct=float(value), total=1)
