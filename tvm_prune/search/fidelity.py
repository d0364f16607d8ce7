"""Quality without labels: how often a network answers as the original does, and training by the original's answers."""

import copy
import hashlib

import torch
from torch import nn
from torch.nn import functional

from tvm_prune.errors import DataError, ModelError
from tvm_prune.graph.importance import Gradients, accumulate_gradients
from tvm_prune.graph.running import evaluating, tensors_of
from tvm_prune.lock import machine_lock
from tvm_prune.search.trial import Accuracy

__all__ = ["FidelityQuality", "agreement", "cosine"]

_BATCH = 16
_HELD_BACK = 0.2


class FidelityQuality:
    """Inputs [N, ...] of a classifier without their labels: an answer is right where `original` gives the same class.

    The class axis is that of the scores: the last one of [N, classes] and [N, places, classes]. The last fifth of the
    inputs is never trained on; one half of it steers the search, the other is for the report. Raises DataError for
    fewer than ten inputs, ModelError if the original returns anything else than such scores.
    """

    has_test = True

    def __init__(self, original: nn.Module, inputs: torch.Tensor, *, lr: float = 1e-3) -> None:
        if len(inputs) < 2 / _HELD_BACK:
            raise DataError(f"{len(inputs)} inputs are too few to compare answers on; give at least 10, better 100s.")
        self._original = copy.deepcopy(original).eval()
        held_back = max(2, round(_HELD_BACK * len(inputs)))
        self._train = inputs[: len(inputs) - held_back]
        self._val, self._test = inputs[len(self._train) :].chunk(2)
        self._lr = lr
        scores = _scores(self._original, self._val[:1])
        if scores.dim() not in (2, 3) or scores.shape[-1] < 2:
            raise ModelError(
                f"the model returns {list(scores.shape)}; agreement needs scores [inputs, classes] or [inputs, places, "
                "classes]. Give your own evaluate and finetune functions for it (UserQuality)."
            )

    @property
    def identity(self) -> str:
        """A digest of the inputs: what a run may be resumed with."""
        parts = (self._train, self._val, self._test)
        digest = hashlib.sha256(b"".join(part.contiguous().numpy().tobytes() for part in parts))
        return f"agreement-{digest.hexdigest()[:12]}"

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of the training inputs."""
        return max(1, len(self._train) // _BATCH)

    def validate(self, module: nn.Module) -> Accuracy:
        """Return the agreement on the inputs that decisions rest on."""
        return self._agreement(module, self._val)

    def test(self, module: nn.Module) -> Accuracy:
        """Return the agreement on the inputs for the report."""
        return self._agreement(module, self._test)

    def finetune(self, module: nn.Module, *, steps: int, seed: int, final: bool) -> nn.Module:
        """Return a copy of `module` trained for `steps` on the original's answers (Kullback-Leibler divergence)."""
        student = copy.deepcopy(module).train()
        for part in student.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()  # a few inputs would spoil the statistics
        optimizer = torch.optim.Adam(student.parameters(), lr=self._lr)
        generator = torch.Generator().manual_seed(seed)
        with machine_lock("training"):
            for _ in range(steps):
                batch = self._train[torch.randint(len(self._train), (_BATCH,), generator=generator)]
                optimizer.zero_grad()
                self._loss(tensors_of(student(batch))[0], batch).backward()
                optimizer.step()
        return student.eval()

    def calibration(self, count: int) -> torch.Tensor | None:
        """Return the first `count` training inputs."""
        return self._train[:count] if count else None

    def unseen(self, count: int) -> torch.Tensor | None:
        """Return up to `count` inputs not trained on."""
        return self._val[:count] if count else None

    def gradients(self, module: nn.Module) -> Gradients:
        """Return the mean gradient of the divergence from the original over the training inputs."""
        batches = [(batch, batch) for batch in self._train.split(_BATCH)]
        return accumulate_gradients(module, batches, lambda scores, batch: self._loss(scores, batch))

    def _loss(self, scores: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            wanted = functional.log_softmax(_scores(self._original, batch), dim=-1)
        found = functional.log_softmax(scores, dim=-1)
        return functional.kl_div(found, wanted, log_target=True, reduction="none").sum(-1).mean()

    def _agreement(self, module: nn.Module, inputs: torch.Tensor) -> Accuracy:
        same = [agreement(_scores(module, batch), _scores(self._original, batch)) for batch in inputs.split(_BATCH)]
        return Accuracy(correct=sum(right for right, _ in same), total=sum(total for _, total in same))


def agreement(scores: torch.Tensor, original: torch.Tensor) -> tuple[int, int]:
    """Return how many answers (largest score of the last axis) of both are the same, and how many there are."""
    same = scores.argmax(-1) == original.argmax(-1)
    return int(same.sum()), same.numel()


def cosine(output: torch.Tensor, original: torch.Tensor) -> float:
    """Return the mean cosine of the angle between both outputs, input by input: 1 = the same direction."""
    return float(functional.cosine_similarity(output.flatten(1), original.flatten(1)).mean().detach())


def _scores(module: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    with torch.no_grad(), evaluating(module):
        return tensors_of(module(batch))[0]
