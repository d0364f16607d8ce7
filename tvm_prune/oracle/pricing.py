"""What a model's tasks add up to: from the records, and where there is none, from the predictor."""

import math
from dataclasses import dataclass

from tvm_prune.errors import RecordsError
from tvm_prune.oracle.cost import Source
from tvm_prune.oracle.kernel_shapes import KernelShapes
from tvm_prune.oracle.predictor import KernelRecord, Prediction, Predictor
from tvm_prune.oracle.program import Task
from tvm_prune.oracle.records import Records
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tasks import Kernel, TaskGraph

__all__ = ["Price", "Pricing"]

# The predictor learns anew once there are so many times more kernels on record.
_GROWTH = 1.15


@dataclass(frozen=True)
class Price:
    """Seconds of all calls of a model's kernels, how far off they may be, and what they are."""

    latency_s: float
    spread_s: float
    source: Source


class Pricing:
    """Prices task graphs without measuring anything."""

    def __init__(self, records: Records, target: Target) -> None:
        self._records = records
        self._target = target
        self._shapes: KernelShapes | None = None
        self._predictor: Predictor | None = None
        self._learned_from = 0
        self._known: dict[str, Prediction] = {}

    @property
    def ready(self) -> bool:
        """Whether there are enough records to learn from; learns from them if that is due."""
        try:
            self._learn()
        except RecordsError:
            return False
        return True

    def price(self, graph: TaskGraph) -> Price:
        """Return the price of a model; source "predicted" if the records lack any of its tasks.

        Errors of different tasks are taken as independent. Raises RecordsError if there is too little to learn from.
        """
        total_s, variance = 0.0, 0.0
        source: Source = "summed"
        for task in graph.tasks:
            measured = self._measured(graph, task)
            if measured is not None:
                total_s += task.weight * measured
                continue
            source = "predicted"
            predicted = self._predicted(graph, task)
            total_s += task.weight * predicted.latency_s
            variance += (task.weight * (predicted.high_s - predicted.low_s) / 2) ** 2
        return Price(total_s, math.sqrt(variance), source)

    def _measured(self, graph: TaskGraph, task: Task) -> float | None:
        found = [self._records.best(variant.kernel.key) for variant in graph.variants[task.hash]]
        return min((record.program.latency_s for record in found if record is not None), default=None)

    def _predicted(self, graph: TaskGraph, task: Task) -> Prediction:
        self._learn()
        variants = graph.variants[task.hash]
        hopeful = [variant for variant in variants if variant.pays] or list(variants)
        return min((self._of(variant.kernel) for variant in hopeful), key=lambda found: found.latency_s)

    def _of(self, kernel: Kernel) -> Prediction:
        assert self._predictor is not None
        assert self._shapes is not None
        if kernel.key not in self._known:
            self._known[kernel.key] = self._predictor.price(self._shapes.of(kernel))
        return self._known[kernel.key]

    def _learn(self) -> None:
        if self._predictor is not None and len(self._records) < _GROWTH * self._learned_from:
            return
        if self._shapes is None:
            self._shapes = KernelShapes(self._records)
        records = [
            KernelRecord(shape, best.program.latency_s)
            for key, shape in self._shapes.recorded()
            if (best := self._records.best(key)) is not None
        ]
        self._predictor = Predictor.fit(records, self._target)
        self._learned_from = len(self._records)
        self._known.clear()
