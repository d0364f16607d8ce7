"""Bring a network to integers after its training: calibrate, compile, and say what that has gained and cost.

Accuracy is that of the compiled module on the test split, beside that of the same network rounded in torch; the speed
is a paired comparison of the two compiled modules.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from tvm_prune.codec import STRICT
from tvm_prune.compress.calibrate import Observer, calibrate
from tvm_prune.errors import ModelError, QuantizationError
from tvm_prune.graph.compressed import CompressedModel, Scheme
from tvm_prune.graph.stored_tensors import integer_capable, layers_of, reference_module, traced_graph
from tvm_prune.jobs.tune import compressed
from tvm_prune.jobs.watcher import Silent, Watcher
from tvm_prune.models.datasets.batches import normalised
from tvm_prune.models.datasets.dataset import DataSet, Split
from tvm_prune.models.evaluate import Score, predictions
from tvm_prune.models.load import Model
from tvm_prune.oracle.bundle import export_bundle, open_bundle
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.cost import Failure, Ratio

__all__ = ["INT8", "Quantized", "quantize", "quantized"]

INT8 = Scheme(weights="int8", activations="uint8")
_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """What integers made of a network.

    `integer_layers` and `float_layers` by name; scores on the test split: of the float network, of the rounded one in
    torch, of the compiled module, and on how many images the last two answer alike. `faster` is the float module's
    latency over the integer one's.
    """

    model: str
    data: str
    observer: Observer
    calibration_images: int
    integer_layers: tuple[str, ...]
    float_layers: tuple[str, ...]
    fp32: Score
    rounded: Score
    compiled: Score
    agreeing: int
    faster: Ratio
    fp32_ms: float
    int8_ms: float
    bundle: str
    parity_max_abs_err: float
    __pydantic_config__ = STRICT

    @property
    def agreement(self) -> float:
        """The part of the test images on which the compiled module and torch answer alike."""
        return self.agreeing / self.compiled.total


def quantized(
    model: CompressedModel, split: Split, data: DataSet, *, images: int, observer: Observer, keep_float: frozenset[str]
) -> CompressedModel:
    """Return `model` with integer layers, all that have such a form but `keep_float`.

    It is calibrated on the first `images` of `split`. Raises QuantizationError if no layer has an integer form or there
    is nothing to calibrate on.
    """
    graph = traced_graph(model)
    layers = [layer for layer in integer_capable(graph.graph) if layer not in keep_float]
    if not layers:
        raise QuantizationError("no layer of this model has an integer form: linear layers and convolutions do, of one group or depthwise")
    count = min(images, len(split))
    batches = [normalised(split.images[start : min(start + _BATCH, count)], data) for start in range(0, count, _BATCH)]
    stored = calibrate(model, layers, batches, observer=observer)
    return replace(model, precision=dict.fromkeys(layers, INT8), stored=stored)


def quantize(
    model: Model,
    data: DataSet,
    oracle: CompilerOracle,
    *,
    out: Path,
    images: int = 512,
    observer: Observer = "mse",
    keep_float: frozenset[str] = frozenset(),
    watcher: Watcher | None = None,
) -> Quantized:
    """Quantize `model` to int8, write its bundle to ``out/bundle`` and report.

    Raises QuantizationError, and ModelError or ParityError if it cannot be built.
    """
    watcher = watcher or Silent()
    dense = compressed(model)
    watcher.stage("calibrate on the training split")
    made = quantized(dense, data.train, data, images=images, observer=observer, keep_float=keep_float)
    watcher.stage("tune and compile both networks")
    bundle = export_bundle(made, out / "bundle", oracle=oracle, name=model.name)
    faster = oracle.compare(made, dense)
    if isinstance(faster, Failure):
        raise ModelError(f"the network cannot be measured; it fails at the stage {faster.stage!r}: {faster.message}")
    watcher.stage("evaluate on the test split")
    fp32 = predictions(dense.module, data.test, data)
    rounded = predictions(reference_module(made, any_batch=True), data.test, data)
    compiled = compiled_predictions(out / "bundle", data.test, data)
    return Quantized(
        model=model.name,
        data=data.name,
        observer=observer,
        calibration_images=min(images, len(data.train)),
        integer_layers=tuple(made.precision),
        float_layers=tuple(name for name in layers_of(traced_graph(dense).graph) if name not in made.precision),
        fp32=_score(fp32, data.test),
        rounded=_score(rounded, data.test),
        compiled=_score(compiled, data.test),
        agreeing=int((compiled == rounded).sum()),
        faster=faster,
        fp32_ms=faster.candidate_s * 1e3,
        int8_ms=faster.incumbent_s * 1e3,
        bundle=str(out / "bundle"),
        parity_max_abs_err=bundle.parity_max_abs_err,
    )


def compiled_predictions(bundle: Path, split: Split, data: DataSet) -> torch.Tensor:
    """Return the class of every image of `split` as the compiled bundle tells it, int64 [N]."""
    run = open_bundle(bundle)
    return torch.cat([torch.from_numpy(run([batch])[0].argmax(axis=1)) for batch in _batches(bundle, split, data)])[
        : len(split)
    ]


def _batches(bundle: Path, split: Split, data: DataSet) -> Iterator[np.ndarray]:
    from tvm_prune.oracle.bundle import load_bundle

    size = load_bundle(bundle).inputs[0].shape[0]
    for start in range(0, len(split), size):
        batch = normalised(split.images[start : start + size], data).contiguous().numpy()
        # The last one is filled up: a compiled module takes batches of one size.
        yield np.concatenate([batch, np.zeros((size - len(batch), *batch.shape[1:]), batch.dtype)])


def _score(classes: torch.Tensor, split: Split) -> Score:
    return Score(correct=int((classes == split.labels).sum()), total=len(split))
