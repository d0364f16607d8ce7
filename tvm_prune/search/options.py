"""CPrune's candidates: which groups the costly tasks touch, to which counts, and what each is worth."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tvm_prune.compress.step import PruneStep
from tvm_prune.oracle.table import ProgramTable, Row
from tvm_prune.search.prune_step import Stride, combine, keep_counts, output_step, reduction_step
from tvm_prune.search.settings import CPruneSettings
from tvm_prune.search.trial import ScoredGroup

__all__ = ["Counts", "Limits", "Option", "best_units", "options_of", "prune_to"]


Counts = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, kw_only=True)
class Option:
    """One way to make the incumbent smaller: the steps, the importance they lose, and in words where they come from.

    `steps` has one entry per group. `loss` adds, over groups, log(importance before / importance after) times the
    number of layers that lose the channels: thinning a narrow or widely shared group costs more.
    """

    steps: tuple[PruneStep, ...]
    loss: float
    note: str

    @property
    def groups(self) -> frozenset[str]:
        """Names of the groups that shrink."""
        return frozenset(step.group for step in self.steps)

    @property
    def counts(self) -> Counts:
        """What it comes to whatever channels are the best just now: (group, width, channels kept) of each step."""
        return tuple((step.group, step.width, len(step.keep)) for step in self.steps)

    @property
    def text(self) -> str:
        """What shrinks, e.g. ``stem 16 -> 8``."""
        return ", ".join(f"{step.group} {step.width} -> {len(step.keep)}" for step in self.steps)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is closed by now: counts to stay above (accuracy), counts to go below (latency), groups to leave alone.

    `pace` is how many steps away the nearest count is.
    """

    above: Mapping[str, int] = field(default_factory=dict)
    below: Mapping[str, int] = field(default_factory=dict)
    banned: frozenset[str] = frozenset()
    pace: int = 1


def best_units(scores: Sequence[float], count: int) -> tuple[int, ...]:
    """Return the `count` units of the highest scores in rising order; of equal scores the lower unit stays."""
    ranked = sorted(range(len(scores)), key=lambda unit: (-scores[unit], unit))
    return tuple(sorted(ranked[:count]))


def prune_to(group: ScoredGroup, count: int) -> PruneStep:
    """Return the step that keeps the `count` most important units of `group`."""
    return PruneStep(group=group.name, width=group.width, keep=best_units(group.scores, count))


def options_of(
    row: Row,
    table: ProgramTable,
    groups: Sequence[ScoredGroup],
    *,
    original: Mapping[str, int],
    settings: CPruneSettings,
    limits: Limits,
) -> tuple[Option, ...]:
    """Return the options that the task of `row` leads to, smallest cuts first.

    With candidates "groups", every prunable group that the task produces or reads, each by itself; with "task", all
    groups that it produces together, one step each, two steps each and so on. `original` maps a group to its width in
    the dense model, which `max_sparsity` refers to.
    """
    together = settings.candidates == "task"
    touched = [
        group
        for group in groups
        if group.prunable
        and group.name not in limits.banned
        and _touches(row, group.outputs if together else [*group.outputs, *group.inputs])
    ]
    counts: dict[str, tuple[int, ...]] = {}
    strides: dict[str, Stride] = {}
    for group in touched:
        strides[group.name] = _stride(group, table)
        least = math.ceil(original[group.name] * (1.0 - settings.max_sparsity) - 1e-9)
        counts[group.name] = keep_counts(
            width=group.width,
            least=max(1, least, limits.above.get(group.name, 0) + 1),
            stride=strides[group.name].units,
            limit=settings.counts_per_group,
            below=limits.below.get(group.name),
            pace=limits.pace,
        )
    if not together:
        return tuple(_option([(group, count)], row, strides) for group in touched for count in counts[group.name])
    depth = max((len(found) for found in counts.values()), default=0)
    return tuple(
        _option(
            [(group, counts[group.name][step]) for group in touched if step < len(counts[group.name])], row, strides
        )
        for step in range(depth)
    )


def _touches(row: Row, layers: Iterable[str]) -> bool:
    return not set(row.task.layers).isdisjoint(layers)


def _stride(group: ScoredGroup, table: ProgramTable) -> Stride:
    """Return the step of `group`: what the programs of all layers that produce or read it agree on."""
    programs = {layer: row.program for row in table.rows for layer in row.task.layers}
    steps = []
    for layers, rule in ((group.outputs, output_step), (group.inputs, reduction_step)):
        for layer, per_unit in layers.items():
            program = programs.get(layer)
            if program is not None:
                steps.append(rule(program, per_unit=per_unit))
    return combine(steps, width=group.width)


def _option(counts: Sequence[tuple[ScoredGroup, int]], row: Row, strides: Mapping[str, Stride]) -> Option:
    cuts = [(group, prune_to(group, count)) for group, count in counts]
    notes = [f"{group.name}: {strides[group.name].note}" for group, _ in counts if strides[group.name].note]
    return Option(
        steps=tuple(step for _, step in cuts),
        loss=sum(_importance_lost(group, step) for group, step in cuts),
        note="; ".join([f"task {row.task.shape}", *notes]),
    )


def _importance_lost(group: ScoredGroup, step: PruneStep) -> float:
    kept, before = sum(group.scores[unit] for unit in step.keep), sum(group.scores)
    if before <= 0:
        kept, before = float(len(step.keep)), float(group.width)
    return math.log(before / max(kept, 1e-12 * before)) * max(1, len(group.outputs))
