"""The dense network of a run that was given no weights: trained once, kept in the run folder."""

from dataclasses import replace

from tvm_prune.errors import ModelError
from tvm_prune.jobs.folder import RunFolder, Stages
from tvm_prune.jobs.train import train_to_file, training
from tvm_prune.jobs.watcher import Watcher
from tvm_prune.models.datasets import DataSet
from tvm_prune.models.load import Model
from tvm_prune.models.weights import load_weights

__all__ = ["dense_weights"]


def dense_weights(model: Model, data: DataSet, folder: RunFolder, *, epochs: int, seed: int, watcher: Watcher) -> Model:
    """Return `model` with trained weights: those of an earlier start of the run, else trained now.

    Raises ModelError for an archive, which cannot be trained.
    """
    if not model.prunable:
        raise ModelError(f"{model.source} is an exported archive and cannot be trained; load its Python class instead")
    if not folder.dense_weights.exists():
        with Stages(folder.stages).timed("train"):
            train_to_file(
                model, data, training(data.name, epochs=epochs, seed=seed), out=folder.dense_weights, watcher=watcher
            )
    load_weights(model.module, folder.dense_weights)
    return replace(model, module=model.module.eval())
