"""How good a network is and how it recovers: from a data set, or from two functions of the user."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional

from tvm_prune.errors import ConfigError, ModelError
from tvm_prune.graph.importance import Gradients, accumulate_gradients
from tvm_prune.lock import machine_lock
from tvm_prune.models.datasets.batches import normalised
from tvm_prune.models.datasets.dataset import DataSet, Split
from tvm_prune.models.evaluate import Score, evaluate
from tvm_prune.models.memory_format import training_format
from tvm_prune.models.train import train
from tvm_prune.models.train_settings import Progress, TrainSettings
from tvm_prune.search.trial import Accuracy

__all__ = ["DataQuality", "Quality", "UserQuality"]

_GRADIENT_IMAGES = 1024


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

    def calibration(self, count: int) -> torch.Tensor | None:
        """Return a batch of `count` training inputs to fit layers on, always the same; None = there are none."""

    def unseen(self, count: int) -> torch.Tensor | None:
        """Return a batch of `count` inputs, not trained on, to compare answers on; None = there are none."""

    def gradients(self, module: nn.Module) -> Gradients:
        """Return the mean gradient of the loss by parameter name, for the criterion "taylor"."""


class DataQuality:
    """A labelled data set: top-1 on its splits, cross-entropy training with `short` and `final` settings.

    `teacher` is distilled from where the settings give it a weight. The number of steps and the seed of a call replace
    those of the settings. `progress` is told after each step of a training.
    """

    has_test = True

    def __init__(
        self,
        data: DataSet,
        *,
        short: TrainSettings,
        final: TrainSettings,
        teacher: nn.Module | None = None,
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
        self._gradient_sample = data.train.sample(_GRADIENT_IMAGES)

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

    def calibration(self, count: int) -> torch.Tensor | None:
        """Return the same `count` images of the training split each time, as inputs; None for 0."""
        return self._batch(self._data.train.sample(count))

    def unseen(self, count: int) -> torch.Tensor | None:
        """Return the same `count` images of the validation split each time, as inputs; None for 0."""
        return self._batch(self._data.val.sample(count))

    def _batch(self, sample: Split) -> torch.Tensor | None:
        return normalised(sample.images, self._data) if len(sample) else None

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
    count training in epochs (`short_term_epochs`, `final_epochs`). With a batch of training `inputs` [N, ...], labels
    are not needed, layers are refitted and cuts probed as with a data set.
    """

    def __init__(
        self,
        evaluate: Callable[[nn.Module], float],
        finetune: Callable[[nn.Module, int], nn.Module | None],
        *,
        test: Callable[[nn.Module], float] | None = None,
        inputs: torch.Tensor | None = None,
    ) -> None:
        self._evaluate = evaluate
        self._finetune = finetune
        self._test = test
        self._inputs = inputs

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

    def calibration(self, count: int) -> torch.Tensor | None:
        """Return the first `count` of the inputs that the user gave; None if none were given."""
        return None if self._inputs is None or not count else self._inputs[:count]

    def unseen(self, count: int) -> torch.Tensor | None:
        """Return the last `count` of them."""
        return None if self._inputs is None or not count else self._inputs[-count:]

    def gradients(self, module: nn.Module) -> Gradients:
        """Refuse: there is no loss to differentiate. Raises ConfigError."""
        raise ConfigError("criterion 'taylor' needs a data set; with your own functions use l1, l2, fpgm or bn-scale")


def _accuracy(score: Score) -> Accuracy:
    return Accuracy(correct=score.correct, total=score.total)


def _checked(value: float, name: str) -> Accuracy:
    if not 0.0 <= value <= 1.0:
        raise ModelError(f"your {name} function returned {value}; it must return an accuracy between 0 and 1")
    return Accuracy(correct=float(value), total=1)
