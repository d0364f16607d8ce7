"""The accepted models of a run, rebuilt from their files when needed."""

from collections.abc import Sequence
from pathlib import Path

from tvm_prune.compress.step import PruneStep
from tvm_prune.errors import JournalError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.search.trial import State, Trial
from tvm_prune.search.workbench import Workbench

__all__ = ["Shelf", "lineage"]


def lineage(trials: Sequence[Trial], number: int) -> tuple[PruneStep, ...]:
    """Return all steps from the dense model to trial `number`. Raises JournalError if an ancestor was not accepted."""
    steps: tuple[PruneStep, ...] = ()
    while number:
        trial = trials[number]
        if trial.proposal is None or trial.state is not State.ACCEPTED:
            raise JournalError(f"trial {number} was not accepted ({trial.state}), so nothing can grow from it")
        steps = (*trial.proposal.steps, *steps)
        number = trial.proposal.parent
    return steps


class Shelf:
    """Models by trial number.

    An accepted model is always read back from its files, also right after it was written, so that an unbroken run and a
    resumed one go on from the very same bits. Only the latest one stays in memory, beside the dense model.
    """

    def __init__(self, workbench: Workbench, folder: Path) -> None:
        self._workbench = workbench
        self._folder = folder
        self._latest: tuple[int, CompressedModel] | None = None

    def stem(self, number: int) -> Path:
        """Return the path of trial `number`'s files without their suffixes."""
        return self._folder / f"{number:04d}"

    def put(self, number: int, model: CompressedModel, steps: tuple[PruneStep, ...]) -> None:
        """Write weights and recipe of trial `number`."""
        self._workbench.save(model, steps, self.stem(number))
        self._latest = None

    def get(self, number: int, trials: Sequence[Trial]) -> CompressedModel:
        """Return the model of trial `number`. Raises JournalError, WeightsError, RecipeError."""
        if number == 0:
            return self._workbench.dense()
        if self._latest is None or self._latest[0] != number:
            model = self._workbench.load(lineage(trials, number), self.stem(number))
            self._latest = (number, model)
        return self._latest[1]
