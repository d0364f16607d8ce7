"""The program table: task <-> layers <-> program of one model on one target. What CPrune reads."""

from dataclasses import dataclass, replace

from tvm_prune.codec import STRICT
from tvm_prune.oracle.cost import Cost
from tvm_prune.oracle.program import Program, Task

__all__ = ["ProgramTable", "Row"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One task: its program (None = default schedule), seconds of ONE call alone and in place, and trials spent on it.

    `in_situ_s` is the mean over the task's call sites inside the running module, where weights are as cold as they are
    for the user.
    """

    task: Task
    program: Program | None
    isolated_s: float
    in_situ_s: float
    trials: int
    __pydantic_config__ = STRICT

    @property
    def total_s(self) -> float:
        """Seconds of all call sites in the running module: the task's latency x weight."""
        return self.in_situ_s * self.task.weight

    @property
    def gflops(self) -> float:
        """Billions of floating-point operations (2 per multiply-accumulate) per second in place."""
        return 2e-9 * self.task.macs / self.in_situ_s if self.in_situ_s > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class ProgramTable:
    """All rows, the overhead (all that lies between kernels, in place) and the measured whole."""

    rows: tuple[Row, ...]
    overhead_s: float
    whole: Cost
    __pydantic_config__ = STRICT

    @property
    def explained_s(self) -> float:
        """Rows in place + overhead, in seconds; its distance from `whole.latency_s` is what is not understood."""
        return sum(row.total_s for row in self.rows) + self.overhead_s

    def in_place(self, estimate: Cost) -> Cost:
        """Return what a model like this one costs as a whole, from the sum of its programs alone.

        The sum is scaled as this model's own sum is, and its overhead is added: programs alone have their weights hot
        and are timed in units of the canary.
        """
        alone_s = sum(row.isolated_s * row.task.weight for row in self.rows)
        kernels_s = self.whole.latency_s - self.overhead_s
        factor = kernels_s / alone_s if alone_s > 0 and kernels_s > 0 else 1.0
        return replace(estimate, latency_s=estimate.latency_s * factor + self.overhead_s)

    def share(self, row: Row) -> float:
        """Return the part of the explained time that `row` takes, 0..1."""
        return row.total_s / self.explained_s

    def ranked(self) -> tuple[Row, ...]:
        """Return the rows by latency x weight, most costly first; equal costs in order of hash."""
        return tuple(sorted(self.rows, key=lambda row: (-row.total_s, row.task.hash)))

    def row_of(self, layer: str) -> Row:
        """Return the row that computes `layer`. Raises KeyError for a layer of no task."""
        for row in self.rows:
            if layer in row.task.layers:
                return row
        raise KeyError(layer)
