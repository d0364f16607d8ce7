"""`tvm-prune plan` and `tune` on an oracle without a compiler."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cli.conftest import Invoke
from tvm_prune.cli import look
from tvm_prune.errors import ConfigError, GoalError, TargetError
from tvm_prune.oracle.fake import LinearOracle


@pytest.fixture(autouse=True)
def linear(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Open a LinearOracle instead of a compiler; return what it was opened with."""
    opened: list[dict[str, Any]] = []

    @contextmanager
    def opening(target: object, **options: Any) -> Iterator[LinearOracle]:
        opened.append(options)
        yield LinearOracle(lanes=4)

    monkeypatch.setattr(look, "open_oracle", opening)
    return opened


def test_tune_prints_the_program_table(invoke: Invoke, linear: list[dict[str, Any]]) -> None:
    text = invoke("tune", "lenet5", "--trials-per-task", "7", "--records", "mine").stdout
    assert "Tasks and programs of lenet5" in text
    assert "classifier.4" in text
    assert "100.0% of the measured whole" in text
    assert linear[0]["trials_per_task"] == 7
    assert str(linear[0]["records"]) == "mine"


def test_tune_prints_json(invoke: Invoke) -> None:
    view = json.loads(invoke("tune", "lenet5", "--json").stdout)
    assert len(view["lines"]) == 5
    assert view["explained"] == pytest.approx(1)


def test_plan_shows_reach_groups_and_tasks(invoke: Invoke, linear: list[dict[str, Any]]) -> None:
    settings = ("--set", "accuracy_drop=0.5", "--set", "max_sparsity=0.5")
    text = invoke("plan", "lenet5", "--out", "run", "--ignore", "features.0", *settings).stdout
    assert "every group at max_sparsity" in text
    assert "features.0 is ignored" in text
    assert "x faster, predicted" in text
    assert str(linear[0]["records"]) == "run/records"


def test_plan_says_what_can_be_reached_when_the_goal_cannot(invoke: Invoke) -> None:
    with pytest.raises(GoalError, match="best reachable is about"):
        invoke("plan", "lenet5", "--set", "speedup_goal=1000", "--set", "latency_floor=0")


def test_settings_and_targets_are_checked_before_anything_is_loaded(invoke: Invoke) -> None:
    with pytest.raises(ConfigError, match="did you mean alpha"):
        invoke("plan", "lenet5", "--set", "alpa=0.9")
    with pytest.raises(ConfigError, match="no preset 'fast'; choose one of"):
        invoke("plan", "lenet5", "--preset", "fast")
    with pytest.raises(TargetError, match="quantum"):
        invoke("plan", "lenet5", "--target", "quantum")
