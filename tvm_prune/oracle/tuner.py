"""Tuning: which programs of which kernels are worth a trial, in waves, until more of them cannot pay.

A few programs of every kernel tell which of the kernels that compute the same thing may win; only these are tried
further, as long as it helps and the task matters to its model. Kernels that differ from those in their epilogue alone
take over the fastest programs, and what is fast for one channel count is tried for those near it. What was tried before
is on record and not tried again; the fastest programs of a task are timed beside each other in the end.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from tvm_prune.oracle.contest import close_kernels, contestants
from tvm_prune.oracle.cost import Failure
from tvm_prune.oracle.program import Program
from tvm_prune.oracle.records import Record, Records
from tvm_prune.oracle.relatives import Relatives
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tasks import Kernel, body_of
from tvm_prune.oracle.trials import Order, Trials
from tvm_prune.oracle.tune_settings import TuneSettings

__all__ = ["Group", "Tuner"]

# Programs that an order names beside those it wants, for points that turn out to have no schedule.
_SPARE = 8


@dataclass(frozen=True)
class Group:
    """Kernels that compute one task, the plain one first, and how often its model calls one of them.

    Those that can hardly win (`hopeless`, by key) are tried only if none of the others works.
    """

    kernels: tuple[Kernel, ...]
    weight: int = 1
    hopeless: frozenset[str] = frozenset()

    @cached_property
    def key(self) -> str:
        """The key of the plain kernel, and what tells kernels beside it from others that may stand in for it."""
        plain, *others = (kernel.key for kernel in self.kernels)
        return f"{plain}+{hashlib.sha256(' '.join(others).encode()).hexdigest()[:12]}" if others else plain

    @cached_property
    def bodies(self) -> tuple[Any, ...]:
        """What the kernels share with those of other groups, whose epilogues alone are others."""
        return tuple(body_of(kernel) for kernel in self.kernels)

    @property
    def hopeful(self) -> list[Kernel]:
        """The kernels worth a trial."""
        return [kernel for kernel in self.kernels if kernel.key not in self.hopeless]


class Tuner:
    """Fills the records of one oracle."""

    def __init__(self, target: Target, records: Records, trials: Trials) -> None:
        self.target = target
        self.records = records
        self._trials = trials
        self._spaces: dict[str, tuple[Program, ...]] = {}
        self._relatives = Relatives(records, self._points)
        # Groups whose kernels went through the waves, by their bodies.
        self._leaders: dict[Any, Group] = {}
        # Kernels tried in this call.
        self._touched: set[str] = set()

    @property
    def settings(self) -> TuneSettings:
        """The settings of every further trial."""
        return self._trials.settings

    @settings.setter
    def settings(self, settings: TuneSettings) -> None:
        self._trials.settings = settings

    @property
    def failures(self) -> dict[str, Failure]:
        """Kernels of which no program works, by key."""
        return self._trials.failures

    @property
    def trials(self) -> int:
        """Programs measured so far."""
        return self._trials.count

    def close(self) -> None:
        """Delete what was built for trials."""
        self._trials.close()

    def tune(self, models: Sequence[Sequence[Group]]) -> None:
        """Tune the groups of each model that lack trials; kernels that failed before are left alone."""
        groups = list({group.key: group for model in models for group in model}.values())
        for group in groups:
            self._relatives.add(group.kernels)
        following = {group.key for group in self._elect(groups)}
        small = self._small(models)
        groups = [group for group in groups if not self._settled(group, small)]
        followers = [group for group in groups if group.key in following]
        self._waves([group for group in groups if group.key not in following], models)
        self._follow(followers)
        self._waves([group for group in followers if not self._depth(group)], models)
        self._waves([replace(group, hopeless=frozenset()) for group in groups if not self._depth(group)], models)
        self._share(groups)
        self._contest(groups)
        self._touched.clear()
        small = self._small(models)
        for group in groups:
            if self._depth(group):
                self.records.settle(group.key, self._due(group, small))

    def meet(self, contests: Sequence[Sequence[Kernel]]) -> None:
        """Time the fastest programs of kernels that compute different things beside each other, each contest once.

        Which of two whole models is the faster one should not hang on when their kernels were tuned.
        """
        named = {"+".join(kernel.key for kernel in contest): contest for contest in contests}
        new = {name: contest for name, contest in named.items() if not self.records.settled(name)}
        if new:
            best = [[(kernel, self.records.best(kernel.key)) for kernel in contest] for contest in new.values()]
            self._trials.compare([[(kernel, record) for kernel, record in each if record] for each in best])
        for name in new:
            self.records.settle(name, 1)

    def race(self, entries: Sequence[tuple[Kernel, Record]], *, rounds: int) -> list[list[float]]:
        """Time programs of kernels that compute anything beside each other; return each one's seconds round by round.

        They are in units of the canary's usual speed; none for a program that did not run.
        """
        return self._trials.compare([entries], rounds=rounds)[0]

    def _due(self, group: Group, small: Set[str]) -> int:
        """Return up to how many trials a kernel of a group is given."""
        most = self.settings.trials_per_task
        return min(most, self.settings.explore_trials) if group.key in small else most

    def _settled(self, group: Group, small: Set[str]) -> bool:
        """Whether a group was tuned to the end before, here or by whoever wrote the records."""
        return bool(self._depth(group)) and self.records.settled(group.key) >= self._due(group, small)

    def _elect(self, groups: Sequence[Group]) -> list[Group]:
        """Choose the leader of every body, the one with most trials; return the groups that follow one."""
        for group in groups:
            leader = self._leaders.get(group.bodies)
            if leader is None or self._depth(group) > self._depth(leader):
                self._leaders[group.bodies] = group
        return [group for group in groups if self._leaders[group.bodies].key != group.key]

    def _depth(self, group: Group) -> int:
        return sum(len(self.records.series(kernel.key)) for kernel in group.kernels)

    # --- waves --------------------------------------------------------------------------------------------------------

    def _waves(self, groups: Sequence[Group], models: Sequence[Sequence[Group]]) -> None:
        settings = self.settings
        most = settings.trials_per_task
        limit = min(most, settings.explore_trials)
        margin = settings.promising - 1
        self._bring([group.hopeful for group in groups], limit)
        while limit < most:
            small = self._small(models)
            wave = [self._promising(group, limit, margin) for group in groups if group.key not in small]
            limit = min(most, limit + settings.wave_trials)
            margin /= 2
            if not any(wave):
                break
            self._bring(wave, limit)

    def _small(self, models: Sequence[Sequence[Group]]) -> set[str]:
        """Return the tasks (keys of their plain kernels) that take next to nothing of every model they are in."""
        small: set[str] = set()
        matter: set[str] = set()
        for model in models:
            takes_s = {group.key: self._takes_s(group) for group in model}
            limit_s = self.settings.least_share * sum(takes_s.values())
            for key, seconds in takes_s.items():
                (small if seconds < limit_s else matter).add(key)
        return small - matter

    def _takes_s(self, group: Group) -> float:
        """Return the seconds of all calls of a task as far as is known; a follower's are its leader's until then."""
        for known in (group, self._leaders[group.bodies]):
            seconds = [min(series) for kernel in known.kernels if (series := self.records.series(kernel.key))]
            if seconds:
                return group.weight * min(seconds)
        return 0.0

    def _promising(self, group: Group, trials: int, margin: float) -> list[Kernel]:
        """Return the kernels of a group that may win if they get more than `trials` trials."""
        series = {kernel.key: self.records.series(kernel.key)[:trials] for kernel in group.kernels}
        best_s = min((min(seconds) for seconds in series.values() if seconds), default=0.0)
        return [
            kernel
            for kernel in group.hopeful
            if series[kernel.key]
            and len(series[kernel.key]) + len(self._trials.failed(kernel.key)) >= trials
            and min(series[kernel.key]) <= (1 + margin) * best_s
            and self._still_gains(series[kernel.key])
        ]

    def _still_gains(self, seconds: Sequence[float]) -> bool:
        """Whether the last wave made a kernel faster; `seconds` are those of its programs as they were first tried."""
        before = seconds[: -self.settings.wave_trials]
        return not before or min(seconds) <= (1 - self.settings.least_gain) * min(before)

    def _bring(self, tasks: Sequence[Sequence[Kernel]], limit: int) -> None:
        """Bring every kernel of every task to `limit` trials, if its space has so many."""
        self._run([list(self._orders(kernels, limit)) for kernels in tasks])

    def _orders(self, kernels: Sequence[Kernel], limit: int) -> Iterator[Order]:
        for kernel in kernels:
            failed = self._trials.failed(kernel.key)
            missing = limit - len(self.records.series(kernel.key)) - len(failed)
            if kernel.key in self.failures or missing <= 0:
                continue
            wanted = [*self._favourites(kernel), *(program.name for program in self._points(kernel))]
            if names := self._untried(kernel, dict.fromkeys(wanted)):
                yield Order(kernel, tuple(names[: missing + _SPARE]), missing)

    def _points(self, kernel: Kernel) -> tuple[Program, ...]:
        from tvm_prune.oracle.spaces import points

        if kernel.key not in self._spaces:
            self._spaces[kernel.key] = tuple(point.program for point in points(kernel.function, self.target))
        return self._spaces[kernel.key]

    def _untried(self, kernel: Kernel, names: Iterable[str]) -> list[str]:
        known = self._trials.failed(kernel.key).union(item.name for item in self.records.programs(kernel.key))
        return [name for name in names if name not in known]

    def _run(self, batches: Sequence[Sequence[Order]]) -> None:
        self._touched.update(order.kernel.key for batch in batches for order in batch)
        self._trials.run(batches)

    def _contest(self, groups: Sequence[Group]) -> None:
        """Time the fastest programs of every group that had new trials beside each other."""
        contests = [
            contestants(group.kernels, self.records, self.settings, self._favourites)
            for group in groups
            if not self._touched.isdisjoint(kernel.key for kernel in group.kernels)
        ]
        self._trials.compare([entries for entries in contests if entries])

    # --- what others run ----------------------------------------------------------------------------------------------

    def _favourites(self, kernel: Kernel) -> list[str]:
        return self._relatives.favourites(kernel)[: self.settings.follow_trials]

    def _share(self, groups: Sequence[Group]) -> None:
        """Try what relatives run fastest by now, where a kernel may win and has trials left."""
        orders: list[list[Order]] = []
        for group in groups:
            orders.append([])
            for kernel in close_kernels(group.kernels, self.records, self.settings):
                left = self.settings.trials_per_task - len(self.records.series(kernel.key))
                if names := self._untried(kernel, self._favourites(kernel))[: max(0, left)]:
                    orders[-1].append(Order(kernel, tuple(names), len(names)))
        self._run([batch for batch in orders if batch])

    def _follow(self, groups: Sequence[Group]) -> None:
        """Try the fastest programs of each group's leader."""
        batches: list[list[Order]] = []
        for group in groups:
            batches.append([])
            leader = self._leaders[group.bodies]
            alike = {body_of(kernel): kernel for kernel in group.kernels}
            best = {kernel.key: min(series) for kernel in leader.kernels if (series := self.records.series(kernel.key))}
            for led in leader.kernels:
                kernel = alike.get(body_of(led))
                if kernel is None or led.key not in best or kernel.key in self.failures:
                    continue
                if best[led.key] > self.settings.follow_margin * min(best.values()):
                    continue
                fastest = [program.name for program in self.records.programs(led.key)]
                wanted = fastest[: min(self.settings.follow_trials, self.settings.trials_per_task)]
                points = {program.name for program in self._points(kernel)}
                if names := self._untried(kernel, (name for name in wanted if name in points)):
                    batches[-1].append(Order(kernel, tuple(names), len(names)))
        self._run(batches)
