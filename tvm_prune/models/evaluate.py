"""Top-1 accuracy on a split."""

from dataclasses import dataclass

import torch
from torch import nn

from tvm_prune.codec import STRICT
from tvm_prune.errors import DataError, ModelError
from tvm_prune.models.datasets.batches import normalised
from tvm_prune.models.datasets.dataset import DataSet, Split

__all__ = ["Score", "checked_logits", "evaluate", "predictions"]


@dataclass(frozen=True, kw_only=True)
class Score:
    """Correct answers out of all, top-1."""

    correct: int
    total: int
    __pydantic_config__ = STRICT

    @property
    def fraction(self) -> float:
        """Accuracy in 0..1."""
        return self.correct / self.total

    def __str__(self) -> str:
        """Return for example `912 of 1000 (91.20 %)`."""
        return f"{self.correct} of {self.total} ({100 * self.fraction:.2f} %)"


def checked_logits(output: object, data: DataSet) -> torch.Tensor:
    """Return a classifier's output as it is; ModelError unless it is a tensor [N, at least data.num_classes]."""
    if not isinstance(output, torch.Tensor) or output.dim() != 2:
        found = list(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise ModelError(
            f"a classifier must return one tensor [images, classes], this model returned {found}; "
            "pass your own evaluate and finetune functions for it."
        )
    if output.shape[1] < data.num_classes:
        raise ModelError(
            f"the model tells {output.shape[1]} classes apart, {data.name} has {data.num_classes}: "
            f"build it with --num-classes {data.num_classes}."
        )
    return output


def predictions(module: nn.Module, split: Split, data: DataSet, batch_size: int = 500) -> torch.Tensor:
    """Return the class of every image of `split`, int64 [N], computed in eval mode on the module's own device.

    The module's training mode is put back. Raises DataError for an empty split, ModelError as `checked_logits` does.
    """
    if len(split) == 0:
        raise DataError(f"the split of {data.name} to evaluate holds no images; load more with a larger limit.")
    first = next(module.parameters(), None)
    device = first.device if first is not None else torch.device("cpu")
    was_training = module.training
    module.eval()
    found = []
    try:
        with torch.inference_mode():
            for start in range(0, len(split), batch_size):
                inputs = normalised(split.images[start : start + batch_size], data).to(device)
                found.append(checked_logits(module(inputs), data).argmax(dim=1).cpu())
    finally:
        module.train(was_training)
    return torch.cat(found)


def evaluate(module: nn.Module, split: Split, data: DataSet, batch_size: int = 500) -> Score:
    """Return the top-1 score of `module` on `split`; `data` says how its bytes become inputs."""
    correct = predictions(module, split, data, batch_size) == split.labels
    return Score(correct=int(correct.sum()), total=len(split))
