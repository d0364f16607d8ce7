"""What comes before a model is built: lowering it, tuning what has no record, choosing the programs."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from tvm_prune.codec import dumps
from tvm_prune.errors import ModelError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.fingerprint import family, fingerprint
from tvm_prune.models.weights import weights_digest
from tvm_prune.oracle.cost import Failure, Source
from tvm_prune.oracle.lower import Lowered, lower, lower_alike
from tvm_prune.oracle.module import Choice, choose
from tvm_prune.oracle.records import Records
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tasks import Kernel, TaskGraph, task_graph
from tvm_prune.oracle.tuner import Group, Tuner
from tvm_prune.oracle.widen import Widths, widened

__all__ = ["Draft", "Prepared", "Preparer"]

# Models kept lowered; the oldest goes first.
_KEPT = 24
# What a wider network must take at most of the network itself: less is in the noise of two sums.
_WIDER_PAYS = 0.99
# Sums further apart than that need no contest: a machine that changes its speed is not that far off.
_CLOSE = 0.25
# Channels are rounded up to multiples of these parts of a vector.
_PARTS_OF_VECTORS = (4, 2, 1)
# Vectors of fewer elements than that are not worth filling.
_LEAST_LANES = 4


@dataclass(frozen=True)
class Draft:
    """A model lowered, as it is or a little wider: then `widths` are the counts it has, by layer (see widen.py)."""

    lowered: Lowered
    graph: TaskGraph
    widths: Widths = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared(Draft):
    """A model lowered, tuned and with its programs chosen."""

    choice: Choice = field(kw_only=True)

    @property
    def sum_s(self) -> float:
        """Seconds of all programs; infinite if a task has none."""
        total_s = 0.0
        for task in self.graph.tasks:
            record = self.choice.record[task.hash]
            total_s += math.inf if record is None else record.program.latency_s * task.weight
        return total_s

    @property
    def source(self) -> Source:
        """What a figure of the built model is: "untuned" if any task runs its default schedule."""
        return "untuned" if any(record is None for record in self.choice.record.values()) else "measured"


def _values(model: CompressedModel) -> str:
    """Return what tells models apart that take equally long: their weights, and how their tensors are stored."""
    return weights_digest(model.module) + dumps(model.stored)


def _groups(graph: TaskGraph) -> list[Group]:
    weight = {task.hash: task.weight for task in graph.tasks}
    return [
        Group(
            tuple(variant.kernel for variant in variants),
            weight[key],
            frozenset(variant.kernel.key for variant in variants if not variant.pays),
        )
        for key, variants in graph.variants.items()
    ]


class Preparer:
    """Prepares models and keeps those it prepared. `clock(stage)` is entered around each stage ("lower", "tune")."""

    def __init__(
        self,
        target: Target,
        records: Records,
        tuner: Tuner,
        *,
        allow_untuned: bool,
        clock: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self._target = target
        self._records = records
        self._tuner = tuner
        self._allow_untuned = allow_untuned
        self._clock = clock
        self._known: dict[str, Prepared] = {}
        # The first model of each family; those that differ from it in channel counts alone are lowered by its graph.
        self._first: dict[str, Lowered] = {}

    def forget(self) -> None:
        """Prepare every model anew: the tuner may find better programs now."""
        self._known.clear()

    def tasks(self, model: CompressedModel) -> TaskGraph:
        """Return the tasks of `model` without tuning anything. Raises ModelError."""
        with self._clock("lower"):
            return task_graph(lower(model), self._target)

    def prepare(self, models: Sequence[CompressedModel], *, with_weights: bool = False) -> list[Prepared | Failure]:
        """Lower, tune and choose programs; new tasks of all models are tuned together.

        Time does not depend on the weights' values: a model that was lowered with others is not lowered again, unless
        `with_weights` says that its own must be in. Then it is traced too, and not lowered by the graph of its family.
        """
        keys = [fingerprint(model) + (_values(model) if with_weights else "") for model in models]
        with self._clock("lower"):
            drafts = [self._drafts(model, key, traced=with_weights) for model, key in zip(models, keys, strict=True)]
        with self._clock("tune"):
            self._tuner.tune([_groups(each.graph) for item in drafts if not isinstance(item, Failure) for each in item])
            self._tuner.meet([each for item in drafts if not isinstance(item, Failure) for each in self._rivals(item)])
        return [
            item if isinstance(item, Failure) else self._chosen(key, item)
            for key, item in zip(keys, drafts, strict=True)
        ]

    def drafts(self, model: CompressedModel) -> list[Draft] | Failure:
        """Return a model lowered in every way that is worth a look, tuned or not: as it is first."""
        return self._drafts(model, fingerprint(model), traced=False)

    def _drafts(self, model: CompressedModel, key: str, *, traced: bool) -> list[Draft] | Failure:
        known = self._known.get(key)
        if known is not None:
            return [known]
        try:
            fresh = lower(model) if traced else self._lower(model)
            drafts = [Draft(fresh, task_graph(fresh, self._target))]
            for part in _PARTS_OF_VECTORS:
                multiple = self._target.lanes // part
                wider = widened(fresh, multiple) if multiple >= _LEAST_LANES else None
                if wider is not None and wider[0].shapes not in [draft.lowered.shapes for draft in drafts]:
                    drafts.append(Draft(wider[0], task_graph(wider[0], self._target), wider[1]))
            return drafts
        except ModelError as error:
            return Failure(stage="lower", message=str(error))

    def _lower(self, model: CompressedModel) -> Lowered:
        kin = family(model)
        alike = lower_alike(model, self._first[kin]) if kin in self._first else None
        if alike is not None:
            return alike
        fresh = lower(model)
        self._first.setdefault(kin, fresh)
        return fresh

    def _with_programs(self, draft: Draft) -> Prepared:
        return Prepared(draft.lowered, draft.graph, draft.widths, choice=choose(draft.graph, self._records))

    def _rivals(self, drafts: Sequence[Draft]) -> Iterator[list[Kernel]]:
        """Yield what the same layers run in a network and in wider ones that are nearly as fast."""
        exact, *wider = (self._with_programs(draft) for draft in drafts)
        close = [item for item in wider if abs(item.sum_s - exact.sum_s) <= _CLOSE * exact.sum_s]
        # Layer by layer: those of one task in the network itself may be several in a wider one.
        kernels = [
            {layer: item.choice.variant[task.hash].kernel for task in item.graph.tasks for layer in task.layers}
            for item in (exact, *close)
        ]
        for layer in kernels[0]:
            contest = {found[layer].key: found[layer] for found in kernels if layer in found}
            if len(contest) > 1:
                yield list(contest.values())

    def _chosen(self, key: str, drafts: Sequence[Draft]) -> Prepared | Failure:
        exact, *wider = (self._with_programs(draft) for draft in drafts)
        best = min(wider, key=lambda item: item.sum_s, default=exact)
        if not best.sum_s < _WIDER_PAYS * exact.sum_s:
            best = exact  # also where neither has all its programs
        graph, choice = best.graph, best.choice
        missing = [task for task in graph.tasks if choice.record[task.hash] is None]
        if missing and not self._allow_untuned:
            reasons = [self._tuner.failures.get(task.hash) for task in missing]
            text = next((failure.message for failure in reasons if failure is not None), "no record")
            return Failure(
                stage="build",
                message=f"{len(graph.tasks) - len(missing)} of {len(graph.tasks)} tasks have a record; "
                f"{missing[0].shape} has none: {text}",
            )
        if len(self._known) > _KEPT:
            self._known.pop(next(iter(self._known)))
        self._known[key] = best
        return best
