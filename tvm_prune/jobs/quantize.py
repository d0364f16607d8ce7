"""Bring a network to few bits: calibrate or train, compile, and say what that has gained and cost.

Accuracy is that of the compiled module on the test split, beside that of the same network rounded in torch; the speed
is a paired comparison of the two compiled modules. Where the rounded one is slower, the bundle is of the float network.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from tvm_prune.codec import STRICT, decode, dumps, encode
from tvm_prune.compress.packed import write_packed
from tvm_prune.compress.quantize import step_of
from tvm_prune.compress.recipe import BaseModel, Recipe
from tvm_prune.errors import ModelError
from tvm_prune.files import write_atomically
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.fingerprint import fingerprint
from tvm_prune.graph.learned_steps import learning_module, with_learned
from tvm_prune.graph.stored_tensors import layers_of, reference_module, traced_graph
from tvm_prune.jobs.number_formats import MIXED, QuantizeSettings, calibration_batches, in_formats
from tvm_prune.jobs.refine import refined
from tvm_prune.jobs.tune import compressed
from tvm_prune.jobs.watcher import Silent, Watcher
from tvm_prune.models.datasets.batches import normalised
from tvm_prune.models.datasets.dataset import DataSet, Split
from tvm_prune.models.evaluate import Score, predictions
from tvm_prune.models.load import Model
from tvm_prune.models.train import Progress, train
from tvm_prune.models.weights import save_weights, weights_file
from tvm_prune.oracle.bundle import export_bundle, load_bundle, open_bundle
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.cost import Failure, Ratio
from tvm_prune.search.mixed import LayerPrice, mixed_precision

__all__ = ["Quantized", "compiled_predictions", "quantize", "trained_in_formats"]


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """What few bits made of a network.

    `precision` names the format of each layer that has one (graph/scheme.py), `float_layers` the others; `prices` are
    those that "mixed" went by: the whole network with one layer in float32. Scores are of the test split: of the float
    network, of the rounded one in torch, of the compiled module, and on how many images the last two answer alike.
    `faster` is the float module's latency over the rounded one's; `shipped` says which of the two the bundle is. Bytes
    are those of a file of the float network's weights and of packed.safetensors.
    """

    model: str
    data: str
    settings: QuantizeSettings
    prices: tuple[LayerPrice, ...]
    precision: dict[str, str]
    float_layers: tuple[str, ...]
    fp32: Score
    rounded: Score
    compiled: Score
    agreeing: int
    faster: Ratio
    fp32_ms: float
    quantized_ms: float
    fp32_bytes: int
    quantized_bytes: int
    shipped: Literal["quantized", "float32"]
    bundle: str
    parity_max_abs_err: float
    __pydantic_config__ = STRICT

    @property
    def agreement(self) -> float:
        """The part of the test images on which the compiled module and torch answer alike."""
        return self.agreeing / self.compiled.total


def trained_in_formats(
    model: CompressedModel,
    dense: CompressedModel,
    data: DataSet,
    settings: QuantizeSettings,
    *,
    folder: Path | None = None,
    watcher: Watcher | None = None,
) -> CompressedModel:
    """Return `model`, which was rounded from `dense`, after the training that `settings` ask for.

    `dense` is the teacher where the training has one. Checkpoints go to `folder`: a killed training goes on from there.
    """
    training, watcher = settings.training, watcher or Silent()
    if training is None or not model.rounded_layers:
        return model

    def told(progress: Progress) -> None:
        watcher.advance(
            progress.step, total=progress.steps, detail=f"epoch {progress.epoch + 1}, loss {progress.loss:.3f}"
        )

    watcher.stage("train with rounding")
    teacher = dense.module if training.distill_weight else None
    result = train(learning_module(model), data, training, teacher=teacher, checkpoint_dir=folder, progress=told)
    return with_learned(model, result.module)


def quantize(
    model: Model | CompressedModel,
    data: DataSet,
    oracle: CompilerOracle,
    *,
    out: Path | str,
    settings: QuantizeSettings | None = None,
    name: str | None = None,
    recipe: Recipe | None = None,
    watcher: Watcher | None = None,
) -> Quantized:
    """Quantize `model`; write its bundle to ``out/bundle`` and what is returned to ``out/report.json``.

    Beside them lie weights.safetensors and recipe.json, which make the rounded network again (jobs/apply.py), and
    packed.safetensors. `name` and `recipe` are those of a network that was pruned before; without either a
    CompressedModel leaves no recipe. Raises QuantizationError, ConfigError for settings that contradict each other, and
    ModelError or ParityError if it cannot be built.
    """
    out, watcher = Path(out), watcher or Silent()
    settings = decode(QuantizeSettings, encode(settings or QuantizeSettings()))
    dense = compressed(model)
    name = name or (model.name if isinstance(model, Model) else type(model.module).__name__)
    watcher.stage("calibrate on the training split")
    batches = calibration_batches(data, settings.images)
    made = in_formats(dense, batches, settings, watcher=watcher)
    prices: tuple[LayerPrice, ...] = ()
    if settings.scheme == MIXED:
        watcher.stage("price every layer in float32")
        mixed = mixed_precision(made, oracle)
        made, prices = refined(mixed.model, batches, settings.refine, watcher=watcher), mixed.prices
    made = trained_in_formats(made, dense, data, settings, folder=out / "training", watcher=watcher)
    return deliver(
        made, model, data, oracle, out=out, settings=settings, name=name, recipe=recipe, prices=prices, watcher=watcher
    )


def deliver(
    made: CompressedModel,
    model: Model | CompressedModel,
    data: DataSet,
    oracle: CompilerOracle,
    *,
    out: Path,
    settings: QuantizeSettings,
    name: str,
    recipe: Recipe | None = None,
    prices: tuple[LayerPrice, ...] = (),
    watcher: Watcher,
) -> Quantized:
    """Compile `made`, which was rounded from `model`, compare the two and write all that `quantize` does."""
    dense = compressed(model)
    watcher.stage("tune and compile both networks")
    bundle = export_bundle(made, out / "bundle", oracle=oracle, name=name)
    faster = oracle.compare(made, dense)
    if isinstance(faster, Failure):
        raise ModelError(f"the network cannot be measured; it fails at the stage {faster.stage!r}: {faster.message}")
    watcher.stage("evaluate on the test split")
    fp32 = predictions(dense.module, data.test, data)
    rounded = predictions(reference_module(made, any_batch=True), data.test, data)
    compiled = compiled_predictions(out / "bundle", data.test, data)
    slower = bool(made.integer_layers) and faster.median < 1
    if slower:
        watcher.note("the rounded network is slower on this target: the bundle is of the float network")
        bundle = export_bundle(dense, out / "bundle", oracle=oracle, name=name)
    save_weights(made.module, out / "weights.safetensors")
    if extended := _recipe(model, made, recipe):
        extended.save(out / "recipe.json")
    found = Quantized(
        model=name,
        data=data.name,
        settings=settings,
        prices=prices,
        precision={layer: str(made.precision[layer]) for layer in made.rounded_layers},
        float_layers=tuple(name for name in layers_of(traced_graph(dense).graph) if name not in made.rounded_layers),
        fp32=_score(fp32, data.test),
        rounded=_score(rounded, data.test),
        compiled=_score(compiled, data.test),
        agreeing=int((compiled == rounded).sum()),
        faster=faster,
        fp32_ms=faster.candidate_s * 1e3,
        quantized_ms=faster.incumbent_s * 1e3,
        fp32_bytes=len(weights_file(dense.module)),
        quantized_bytes=write_packed(made, out / "packed.safetensors"),
        shipped="float32" if slower or not made.rounded_layers else "quantized",
        bundle=str(out / "bundle"),
        parity_max_abs_err=bundle.parity_max_abs_err,
    )
    write_atomically(out / "report.json", dumps(found) + "\n")
    return found


def _recipe(model: Model | CompressedModel, made: CompressedModel, recipe: Recipe | None) -> Recipe | None:
    """Return the recipe that makes `made`: `recipe` and a step more."""
    if recipe is not None:
        return Recipe(base=recipe.base, steps=(*recipe.steps, step_of(made)))
    if isinstance(model, CompressedModel):
        return None
    base = BaseModel(source=model.source, fingerprint=fingerprint(compressed(model)), file_sha256=model.file_sha256)
    return Recipe(base=base, steps=(step_of(made),))


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
