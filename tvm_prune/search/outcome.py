"""What a run came to, and its models."""

from dataclasses import dataclass
from pathlib import Path

from tvm_prune.compress.step import PruneStep
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.search.shelf import Shelf, lineage
from tvm_prune.search.trial import State, Trial
from tvm_prune.search.workbench import Workbench

__all__ = ["JOURNAL", "TRIALS", "Outcome"]

# Names inside a run folder.
JOURNAL = "journal.jsonl"
TRIALS = "trials"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run came to: all its trials, why it stopped, and whether the searcher (not the budget) ended it."""

    trials: tuple[Trial, ...]
    stop_reason: str
    finished: bool
    run_dir: Path

    @property
    def dense(self) -> Trial:
        """Trial 0."""
        return self.trials[0]

    @property
    def accepted(self) -> tuple[Trial, ...]:
        """The accepted trials in order, the dense one first."""
        return tuple(trial for trial in self.trials if trial.state is State.ACCEPTED)

    @property
    def measurements(self) -> int:
        """Programs timed in all trials."""
        return sum(trial.measurements for trial in self.trials)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds inside all trials."""
        return sum(sum(trial.seconds.values()) for trial in self.trials)

    def steps(self, number: int) -> tuple[PruneStep, ...]:
        """Return the steps from the dense model to trial `number`."""
        return lineage(self.trials, number)

    def model(self, number: int, workbench: Workbench) -> CompressedModel:
        """Return the model of an accepted trial, rebuilt from the run folder."""
        return Shelf(workbench, self.run_dir / TRIALS).get(number, self.trials)
