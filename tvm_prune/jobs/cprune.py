"""The main job: from a trained network to a smaller one, compiled, tuned, measured and reported."""

from pathlib import Path

from tvm_prune.errors import ModelError
from tvm_prune.jobs.folder import RunFolder
from tvm_prune.jobs.prune_run import Bundler, CPruneJob, Pruned, PruneRun
from tvm_prune.jobs.watcher import Silent, Watcher
from tvm_prune.models.datasets import DataSet
from tvm_prune.models.load import Model
from tvm_prune.oracle.base import CostOracle
from tvm_prune.search.quality import Quality

__all__ = ["CPruneJob", "Pruned", "cprune"]


def cprune(
    model: Model,
    data: DataSet | Quality,
    oracle: CostOracle,
    *,
    out: Path,
    bundle: Bundler,
    job: CPruneJob | None = None,
    watcher: Watcher | None = None,
) -> Pruned:
    """Prune `model` and write the run folder `out`; called again after a kill it goes on where it was.

    `data` is a data set, or the user's own functions (`UserQuality`); `bundle` compiles the result into a folder.
    Raises ModelError for a model that cannot be pruned, GoalError for a goal that cannot be met, JournalError if `out`
    belongs to another run.
    """
    if not model.prunable:
        raise ModelError(
            f"{model.source} is an exported archive: its channels cannot be removed any more. Load the Python class it "
            f"was exported from (package.module:function), or only measure it: tvm-prune tune {model.source}"
        )
    made = PruneRun(
        model=model,
        data=data,
        oracle=oracle,
        job=job or CPruneJob(),
        folder=RunFolder(out),
        watcher=watcher or Silent(),
    )
    return made.carry_out(bundle)
