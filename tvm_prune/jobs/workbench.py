"""The workbench of a run: how its models are scored and trained, from a data set or the user's own functions."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.groups import Ignored
from tvm_prune.jobs.train import arithmetic
from tvm_prune.jobs.tune import compressed
from tvm_prune.models.datasets import DataSet
from tvm_prune.models.load import Model
from tvm_prune.models.train import Progress, TrainSettings
from tvm_prune.search.fidelity import FidelityQuality
from tvm_prune.search.quality import DataQuality, Quality
from tvm_prune.search.settings import CPruneSettings
from tvm_prune.search.workbench import TorchWorkbench

__all__ = ["identity_of", "name_of", "workbench_of"]


def workbench_of(
    model: Model,
    data: DataSet | Quality,
    settings: CPruneSettings,
    *,
    ignored_layers: tuple[Ignored, ...] = (),
    short_like_final: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> TorchWorkbench:
    """Return the workbench of a run; `short_like_final` trains every model with the last retraining's settings.

    `progress` is told after each step of a training.
    """
    dense = compressed(model)
    return TorchWorkbench(
        dense,
        _quality(data, settings, dense, short_like_final=short_like_final, progress=progress),
        source=model.source,
        file_sha256=model.file_sha256,
        criterion=settings.criterion,
        ignored_layers=ignored_layers,
        probe_images=settings.probe_images,
        refit_images=settings.refit_images,
        seed=settings.seed,
    )


def _quality(
    data: DataSet | Quality,
    settings: CPruneSettings,
    dense: CompressedModel,
    *,
    short_like_final: bool,
    progress: Callable[[Progress], None] | None,
) -> Quality:
    if not isinstance(data, DataSet):
        return data
    common = TrainSettings(
        steps=1,
        batch_size=settings.batch_size,
        weight_decay=settings.weight_decay,
        distill_weight=settings.distill_weight,
        freeze_norms=settings.freeze_norms,
        precision=arithmetic(),
    )
    final = replace(common, lr=settings.final_lr)
    short = final if short_like_final else replace(common, lr=settings.short_term_lr)
    teacher = dense.module if settings.distill_weight else None
    return DataQuality(
        data,
        short=short,
        final=final,
        teacher=teacher,
        progress=progress,
    )


def name_of(data: DataSet | Quality) -> str:
    """Return what the report calls `data`."""
    if isinstance(data, FidelityQuality):
        return "agreement with the original"
    return data.name if isinstance(data, DataSet) else "the user's functions"


def identity_of(data: DataSet | Quality) -> str:
    """Return what a run may be resumed with: the name, and a digest of the labels of all splits or of the inputs."""
    if isinstance(data, FidelityQuality):
        return data.identity
    if not isinstance(data, DataSet):
        return name_of(data)
    digest = hashlib.sha256()
    for split in (data.train, data.val, data.test):
        digest.update(split.labels.numpy().tobytes())
    return f"{data.name}-{digest.hexdigest()[:12]}"
