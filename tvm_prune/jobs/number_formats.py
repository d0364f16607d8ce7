"""Give the layers of a network number formats, with ranges from the training split."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import torch
from pydantic import Field

from tvm_prune.codec import STRICT, decode, encode
from tvm_prune.compress.calibrate import Observer, observe
from tvm_prune.compress.equalise import equalise
from tvm_prune.compress.quantize import with_precision
from tvm_prune.errors import QuantizationError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.groups import near
from tvm_prune.graph.scheme import INT8, Scheme
from tvm_prune.graph.stored_tensors import integer_capable, layers_of, traced_graph
from tvm_prune.jobs.refine import Refinement, refined
from tvm_prune.jobs.train import arithmetic
from tvm_prune.jobs.watcher import Watcher
from tvm_prune.models.datasets.batches import normalised
from tvm_prune.models.datasets.dataset import DataSet
from tvm_prune.models.train_settings import TrainSettings

__all__ = [
    "MIXED",
    "QuantizeSettings",
    "calibration_batches",
    "in_formats",
    "precision_of",
    "pruned_in_formats",
    "rounding_training",
]

MIXED = "mixed"
_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class QuantizeSettings:
    """How to quantize.

    `scheme` is a number format (graph/scheme.py), or "mixed": int8 but for the layers that the network is faster
    without. `layers` gives single layers another one. With `training` the rounded network is trained on, its steps
    among the parameters (graph/learned_steps.py). `images` of the training split are calibrated on. `refine` names what
    is done about rounding without training: compress/equalise.py, compress/adaround.py, compress/bias_correction.py, in
    that order.
    """

    scheme: str = "int8"
    layers: dict[str, str] = field(default_factory=dict)
    images: Annotated[int, Field(ge=1)] = 512
    observer: Observer = "mse"
    refine: tuple[Refinement, ...] = ()
    training: TrainSettings | None = None
    __pydantic_config__ = STRICT


def rounding_training(epochs: int, *, seed: int = 0, changes: Mapping[str, object] | None = None) -> TrainSettings:
    """Return how a rounded network is trained on by default: slowly, with the float network as its teacher.

    `changes` are applied last. Raises ConfigError for a value out of range.
    """
    start = TrainSettings(epochs=epochs, lr=0.01, weight_decay=1e-4, distill_weight=0.5, precision=arithmetic())
    return decode(TrainSettings, encode(start) | {"seed": seed} | dict(changes or {}))


def precision_of(model: CompressedModel, scheme: str, layers: Mapping[str, str]) -> dict[str, Scheme]:
    """Return the number format of every layer that has one: `scheme`, but for those in `layers`.

    A format of less than 8 bits leaves the first and the last layer in int8, as is customary: what they lose costs most
    accuracy. Raises QuantizationError for names that there are not, and if no layer has a form in integers.
    """
    graph = traced_graph(model).graph
    known, capable = layers_of(graph), integer_capable(graph)
    wanted = INT8 if scheme == MIXED else Scheme.parse(scheme)
    possible = capable if wanted.in_integers else known
    if not possible:
        raise QuantizationError(
            "no layer of this model has an integer form: linear layers have, and convolutions of one group or depthwise"
        )
    found = dict.fromkeys(possible, wanted)
    if wanted.in_integers and min(wanted.weight_bits, wanted.activation_bits) < INT8.weight_bits:
        found.update({layer: INT8 for layer in (known[0], known[-1]) if layer in found})
    for layer, name in layers.items():
        if layer not in known:
            raise QuantizationError(f"there is no layer {layer!r} to give the format {name}; {near(layer, known)}")
        found[layer] = Scheme.parse(name)
    return {layer: found[layer] for layer in known if layer in found and found[layer].rounds_weights}


def calibration_batches(data: DataSet, images: int) -> list[torch.Tensor]:
    """Return a sample of `images` of the training split, normalised, in batches."""
    return [normalised(batch, data) for batch in data.train.sample(images).images.split(_BATCH)]


def in_formats(
    model: CompressedModel,
    batches: Iterable[torch.Tensor],
    settings: QuantizeSettings | None = None,
    *,
    watcher: Watcher | None = None,
) -> CompressedModel:
    """Return `model` as `settings` have it before any training and pricing, calibrated and refined on `batches`.

    "mixed" is equalised only: which layers are to be refined is known after pricing. Raises QuantizationError, also for
    no batches and for values that are not finite.
    """
    settings, data = settings or QuantizeSettings(), list(batches)
    precision = precision_of(model, settings.scheme, settings.layers)
    if "equalise" in settings.refine:
        model = equalise(model)
    integers = [layer for layer, scheme in precision.items() if scheme.in_integers]
    seen = observe(model, integers, data, counting=settings.observer != "minmax") if integers else {}
    made = with_precision(model, precision, seen, observer=settings.observer)
    return made if settings.scheme == MIXED else refined(made, data, settings.refine, watcher=watcher)


def pruned_in_formats(
    model: CompressedModel, batches: Iterable[torch.Tensor], settings: QuantizeSettings | None = None
) -> Callable[[CompressedModel], CompressedModel]:
    """Return what gives every network pruned from `model` the formats of `settings`, with the ranges of `model`.

    That is right for what a network takes, which does not depend on the ranges, and for nothing else. Raises
    QuantizationError.
    """
    settings = settings or QuantizeSettings()
    precision = precision_of(model, settings.scheme, settings.layers)
    seen = observe(model, [layer for layer, scheme in precision.items() if scheme.in_integers], list(batches))
    return lambda pruned: with_precision(pruned, precision, seen, observer="minmax")
