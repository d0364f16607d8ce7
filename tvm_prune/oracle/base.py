"""The cost oracle's contract. Searchers see this and nothing else of the compiler."""

from collections.abc import Sequence
from typing import Protocol

from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.oracle.cost import Cost, Failure, Ratio
from tvm_prune.oracle.table import ProgramTable

__all__ = ["CostOracle"]


class CostOracle(Protocol):
    """Answers what a model costs once compiled and tuned.

    Every method tunes what has no record yet. A candidate that cannot be built or run gives a `Failure`; a broken
    set-up raises ToolchainError.
    """

    def estimate(self, models: Sequence[CompressedModel]) -> list[Cost | Failure]:
        """Price several models: tasks tuned together, latency = sum of programs + overhead (source "predicted")."""

    def cost(self, model: CompressedModel) -> Cost | Failure:
        """Build and time the whole module, for display."""

    def table(self, model: CompressedModel) -> ProgramTable | Failure:
        """Return the program table, rows timed in place."""

    def compare(self, incumbent: CompressedModel, candidate: CompressedModel) -> Ratio | Failure:
        """Time both modules in alternating blocks: the only basis of a decision."""
