"""Bring a network to integers after its training: calibrate, compile, and say what that has gained and cost.

Accuracy is that of the compiled module on the test split, beside that of the same network rounded in torch; the speed
is a paired comparison of the two compiled modules. Where integers turn out slower, the bundle is of the float network.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from tvm_prune.codec import STRICT, dumps
from tvm_prune.compress.calibrate import Observer, calibrate
from tvm_prune.errors import ModelError, QuantizationError
from tvm_prune.files import write_atomically
from tvm_prune.graph.compressed import INT8, CompressedModel
from tvm_prune.graph.groups import near
from tvm_prune.graph.stored_tensors import integer_capable, layers_of, reference_module, traced_graph
from tvm_prune.jobs.tune import compressed
from tvm_prune.jobs.watcher import Silent, Watcher
from tvm_prune.models.datasets.batches import normalised
from tvm_prune.models.datasets.dataset import DataSet, Split
from tvm_prune.models.evaluate import Score, predictions
from tvm_prune.models.load import Model
from tvm_prune.oracle.bundle import export_bundle, load_bundle, open_bundle
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.cost import Failure, Ratio
from tvm_prune.search.precision import LayerPrice, mixed_precision

__all__ = ["QuantizeScheme", "Quantized", "calibrated", "compiled_predictions", "in_integers", "quantize"]

QuantizeScheme = Literal["int8", "mixed"]

_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """What integers made of a network.

    `integer_layers` and `float_layers` by name; scores on the test split: of the float network, of the rounded one in
    torch, of the compiled module, and on how many images the last two answer alike. `faster` is the float module's
    latency over the integer one's; `shipped` says which of the two the bundle is. Bytes are those of all weights.
    `prices` are those that the scheme "mixed" went by: the whole network with one layer in float32.
    """

    model: str
    data: str
    scheme: QuantizeScheme
    observer: Observer
    calibration_images: int
    prices: tuple[LayerPrice, ...]
    integer_layers: tuple[str, ...]
    float_layers: tuple[str, ...]
    fp32: Score
    rounded: Score
    compiled: Score
    agreeing: int
    faster: Ratio
    fp32_ms: float
    int8_ms: float
    fp32_bytes: int
    int8_bytes: int
    shipped: Literal["int8", "float32"]
    bundle: str
    parity_max_abs_err: float
    __pydantic_config__ = STRICT

    @property
    def agreement(self) -> float:
        """The part of the test images on which the compiled module and torch answer alike."""
        return self.agreeing / self.compiled.total


def in_integers(
    model: CompressedModel,
    batches: Iterable[torch.Tensor],
    *,
    observer: Observer = "mse",
    keep_float: frozenset[str] = frozenset(),
) -> CompressedModel:
    """Return `model` with integer layers, all that have such a form but `keep_float`, calibrated on `batches`.

    Raises QuantizationError if no layer has an integer form, there is no layer of a name in `keep_float`, or nothing
    to calibrate on.
    """
    graph = traced_graph(model)
    known = layers_of(graph.graph)
    if unknown := keep_float.difference(known):
        raise QuantizationError(f"there is no layer {min(unknown)!r} to keep in float32; {near(min(unknown), known)}")
    layers = [layer for layer in integer_capable(graph.graph) if layer not in keep_float]
    if not layers:
        raise QuantizationError(
            "no layer of this model has an integer form: linear layers have, and convolutions of one group or depthwise"
        )
    stored = calibrate(model, layers, batches, observer=observer)
    return replace(model, precision=dict.fromkeys(layers, INT8), stored=stored)


def calibrated(
    model: CompressedModel, data: DataSet, *, images: int, observer: Observer, keep_float: frozenset[str]
) -> CompressedModel:
    """Return `model` with integer layers, calibrated on the first `images` of the training split, as `in_integers`."""
    chosen = data.train.images[:images].split(_BATCH)
    return in_integers(model, [normalised(batch, data) for batch in chosen], observer=observer, keep_float=keep_float)


def quantize(
    model: Model | CompressedModel,
    data: DataSet,
    oracle: CompilerOracle,
    *,
    out: Path | str,
    name: str | None = None,
    scheme: QuantizeScheme = "int8",
    images: int = 512,
    observer: Observer = "mse",
    keep_float: frozenset[str] = frozenset(),
    watcher: Watcher | None = None,
) -> Quantized:
    """Quantize `model`, write its bundle to ``out/bundle`` and what is returned to ``out/report.json``.

    Scheme "int8" brings every layer to integers that can be, "mixed" those that the network is not faster without.
    `name` is for a network that was pruned before. Raises QuantizationError, and ModelError or ParityError if it cannot
    be built.
    """
    out, watcher = Path(out), watcher or Silent()
    dense = compressed(model)
    name = name or (model.name if isinstance(model, Model) else type(model.module).__name__)
    watcher.stage("calibrate on the training split")
    made = calibrated(dense, data, images=images, observer=observer, keep_float=keep_float)
    watcher.stage("tune and compile both networks")
    prices: tuple[LayerPrice, ...] = ()
    if scheme == "mixed":
        mixed = mixed_precision(made, oracle)
        made, prices = mixed.model, mixed.prices
    bundle = export_bundle(made, out / "bundle", oracle=oracle, name=name)
    faster = oracle.compare(made, dense)
    if isinstance(faster, Failure):
        raise ModelError(f"the network cannot be measured; it fails at the stage {faster.stage!r}: {faster.message}")
    watcher.stage("evaluate on the test split")
    fp32 = predictions(dense.module, data.test, data)
    rounded = predictions(reference_module(made, any_batch=True), data.test, data)
    compiled = compiled_predictions(out / "bundle", data.test, data)
    slower = bool(made.stored) and faster.median < 1
    if slower:
        watcher.note("integers are slower than float32 on this target: the bundle is of the float network")
        bundle = export_bundle(dense, out / "bundle", oracle=oracle, name=name)
    found = Quantized(
        model=name,
        data=data.name,
        scheme=scheme,
        observer=observer,
        calibration_images=min(images, len(data.train)),
        prices=prices,
        integer_layers=tuple(made.integer_layers),
        float_layers=tuple(name for name in layers_of(traced_graph(dense).graph) if name not in made.precision),
        fp32=_score(fp32, data.test),
        rounded=_score(rounded, data.test),
        compiled=_score(compiled, data.test),
        agreeing=int((compiled == rounded).sum()),
        faster=faster,
        fp32_ms=faster.candidate_s * 1e3,
        int8_ms=faster.incumbent_s * 1e3,
        fp32_bytes=_weight_bytes(dense),
        int8_bytes=_weight_bytes(made),
        shipped="float32" if slower or not made.stored else "int8",
        bundle=str(out / "bundle"),
        parity_max_abs_err=bundle.parity_max_abs_err,
    )
    write_atomically(out / "report.json", dumps(found) + "\n")
    return found


def _weight_bytes(model: CompressedModel) -> int:
    """Return the bytes of all weights and biases: a weight in integers takes one each, what it is read with four."""
    total = 0
    for name, tensor in model.module.named_parameters():
        integer = name.endswith(".weight") and name.removesuffix(".weight") in model.precision
        total += tensor.numel() * (1 if integer else 4)
    return total


def compiled_predictions(bundle: Path, split: Split, data: DataSet) -> torch.Tensor:
    """Return the class of every image of `split` as the compiled bundle tells it, int64 [N]."""
    run, size = open_bundle(bundle), load_bundle(bundle).inputs[0].shape[0]
    classes = []
    for images in split.images.split(size):
        batch = normalised(images, data).contiguous().numpy()
        # The last one is filled up: a compiled module takes batches of one size.
        filled = np.concatenate([batch, np.zeros((size - len(batch), *batch.shape[1:]), batch.dtype)])
        classes.append(torch.from_numpy(run([filled])[0].argmax(axis=1)[: len(batch)]))
    return torch.cat(classes)


def _score(classes: torch.Tensor, split: Split) -> Score:
    return Score(correct=int((classes == split.labels).sum()), total=len(split))
