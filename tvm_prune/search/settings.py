"""Every knob of CPrune, with the paper's values as one preset and values for a small computer as the default."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

from tvm_prune.codec import STRICT, decode, encode
from tvm_prune.errors import ConfigError, GoalError

__all__ = ["PRESETS", "CPruneSettings", "changed", "parse_assignments", "preset"]


@dataclass(frozen=True, kw_only=True)
class CPruneSettings:
    """What to reach, what a step may cost, and how much training and tuning to spend.

    Goals: `accuracy_requirement` is a fraction on the validation split (None = dense minus `accuracy_drop`); the search
    also ends at `latency_goal_s` seconds or at `speedup_goal` times the dense speed, at `latency_floor` of the dense
    latency, or after `max_iterations` accepted steps.

    Gates: a step must bring the latency to `beta` of the incumbent's, and keep `alpha` of its accuracy. `recovery` is
    the accuracy fraction that the final retraining is trusted to give back: the search may go that far below the
    requirement, the final model may not.

    Candidates: `candidates` = "groups" (each dependency group by itself, combined by predicted gain) or "task" (the
    paper's: all groups that the task produces, together). The groups of the `tasks_per_iteration` most costly tasks are
    priced at `counts_per_group` channel counts each: `prices` = "measured" (lowered, new tasks tuned), "predicted"
    (lowered, new tasks priced by a predictor that learns from the records) or "forecast" (the program table scaled to
    the counts); of the last two, only what is put together from them is measured. The seconds they save are
    set against their `harm`: "probe" = how far the answers for `probe_images` validation images (labels play no part)
    are from the incumbent's once the layers that read the channels are fitted on as many training images (where the
    data can be had), "importance" = the scores of the channels removed. What an earlier incumbent had priced is
    priced anew `prices_renewed` at a time, the most promising first, until a step can be made and none promises more
    than what it is made of. One step aims at `bite` of the incumbent's latency (0 = one candidate a step). No group
    loses more than `max_sparsity` of its original channels. Which channels a cut takes is up to `criterion`: l1, l2,
    fpgm, bn-scale, taylor, random, or obs (what the layers that read a channel miss of it after a refit; on
    `refit_images`, without them it is l1).

    Training: before it, layers are fitted by least squares to what they gave in the incumbent, on `refit_images`
    training images (0 = not at all; nor with the user's own functions without inputs). Short-term budget in optimizer
    steps or in epochs (exactly one of the two), the same for the final retraining; `distill_weight` mixes in the dense
    network's answers; `freeze_norms` keeps the statistics of batch norm, which the refit has moved, through both
    trainings.
    """

    accuracy_requirement: float | None = None
    accuracy_drop: float = 0.01
    latency_goal_s: float | None = None
    speedup_goal: float | None = None
    latency_floor: float = 0.1
    max_iterations: int = 100
    alpha: float = 0.995
    beta: float = 0.99
    recovery: float = 0.0
    max_sparsity: float = 0.8
    criterion: str = "l1"
    candidates: Literal["groups", "task"] = "groups"
    tasks_per_iteration: int = 3
    counts_per_group: int = 3
    prices: Literal["measured", "predicted", "forecast"] = "measured"
    prices_renewed: int = 8
    harm: Literal["probe", "importance"] = "probe"
    probe_images: int = 512
    bite: float = 0.1
    trials_per_task: int = 16
    final_trials_per_task: int = 16
    refit_images: int = 512
    short_term_steps: int | None = 100
    short_term_epochs: float | None = None
    short_term_lr: float = 0.01
    final_steps: int | None = 1000
    final_epochs: float | None = None
    final_lr: float = 0.02
    batch_size: int = 128
    weight_decay: float = 5e-4
    distill_weight: float = 0.0
    freeze_norms: bool = False
    seed: int = 0
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        """Refuse values out of range. Raises ConfigError with the value and the range."""
        for name in ("accuracy_drop", "latency_floor", "alpha", "beta", "recovery", "bite", "distill_weight"):
            _within(name, getattr(self, name), 0.0, 1.0)
        _within("max_sparsity", self.max_sparsity, 0.0, 0.99)
        _within("accuracy_requirement", self.accuracy_requirement, 0.0, 1.0)
        for name in ("max_iterations", "tasks_per_iteration", "counts_per_group", "trials_per_task", "batch_size"):
            _within(name, getattr(self, name), 1, 10**6)
        _within("prices_renewed", self.prices_renewed, 1, 10**6)
        _within("probe_images", self.probe_images, 1, 10**6)
        _within("refit_images", self.refit_images, 0, 10**6)
        _within("final_trials_per_task", self.final_trials_per_task, 1, 10**6)
        _within("latency_goal_s", self.latency_goal_s, 1e-9, 1e6)
        _within("speedup_goal", self.speedup_goal, 1.0, 1e6)
        for stage in ("short_term", "final"):
            steps, epochs = getattr(self, f"{stage}_steps"), getattr(self, f"{stage}_epochs")
            if (steps is None) == (epochs is None):
                raise ConfigError(
                    f"{stage}_steps is {steps} and {stage}_epochs is {epochs}: give exactly one of the two and set the "
                    f"other to null"
                )
            _within(f"{stage}_steps", steps, 0, 10**9)
            _within(f"{stage}_epochs", epochs, 0.0, 1e6)
            _within(f"{stage}_lr", getattr(self, f"{stage}_lr"), 0.0, 100.0)
        if self.speedup_goal is not None and self.speedup_goal * self.latency_floor > 1:
            raise ConfigError(
                f"latency_floor is {self.latency_floor:g}, which ends the search at {1 / self.latency_floor:g} times "
                f"the speed, before speedup_goal={self.speedup_goal:g}; set latency_floor=0"
            )

    def require_epochs(self) -> None:
        """Raise ConfigError unless training is counted in epochs, as a user's own finetune function takes it."""
        for stage, default in (("short_term", 1), ("final", 20)):
            steps = getattr(self, f"{stage}_steps")
            if steps is not None:
                raise ConfigError(
                    f"{stage}_steps is {steps}, but your finetune function counts epochs; set {stage}_steps=None and "
                    f"{stage}_epochs={default}, say"
                )

    def of_search(self) -> dict[str, object]:
        """Return, as JSON types, what the search depends on: the same search can be retrained and tuned otherwise."""
        return {name: value for name, value in encode(self).items() if not name.startswith("final_")}

    def short_steps(self, steps_per_epoch: int) -> int:
        """Return the short-term budget in optimizer steps."""
        return _steps(self.short_term_steps, self.short_term_epochs, steps_per_epoch)

    def long_steps(self, steps_per_epoch: int) -> int:
        """Return the budget of the final retraining in optimizer steps."""
        return _steps(self.final_steps, self.final_epochs, steps_per_epoch)

    def requirement(self, dense_fraction: float) -> float:
        """Return the validation accuracy to keep, a fraction. Raises GoalError if the dense model is below it."""
        required = self.accuracy_requirement
        if required is None:
            return dense_fraction - self.accuracy_drop
        if required > dense_fraction:
            raise GoalError(
                f"an accuracy of {required:.4f} is required but the dense model reaches {dense_fraction:.4f} on the "
                f"validation split; ask for at most accuracy_requirement={dense_fraction:.4f}, or train it further"
            )
        return required


def _within(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise ConfigError(f"{name} is {value}; it must lie between {low:g} and {high:g}")


def _steps(steps: int | None, epochs: float | None, steps_per_epoch: int) -> int:
    if steps is not None:
        return steps
    return max(1, round((epochs or 0.0) * steps_per_epoch)) if epochs else 0


# The paper's constants as its released code has them; its step budget is whole epochs at a learning rate of 1e-4.
_PAPER = CPruneSettings(
    candidates="task",
    tasks_per_iteration=1,
    counts_per_group=1,
    harm="importance",
    bite=0.0,
    trials_per_task=70,
    final_trials_per_task=700,
    short_term_steps=None,
    short_term_epochs=5.0,
    short_term_lr=1e-4,
    final_steps=None,
    final_epochs=20.0,
    final_lr=1e-4,
    batch_size=64,
    refit_images=0,
)
# No training within the search: on ResNet-20 and CIFAR-10, 40 steps after a refit gained nothing.
_CPU = CPruneSettings(
    criterion="obs",
    alpha=0.97,
    recovery=0.02,
    prices="forecast",
    tasks_per_iteration=12,
    probe_images=256,
    short_term_steps=0,
    final_lr=0.01,
    distill_weight=0.5,
    freeze_norms=True,
)
# `make demo` ends by its budget of seconds before it has taken so many steps.
_DEMO = CPruneSettings(
    accuracy_drop=0.005,
    criterion="obs",
    alpha=0.975,
    recovery=0.015,
    max_sparsity=0.95,
    probe_images=64,
    bite=0.4,
    max_iterations=20,
    trials_per_task=5,
    final_trials_per_task=5,
    prices="forecast",
    refit_images=256,
    short_term_steps=40,
    final_steps=120,
    batch_size=64,
)
PRESETS: dict[str, CPruneSettings] = {"cpu": _CPU, "demo": _DEMO, "paper": _PAPER}


def preset(name: str) -> CPruneSettings:
    """Return the settings called `name`. Raises ConfigError listing the names there are."""
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}; choose one of {', '.join(sorted(PRESETS))}")
    return PRESETS[name]


def changed(settings: CPruneSettings, changes: Mapping[str, object]) -> CPruneSettings:
    """Return `settings` with `changes` applied and checked. Raises ConfigError for an unknown name or a bad value."""
    names = [item.name for item in fields(CPruneSettings)]
    for name in changes:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or names
            raise ConfigError(f"there is no setting {name!r}; did you mean {', '.join(near)}?")
    return decode(CPruneSettings, {**encode(settings), **changes})


def parse_assignments(assignments: Sequence[str]) -> dict[str, object]:
    """Return ``["alpha=0.99", "criterion=l2"]`` as a mapping for `changed`; values are JSON, else plain text.

    Raises ConfigError for an item without "=".
    """
    parsed: dict[str, object] = {}
    for item in assignments:
        name, equals, value = item.partition("=")
        if not equals:
            raise ConfigError(f"cannot read the setting {item!r}; write it as name=value, for example alpha=0.99")
        try:
            parsed[name.strip()] = json.loads(value)
        except json.JSONDecodeError:
            parsed[name.strip()] = value.strip()
    return parsed
