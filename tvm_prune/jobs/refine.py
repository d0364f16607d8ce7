"""Refine how a network is rounded, without training it: what the calibration data say about each layer."""

from collections.abc import Iterable, Sequence
from typing import Literal

import torch

from tvm_prune.compress.adaround import round_adaptively
from tvm_prune.compress.bias_correction import correct_biases
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.jobs.watcher import Silent, Watcher

__all__ = ["Refinement", "refined"]

Refinement = Literal["equalise", "bias", "adaround"]
_STAGES = {"bias": "correct biases", "adaround": "choose which weights are rounded up"}


def refined(
    model: CompressedModel,
    batches: Iterable[torch.Tensor],
    refine: Sequence[Refinement],
    *,
    watcher: Watcher | None = None,
) -> CompressedModel:
    """Return `model`, which was rounded and not refined yet, after "adaround" and "bias" as far as `refine` has them.

    They are carried out in that order: what adaptive rounding leaves of a shift is for the biases. "equalise" is not
    done here, ranges depend on it. Raises QuantizationError for no batches.
    """
    data, exact, watcher = list(batches), model.module, watcher or Silent()

    def told(finished: int, layers: int, layer: str) -> None:
        watcher.advance(finished, total=layers, detail=layer)

    for name, method in (("adaround", round_adaptively), ("bias", correct_biases)):
        if name in refine and model.rounded_layers:
            watcher.stage(_STAGES[name])
            model = method(model, exact, data, told=told)
    return model
