"""The main job: from a trained network to a smaller one, compiled, tuned, measured and reported."""

from dataclasses import replace
from pathlib import Path

from tvm_prune.errors import ConfigError, ModelError
from tvm_prune.jobs.export import bundler
from tvm_prune.jobs.folder import RunFolder
from tvm_prune.jobs.number_formats import QuantizeSettings, calibration_batches, pruned_in_formats
from tvm_prune.jobs.prune_run import Bundler, CPruneJob, Pruned, PruneRun
from tvm_prune.jobs.tune import compressed
from tvm_prune.jobs.watcher import Silent, Watcher
from tvm_prune.models.datasets import DataSet
from tvm_prune.models.load import Model
from tvm_prune.oracle.base import CostOracle
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.transformed import TransformedOracle
from tvm_prune.search.quality import Quality

__all__ = ["CPruneJob", "Pruned", "cprune"]

# Ranges do not change what a network takes, so few images do.
_CALIBRATION_IMAGES = 64


def cprune(
    model: Model,
    data: DataSet | Quality,
    oracle: CostOracle,
    *,
    out: Path | str,
    bundle: Bundler | None = None,
    job: CPruneJob | None = None,
    watcher: Watcher | None = None,
) -> Pruned:
    """Prune `model` and write the run folder `out`; called again after a kill it goes on where it was.

    `data` is a data set, or the user's own functions (`UserQuality`). `bundle` compiles the result into a folder; by
    default a CompilerOracle does it, while any other oracle has no compiler and needs one to be named.
    Raises ModelError for a model that cannot be pruned, QuantizationError for one that cannot have the job's scheme,
    GoalError for a goal that cannot be met, JournalError if `out` belongs to another run.
    """
    if not model.prunable:
        raise ModelError(
            f"{model.source} is an exported archive: its channels cannot be removed any more. Load the Python class it "
            f"was exported from (package.module:function), or only measure it: tvm-prune tune {model.source}"
        )
    job = job or CPruneJob()
    if isinstance(oracle, CompilerOracle):
        bundle = bundle or bundler(oracle, name=model.name)
        job = replace(job, target=str(oracle.target))
    if bundle is None:
        raise ConfigError(f"a {type(oracle).__name__} cannot compile the result; pass bundle=, or a CompilerOracle")
    if job.scheme is not None:
        batches = calibration_batches(data, _CALIBRATION_IMAGES) if isinstance(data, DataSet) else model.example_inputs
        change = pruned_in_formats(compressed(model), batches, QuantizeSettings(scheme=job.scheme))
        oracle, job = TransformedOracle(oracle, change), replace(job, target=f"{job.target}, in {job.scheme}")
    made = PruneRun(
        model=model,
        data=data,
        oracle=oracle,
        job=job,
        folder=RunFolder(Path(out)),
        watcher=watcher or Silent(),
    )
    return made.carry_out(bundle)
