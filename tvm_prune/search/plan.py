"""A dry run: what there is to prune, what it could bring at most, and whether the goals can be met. Trains nothing."""

import math
from dataclasses import dataclass

from tvm_prune.codec import STRICT
from tvm_prune.errors import GoalError, ToolchainError
from tvm_prune.oracle.base import CostOracle
from tvm_prune.oracle.cost import Cost, Failure
from tvm_prune.oracle.table import ProgramTable
from tvm_prune.search.options import Limits, options_of, prune_to
from tvm_prune.search.settings import CPruneSettings
from tvm_prune.search.trial import Accuracy, ScoredGroup
from tvm_prune.search.workbench import Workbench

__all__ = ["Plan", "check_goals", "plan"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a search would start from.

    `greatest` and `least` are the predicted costs of the dense model and of every prunable group at `max_sparsity`: no
    search ends outside. `first` names the cuts that would be priced first, most costly task first.
    """

    table: ProgramTable
    groups: tuple[ScoredGroup, ...]
    accuracy: Accuracy
    requirement: float
    greatest: Cost
    least: Cost
    first: tuple[str, ...]
    __pydantic_config__ = STRICT

    @property
    def prunable(self) -> tuple[ScoredGroup, ...]:
        """Groups that may shrink."""
        return tuple(group for group in self.groups if group.prunable)

    @property
    def kept(self) -> tuple[ScoredGroup, ...]:
        """Groups that stay whole, each with its `reason`."""
        return tuple(group for group in self.groups if not group.prunable)

    @property
    def best_speedup(self) -> float:
        """The dense latency over the least reachable one, both predicted."""
        return self.greatest.latency_s / self.least.latency_s


def plan(workbench: Workbench, oracle: CostOracle, settings: CPruneSettings) -> Plan:
    """Return the plan of a CPrune search.

    Raises GoalError if a goal of `settings` cannot be met, saying what can, and ToolchainError if the dense or the
    smallest model cannot be compiled.
    """
    dense = workbench.dense()
    accuracy = workbench.evaluate(dense)
    requirement = settings.requirement(accuracy.fraction)
    groups = workbench.groups(dense)
    _check_groups(groups)
    table = oracle.table(dense)
    if isinstance(table, Failure):
        raise ToolchainError(
            f"the dense model cannot be compiled ({table.stage}: {table.message}); tvm-prune doctor MODEL says more"
        )
    thinnest = [
        prune_to(group, max(1, math.ceil(group.width * (1 - settings.max_sparsity) - 1e-9)))
        for group in groups
        if group.prunable
    ]
    smallest = workbench.build(dense, tuple(step for step in thinnest if len(step.keep) < step.width))
    greatest, least = (table.in_place(_compiled(answer)) for answer in oracle.estimate([dense, smallest]))
    found = Plan(
        table=table,
        groups=groups,
        accuracy=accuracy,
        requirement=requirement,
        greatest=greatest,
        least=least,
        first=_first(table, groups, settings),
    )
    _check_goals(found, settings)
    return found


def check_goals(workbench: Workbench, oracle: CostOracle, settings: CPruneSettings) -> None:
    """Raise GoalError for a goal of `settings` that cannot be met, saying what can; without one, only groups count."""
    if settings.latency_goal_s is not None or settings.speedup_goal is not None:
        plan(workbench, oracle, settings)
    else:
        _check_groups(workbench.groups(workbench.dense()))


def _compiled(answer: Cost | Failure) -> Cost:
    if isinstance(answer, Failure):
        raise ToolchainError(
            f"a model of this kind cannot be compiled ({answer.stage}: {answer.message}); tvm-prune doctor MODEL says "
            f"more"
        )
    return answer


def _first(table: ProgramTable, groups: tuple[ScoredGroup, ...], settings: CPruneSettings) -> tuple[str, ...]:
    original = {group.name: group.width for group in groups}
    texts: dict[str, None] = {}
    for row in table.ranked()[: settings.tasks_per_iteration]:
        for option in options_of(row, table, groups, original=original, settings=settings, limits=Limits()):
            texts.setdefault(option.text)
    return tuple(texts)


def _check_groups(groups: tuple[ScoredGroup, ...]) -> None:
    if not any(group.prunable for group in groups):
        reasons = "; ".join(f"{group.name}: {group.reason}" for group in groups[:3]) or "there are none"
        raise GoalError(f"no group of channels can be pruned ({reasons}); name fewer ignored layers")


def _check_goals(found: Plan, settings: CPruneSettings) -> None:
    least, best = found.least.latency_s, found.best_speedup
    if settings.latency_goal_s is not None and settings.latency_goal_s < least:
        raise GoalError(
            f"a latency of {settings.latency_goal_s * 1e3:.3f} ms is asked for but the best reachable is about "
            f"{least * 1e3:.3f} ms, with max_sparsity={settings.max_sparsity:g} in every group; ask for that, or raise "
            f"max_sparsity"
        )
    if settings.speedup_goal is not None and settings.speedup_goal > best:
        raise GoalError(
            f"a speed-up of {settings.speedup_goal:g} is asked for but the best reachable is about {best:.2f}, with "
            f"max_sparsity={settings.max_sparsity:g} in every group; ask for that, or raise max_sparsity"
        )
