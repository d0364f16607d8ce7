"""Train a network to a weights file that knows how it was made."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from tvm_prune.codec import STRICT, decode, encode
from tvm_prune.errors import ConfigError
from tvm_prune.jobs.apply import load_pruned
from tvm_prune.jobs.watcher import Silent, Watcher
from tvm_prune.models.datasets import DataSet
from tvm_prune.models.evaluate import Score, evaluate
from tvm_prune.models.load import Model
from tvm_prune.models.train import Progress, TrainSettings, train
from tvm_prune.models.weights import save_weights

__all__ = ["TRAINING", "Trained", "arithmetic", "pruned_start", "train_to_file", "training"]

# Where a training begins, by data set. The averaged weights need some thousand steps to forget the first ones.
_SMALL = TrainSettings(epochs=30, batch_size=64, lr=0.1, warmup_fraction=0.2)
_LARGE = TrainSettings(epochs=30, lr=0.2, warmup_fraction=0.2, ema=0.999)
TRAINING: dict[str, TrainSettings] = {
    "cifar10": _LARGE,
    "cifar100": _LARGE,
    "digits": _SMALL,
    "fashion-mnist": _LARGE,
    "image-folder": _SMALL,
}


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A weights file, what it scores, the optimizer steps and wall-clock seconds it took."""

    path: Path
    val: Score
    test: Score
    steps: int
    seconds: float
    __pydantic_config__ = STRICT


def arithmetic() -> Literal["32", "bf16"]:
    """Return the faster arithmetic of training on this machine: bf16 where processor or accelerator multiply it."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "32"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "32"


def training(
    data: str, *, epochs: int | None = None, seed: int = 0, changes: Mapping[str, object] | None = None
) -> TrainSettings:
    """Return the settings to train on the data set called `data` with, `changes` applied last.

    Raises ConfigError for an unknown name or a value out of range.
    """
    start = replace(TRAINING.get(data, _SMALL), precision=arithmetic())
    given = {"seed": seed} if epochs is None else {"seed": seed, "epochs": epochs}
    return decode(TrainSettings, encode(start) | given | dict(changes or {}))


def pruned_start(model: Model, recipe: Path, *, weights: Path | None = None) -> Model:
    """Return `model` pruned by `recipe`, with the `weights` of the pruned network if given, as what is to be trained.

    Raises ConfigError for a recipe that quantizes, RecipeError, WeightsError.
    """
    made = load_pruned(model, recipe, weights=weights)
    if made.rounded_layers:
        raise ConfigError(
            f"{recipe} quantizes {len(made.rounded_layers)} layers, and this training would not round them: give the "
            "recipe that pruned the network, and then tvm-prune quantize --recipe ... --train-epochs N"
        )
    return replace(model, module=made.module)


def train_to_file(
    model: Model,
    data: DataSet,
    settings: TrainSettings,
    *,
    out: Path | str,
    teacher: Model | None = None,
    watcher: Watcher | None = None,
) -> Trained:
    """Train `model` on `data` and write its weights to `out` (safetensors).

    It learns from `teacher` too where the settings have a `distill_weight`. Checkpoints go to ``<out>.checkpoints``: a
    killed call with the same arguments goes on from the last epoch. The file's metadata holds model, data, settings and
    scores. Raises ConfigError, WeightsError, DiskFullError.
    """
    if settings.distill_weight and teacher is None:
        raise ConfigError(
            f"distill_weight={settings.distill_weight}, and there is no teacher: give --recipe RUN_DIR/recipe.json, "
            "and the network before pruning teaches the pruned one; or leave distill_weight at 0"
        )
    out, watcher = Path(out), watcher or Silent()
    watcher.stage(f"train {model.name} on {data.name}")

    def told(progress: Progress) -> None:
        watcher.advance(
            progress.step, total=progress.steps, detail=f"epoch {progress.epoch + 1}, loss {progress.loss:.3f}"
        )

    result = train(
        model.module,
        data,
        settings,
        teacher=teacher.module if teacher is not None and settings.distill_weight else None,
        checkpoint_dir=out.with_name(f"{out.name}.checkpoints"),
        progress=told,
    )
    watcher.stage("evaluate")
    val, test = evaluate(result.module, data.val, data), evaluate(result.module, data.test, data)
    metadata = {
        "model": model.source,
        "data": data.name,
        "settings": json.dumps(encode(settings), sort_keys=True),
        "validation": str(val),
        "test": str(test),
    }
    save_weights(result.module, out, metadata=metadata)
    return Trained(path=out, val=val, test=test, steps=result.steps, seconds=result.seconds)
