"""What each layer costs in accuracy if it alone has a number format, all others in float32.

KL is the divergence of the softmax of the rounded network from that of the float one, in nats, mean over the images
(Galen's measure: what the network says has moved, whether or not that changes its answer).
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional

from tvm_prune.codec import STRICT
from tvm_prune.compress.calibrate import Observer, Seen
from tvm_prune.compress.quantize import with_precision
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.scheme import Scheme
from tvm_prune.graph.stored_tensors import integer_capable, layers_of, reference_module, traced_graph

__all__ = ["Sensitivity", "possible_formats", "sensitivities"]


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Of a network with `layer` alone as `format`: KL from the float one in nats, and right answers beside its own."""

    layer: str
    format: str
    kl: float
    correct: int
    float_correct: int
    total: int
    __pydantic_config__ = STRICT

    @property
    def drop(self) -> float:
        """Accuracy lost, 0..1; negative where rounding has helped by chance."""
        return (self.float_correct - self.correct) / self.total


def possible_formats(model: CompressedModel, formats: Sequence[Scheme]) -> dict[str, list[Scheme]]:
    """Return for each layer which of `formats` it can have, float32 left out."""
    graph = traced_graph(model).graph
    capable = integer_capable(graph)
    return {
        layer: [each for each in formats if each.rounds_weights and (layer in capable or not each.in_integers)]
        for layer in layers_of(graph)
    }


def sensitivities(
    model: CompressedModel,
    formats: Mapping[str, Sequence[Scheme]],
    seen: Mapping[str, Seen],
    batches: Sequence[tuple[torch.Tensor, torch.Tensor]],
    *,
    observer: Observer = "mse",
    known: Collection[tuple[str, str]] = (),
    progress: Callable[[int], None] = lambda done: None,
) -> Iterator[Sensitivity]:
    """Yield the sensitivity of each layer to each of its `formats`, but for those (layer, format) that are `known`.

    `model` is in float32, `seen` what its tensors hold (calibrate.observe of all layers), `batches` are normalised
    images [N, ...] and labels [N]. `progress` is told how many of all pairs are done.
    """
    wanted = [(layer, scheme) for layer, schemes in formats.items() for scheme in schemes]
    missing = [(layer, scheme) for layer, scheme in wanted if (layer, str(scheme)) not in known]
    if not missing:
        return
    plain = replace(model, precision={}, stored={}, weight_scales={})
    exact = _logits(plain.module, batches)
    labels = torch.cat([labels for _, labels in batches])
    right = int((exact.argmax(dim=1) == labels).sum())
    for done, (layer, scheme) in enumerate(missing, start=len(wanted) - len(missing)):
        progress(done)
        rounded = with_precision(plain, {layer: scheme}, seen, observer=observer)
        found = _logits(reference_module(rounded, any_batch=True), batches)
        said, meant = (functional.log_softmax(logits, dim=1) for logits in (found, exact))
        kl = functional.kl_div(said, meant, reduction="batchmean", log_target=True)
        yield Sensitivity(
            layer=layer,
            format=str(scheme),
            kl=max(0.0, float(kl)),
            correct=int((found.argmax(dim=1) == labels).sum()),
            float_correct=right,
            total=len(labels),
        )


def _logits(module: nn.Module, batches: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([module(images).double() for images, _ in batches])
