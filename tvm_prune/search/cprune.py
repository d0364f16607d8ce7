"""CPrune (Kim et al., ECCV 2022) as a searcher: the programs of the tuned model say where and by how much to prune.

One iteration: rank the incumbent's tasks by latency x call sites; price several channel counts of the groups that the
most costly tasks touch; put the best milliseconds per harm into one candidate until it promises a bite of the latency,
as long as its answers before training stay as close to the incumbent's as training has made good so far; let the loop
compare, train and judge it. What the paper leaves open or its released code gets wrong is settled so: the unit is a
whole dependency group, a rejection rolls everything back, and "nothing left" is a normal end.
"""

import math
from collections.abc import Set
from dataclasses import dataclass

from tvm_prune.compress.step import PruneStep
from tvm_prune.oracle.table import ProgramTable
from tvm_prune.search.bundle import Bundle, Refused
from tvm_prune.search.ceiling import Ceiling
from tvm_prune.search.findings import Findings
from tvm_prune.search.forecast import forecast
from tvm_prune.search.options import Limits, Option, options_of
from tvm_prune.search.ranking import Price
from tvm_prune.search.settings import CPruneSettings
from tvm_prune.search.trial import Proposal, ScoredGroup, State, Trial

__all__ = ["CPrune"]

Steps = tuple[PruneStep, ...]


@dataclass(frozen=True, kw_only=True)
class _Incumbent:
    """The last accepted trial, and its latency as a part of the dense one's (product of the paired ratios)."""

    number: int
    latency_s: float
    relative: float
    accuracy: float
    table: ProgramTable
    groups: tuple[ScoredGroup, ...]


class CPrune:
    """The searcher. `steps_per_epoch` turns a short-term budget in epochs into optimizer steps.

    `tell` raises GoalError for trial 0 if the dense model is below the accuracy requirement.
    """

    def __init__(self, settings: CPruneSettings, *, steps_per_epoch: int = 1) -> None:
        """Begin; nothing is known until trial 0 is told."""
        self._settings = settings
        self._finetune_steps = settings.short_steps(steps_per_epoch)
        self._probing = settings.harm == "probe"
        self._forecasting = settings.prices == "forecast"
        self._predicting = settings.prices == "predicted"
        self._bite = settings.bite
        self._ceiling = Ceiling()
        self._iterations = 0
        self._requirement = 0.0
        # Steps are longer while accuracy is in no danger: above this half of what may be lost is left.
        self._ample = 0.0
        self._pace = 1
        self._original: dict[str, int] = {}
        self._incumbent: _Incumbent | None = None
        self._findings = Findings(latency_s=0.0, window=settings.tasks_per_iteration)
        self._trying: Bundle | None = None
        # What accuracy has refused stays closed: later models have less to spare.
        self._above: dict[str, int] = {}
        self._banned: set[str] = set()
        self._stop = ""

    @property
    def stop_reason(self) -> str:
        """Why the search ended."""
        return self._stop

    def ask(self) -> tuple[Proposal, ...]:
        """Return prices to fetch, or one candidate; nothing once a goal is reached or no candidate is left."""
        assert self._incumbent is not None, "tell trial 0 first"
        here, known = self._incumbent, self._findings
        self._stop = self._reached(here)
        while not self._stop:
            options, all_seen = self._options(here)
            if unpriced := known.unpriced(options):
                return tuple(self._price(here, steps) for steps in unpriced)
            self._trying = known.pick(options, ceiling=self._ceiling, bite=self._bite, beta=self._settings.beta)
            enough = self._trying is not None and self._trying.saved_s >= self._bite * known.own.latency_s
            better_than = known.least_worth(self._trying) if self._trying is not None and enough else -math.inf
            if hopeful := known.hopeful(options, count=self._settings.prices_renewed, better_than=better_than):
                return tuple(self._price(here, steps) for steps in hopeful)
            if self._trying is not None:
                doubtful = self._probing or self._forecasting or self._predicting
                if doubtful and len(self._trying.options) > 1 and self._trying.steps not in known.prices:
                    return (self._price(here, self._trying.steps),)
                return (self._candidate(here, self._trying),)
            if self._close_refused():
                continue
            if held_back := known.held_back(options, ceiling=self._ceiling):
                # Nothing less harmful is left, and deeper cuts would harm more.
                self._ceiling.lift(held_back)
            elif not all_seen:
                known.window += self._settings.tasks_per_iteration
            elif not self._go_deeper(options):
                self._stop = self._nothing_left()
        return ()

    def tell(self, trial: Trial) -> None:
        """Take an outcome. Raises GoalError, see the class."""
        if trial.proposal is None:
            assert trial.accuracy is not None
            assert trial.groups is not None
            self._requirement = self._settings.requirement(trial.accuracy.fraction)
            self._ample = (trial.accuracy.fraction + self._requirement) / 2
            self._original = {group.name: group.width for group in trial.groups}
            self._move_to(trial, relative=1.0)
        elif trial.proposal.price_only:
            latency_s = trial.proposal.forecast_s if trial.cost is None else trial.cost.latency_s
            price = None if latency_s is None else Price(latency_s=latency_s, distance=trial.distance)
            self._findings.prices[trial.proposal.steps] = price
        else:
            self._judge(trial)

    def _judge(self, trial: Trial) -> None:
        assert self._incumbent is not None
        assert self._trying is not None
        bundle, self._trying = self._trying, None
        known, single = self._findings, len(bundle.options) == 1
        distance, promised = known.distance(bundle.steps), bundle.saved_s / known.own.latency_s
        if trial.accuracy is not None:
            self._ceiling.told(distance, lost=self._incumbent.accuracy - trial.accuracy.fraction)
        if trial.state is State.ACCEPTED:
            assert trial.ratio is not None
            assert trial.accuracy is not None
            self._iterations += 1
            self._pace = 2 * self._pace if trial.accuracy.fraction >= self._ample else max(1, self._pace // 2)
            self._bite = min(self._settings.bite, 2 * self._bite)
            self._move_to(trial, relative=self._incumbent.relative * trial.ratio.median)
        elif trial.state is State.TOO_SLOW:
            # The promise did not hold: more of it next time, as the paper doubles the step.
            self._bite = min(1.0, 2 * max(self._bite, promised))
            if single:
                self._deepen(bundle)
            else:
                known.refused.slow.append(bundle)
        elif trial.state is State.INACCURATE:
            self._pace = max(1, self._pace // 2)
            if distance is None:
                self._bite = promised / 2
            if single:
                self._strike(set(bundle.steps))
            else:
                known.refused.inaccurate.append(bundle)
        elif single:
            known.prices[bundle.steps] = None
        else:
            self._bite = promised / 2
            known.refused.failed.append(bundle)

    def _move_to(self, trial: Trial, *, relative: float) -> None:
        assert trial.accuracy is not None
        assert trial.table is not None
        assert trial.groups is not None
        latency_s = trial.table.whole.latency_s
        hopes = self._findings.leave_hopes()
        self._findings = Findings(latency_s=latency_s, window=self._settings.tasks_per_iteration, hopes=hopes)
        self._incumbent = _Incumbent(
            number=trial.number,
            latency_s=latency_s,
            relative=relative,
            accuracy=trial.accuracy.fraction,
            table=trial.table,
            groups=trial.groups,
        )
        self._ceiling.spare = trial.accuracy.fraction - self._least_accuracy(self._incumbent)

    def _least_accuracy(self, here: _Incumbent) -> float:
        return max(self._settings.alpha * here.accuracy, self._requirement - self._settings.recovery)

    def _options(self, here: _Incumbent) -> tuple[list[Option], bool]:
        """Return the options of the most costly tasks that still have any, and whether those are all such tasks."""
        limits = Limits(above=self._above, below=self._findings.below, banned=frozenset(self._banned), pace=self._pace)
        found: dict[Steps, Option] = {}
        costly = 0
        for row in here.table.ranked():
            options = options_of(
                row, here.table, here.groups, original=self._original, settings=self._settings, limits=limits
            )
            fresh = [option for option in options if option.steps not in found]
            if not fresh:
                continue
            if costly == self._findings.window:
                return list(found.values()), False
            costly += 1
            found.update({option.steps: option for option in fresh})
        return list(found.values()), True

    def _price(self, here: _Incumbent, steps: Steps) -> Proposal:
        return Proposal(
            parent=here.number,
            steps=steps,
            price_only=True,
            probe=self._probing and bool(steps),
            forecast_s=forecast(here.table, here.groups, steps) if self._forecasting else None,
            predicted=self._predicting,
        )

    def _candidate(self, here: _Incumbent, bundle: Bundle) -> Proposal:
        own = self._findings.own.latency_s
        price = self._findings.prices.get(bundle.steps)
        promised = price.latency_s / own if price is not None else 1 - bundle.saved_s / own
        texts = [f"{option.text} ({option.note})" for option in bundle.options]
        return Proposal(
            parent=here.number,
            steps=bundle.steps,
            max_ratio=self._settings.beta,
            min_accuracy=self._least_accuracy(here),
            finetune_steps=self._finetune_steps,
            note=f"{'; '.join(texts)}; promises x{promised:.3f}",
        )

    def _strike(self, steps: Set[PruneStep]) -> None:
        """Close what accuracy refused: first these counts and all below, the second time the groups."""
        refused: dict[str, int] = {}
        for step in steps:
            refused[step.group] = max(len(step.keep), refused.get(step.group, 0))
        for group, count in refused.items():
            if group in self._above:
                self._banned.add(group)
            self._above[group] = max(count, self._above.get(group, 0))

    def _deepen(self, bundle: Bundle) -> None:
        for step in bundle.steps:
            self._findings.below[step.group] = len(step.keep)

    def _close_refused(self) -> bool:
        """With no bundle left between the refused ones, close their parts; return whether there were any."""
        known, refused = self._findings, self._findings.refused
        # Overlapping bundles are one piece of evidence against a group, not several.
        self._strike({step for bundle in refused.inaccurate for step in bundle.steps})
        for bundle in refused.slow:
            self._deepen(bundle)
        for bundle in refused.failed:
            known.prices.update({option.steps: None for option in bundle.options})
        # Nothing smaller clears the latency gate, so training must show what it can undo.
        self._ceiling.lift(known.distance(bundle.steps) for bundle in refused.harmful)
        known.refused = Refused()
        return bool(refused.inaccurate or refused.slow or refused.failed or refused.harmful)

    def _go_deeper(self, options: list[Option]) -> bool:
        """Where all counts together do not clear the gate, look below them; return whether there were any."""
        for option in options:
            for step in option.steps:
                below = self._findings.below
                below[step.group] = min(len(step.keep), below.get(step.group, step.width))
        return bool(options)

    def _reached(self, here: _Incumbent) -> str:
        goals = self._settings
        if goals.latency_goal_s is not None and here.latency_s <= goals.latency_goal_s:
            return f"latency goal reached: {here.latency_s * 1e3:.3f} ms, asked for {goals.latency_goal_s * 1e3:.3f} ms"
        if goals.speedup_goal is not None and 1 / here.relative >= goals.speedup_goal:
            return f"speed-up goal reached: {1 / here.relative:.2f}, asked for {goals.speedup_goal:.2f}"
        if here.relative <= goals.latency_floor:
            return f"latency floor reached: {here.relative:.3f} of the dense latency"
        if self._iterations >= goals.max_iterations:
            return f"the limit of {goals.max_iterations} accepted steps is reached"
        return ""

    def _nothing_left(self) -> str:
        if self._above:
            return f"every candidate left would break the accuracy requirement of {self._requirement:.4f}"
        return "no candidate is left that promises to be faster"
