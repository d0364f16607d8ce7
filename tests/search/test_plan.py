"""The plan: what is there, what is reachable, and which goals are refused before anything is trained."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from tests.search.toy import SETTINGS, ToyOracle, ToyWorkbench, toy_of
from tvm_prune.compress.step import PruneStep
from tvm_prune.errors import GoalError, ToolchainError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.search.plan import plan
from tvm_prune.search.trial import ScoredGroup


@dataclass
class Untrained(ToyWorkbench):
    """A workbench that must not train."""

    def finetune(self, model: CompressedModel, *, steps: int, seed: int, final: bool = False) -> CompressedModel:
        raise AssertionError("a plan trains nothing")


class Watching(Untrained):
    """Remembers the widths of what was built."""

    built: Sequence[int] = ()

    def build(self, parent: CompressedModel, steps: tuple[PruneStep, ...]) -> CompressedModel:
        model = super().build(parent, steps)
        self.built = [len(units) for units in toy_of(model).kept.values()]
        return model


def test_the_plan_spans_from_dense_to_every_group_at_max_sparsity() -> None:
    workbench = Watching()
    found = plan(workbench, ToyOracle(), SETTINGS)
    assert workbench.built == [13, 13, 26]
    assert found.greatest.latency_s == pytest.approx(found.table.whole.latency_s)
    assert found.best_speedup == pytest.approx(found.greatest.latency_s / found.least.latency_s)
    assert found.best_speedup > 5
    assert found.accuracy.fraction == pytest.approx(0.95)
    assert found.requirement == pytest.approx(0.90)


def test_the_plan_names_what_stays_whole_and_what_is_tried_first() -> None:
    found = plan(Untrained(), ToyOracle(), SETTINGS)
    assert [group.name for group in found.prunable] == ["stem", "one", "two"]
    assert [(group.name, group.reason) for group in found.kept] == [("head", "output of the network")]
    assert "two 128 -> 112" in found.first
    assert len(found.first) == len(set(found.first))


def test_a_latency_that_cannot_be_reached_is_refused_with_the_best_one() -> None:
    best = plan(Untrained(), ToyOracle(), SETTINGS).least.latency_s
    with pytest.raises(GoalError, match=rf"0.010 ms is asked for but the best reachable is about {best * 1e3:.3f} ms"):
        plan(Untrained(), ToyOracle(), replace(SETTINGS, latency_goal_s=1e-5))
    plan(Untrained(), ToyOracle(), replace(SETTINGS, latency_goal_s=1.01 * best))


def test_a_speedup_that_cannot_be_reached_is_refused_with_the_best_one() -> None:
    with pytest.raises(GoalError, match=r"speed-up of 100 is asked for but the best reachable is about \d+\.\d\d"):
        plan(Untrained(), ToyOracle(), replace(SETTINGS, speedup_goal=100, latency_floor=0))


def test_a_requirement_above_the_dense_accuracy_is_refused() -> None:
    with pytest.raises(GoalError, match="the dense model reaches"):
        plan(Untrained(), ToyOracle(), replace(SETTINGS, accuracy_requirement=0.96))


class Frozen(Untrained):
    """Every group is ignored."""

    def groups(self, model: CompressedModel) -> tuple[ScoredGroup, ...]:
        return tuple(replace(group, prunable=False, reason="ignored") for group in super().groups(model))


def test_a_model_without_prunable_groups_is_refused() -> None:
    with pytest.raises(GoalError, match=r"no group of channels can be pruned \(stem: ignored"):
        plan(Frozen(), ToyOracle(), SETTINGS)


@pytest.mark.parametrize("widths", ['{"stem": 64, "one": 64, "two": 128}', '{"stem": 13, "one": 13, "two": 26}'])
def test_a_model_that_cannot_be_compiled_is_refused(widths: str) -> None:
    with pytest.raises(ToolchainError, match="cannot be compiled"):
        plan(Untrained(), ToyOracle(failing=frozenset({widths})), SETTINGS)
