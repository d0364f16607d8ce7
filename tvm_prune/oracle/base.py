"""The cost oracle's contract. Searchers see this and nothing else of the compiler."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.oracle.cost import Cost, Failure, Ratio
from tvm_prune.oracle.table import ProgramTable

__all__ = ["CostOracle", "Deepening"]


class CostOracle(Protocol):
    """Answers what a model costs once compiled and tuned.

    Every method but `predict` tunes what has no record yet. A candidate that cannot be built or run gives a `Failure`;
    a broken set-up raises ToolchainError.
    """

    def estimate(self, models: Sequence[CompressedModel]) -> list[Cost | Failure]:
        """Price several models: tasks tuned together, latency = sum of their programs (source "summed").

        What the calls cost beside the programs is no part of a price: it is the overhead row of a table, and the same
        for all models that differ in their channels only.
        """

    def predict(self, models: Sequence[CompressedModel]) -> list[Cost | Failure]:
        """Price models as `estimate`, but measure nothing: tasks without a record are predicted (source "predicted").

        The cost's spread says how far off that may be.
        """

    def cost(self, model: CompressedModel) -> Cost | Failure:
        """Build and time the whole module, for display."""

    def table(self, model: CompressedModel) -> ProgramTable | Failure:
        """Return the program table, rows timed in place."""

    def compare(
        self, incumbent: CompressedModel, candidate: CompressedModel, *, limit: float | None = None
    ) -> Ratio | Failure:
        """Time both modules in alternating blocks: the only basis of a decision.

        A ratio that does not tell on which side of `limit` the candidate lies, or without one is not known well, is
        measured longer.
        """


@runtime_checkable
class Deepening(Protocol):
    """An oracle that can be told to tune further than it did so far."""

    def deepen(self, *, trials_per_task: int) -> None:
        """From now on try up to `trials_per_task` programs of every task, also of those tuned before with fewer."""
