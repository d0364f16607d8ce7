"""Training and fine-tuning of classifiers: one function for 50 steps of recovery and for a whole run.

SGD with Nesterov momentum under a linear warm-up and a cosine decay (Loshchilov and Hutter 2017, "SGDR", without
restarts), optionally with a teacher's soft targets (Hinton et al. 2015, "Distilling the Knowledge in a Neural Network",
section 2) and an exponential average of the weights.
"""

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from tvm_prune.codec import decode, encode
from tvm_prune.errors import ConfigError
from tvm_prune.models.datasets.batches import TrainBatches
from tvm_prune.models.datasets.dataset import DataSet
from tvm_prune.models.memory_format import training_format
from tvm_prune.models.train_settings import Epoch, Progress, TrainResult, TrainSettings

__all__ = ["Epoch", "Progress", "TrainResult", "TrainSettings", "train"]


def train(
    module: nn.Module,
    data: DataSet,
    settings: TrainSettings,
    *,
    teacher: nn.Module | None = None,
    checkpoint_dir: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    validate: bool = False,
) -> TrainResult:
    """Train a copy of `module` on `data.train`; the result is a function of the arguments and the thread count alone.

    With `checkpoint_dir`, the state is written there after every epoch, and a call with the same arguments goes on from
    it, also after a kill. `progress` is told after every step. `validate` scores the validation split after every epoch
    for the history. Raises ConfigError for contradictory settings or a checkpoint of other settings, WeightsError for a
    corrupt checkpoint.
    """
    settings = decode(TrainSettings, encode(settings))
    if (settings.epochs is None) == (settings.steps is None):
        raise ConfigError(
            f"training needs exactly one of epochs and steps, got epochs={settings.epochs} and steps={settings.steps}."
        )
    if (teacher is None) != (settings.distill_weight == 0):
        raise ConfigError(
            f"a teacher and distill_weight > 0 go together, got {'no' if teacher is None else 'a'} teacher and "
            f"distill_weight={settings.distill_weight}."
        )
    # Lightning takes seconds to import; a call that failed above should not wait for it.
    from tvm_prune.models.lightning_loop import Fit, fit

    memory_format = training_format(module)
    student = _in_format(copy.deepcopy(module), memory_format)
    batches = TrainBatches(data.train, data, batch_size=settings.batch_size, seed=settings.seed)
    trained, steps, seconds, history = fit(
        Fit(
            module=student,
            memory_format=memory_format,
            data=data,
            batches=batches,
            settings=settings,
            teacher=teacher,
            checkpoint_dir=checkpoint_dir,
            progress=progress,
            validate=validate,
        )
    )
    trained = _in_format(trained.cpu(), torch.contiguous_format).eval()
    return TrainResult(module=trained, steps=steps, seconds=seconds, history=history)


def _in_format(module: nn.Module, memory_format: torch.memory_format) -> nn.Module:
    # What Module.to(memory_format=...) does; written out because its type annotation lacks the form.
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=memory_format)
    return module
