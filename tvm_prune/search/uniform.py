"""The uniform baseline: every group thinned by the same ratio, counts rounded up to what vectors like."""

import math
from dataclasses import dataclass, replace

from tvm_prune.codec import STRICT
from tvm_prune.compress.step import PruneStep
from tvm_prune.compress.uniform import kept_width
from tvm_prune.errors import ConfigError
from tvm_prune.search.options import prune_to
from tvm_prune.search.trial import Proposal, ScoredGroup, Trial

__all__ = ["Uniform", "UniformSettings"]


@dataclass(frozen=True, kw_only=True)
class UniformSettings:
    """Ratios of channels kept, multiples to round up to, criterion, and optimizer steps of training a point."""

    ratios: tuple[float, ...] = (0.875, 0.75, 0.625, 0.5, 0.375, 0.25)
    roundings: tuple[int, ...] = (1, 4, 8, 16)
    criterion: str = "l1"
    finetune_steps: int = 1000
    seed: int = 0
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        """Refuse empty lists and values out of range. Raises ConfigError."""
        if not self.ratios or not all(0 < ratio <= 1 for ratio in self.ratios):
            raise ConfigError(f"ratios are {self.ratios}; give at least one, each above 0 and at most 1")
        if not self.roundings or not all(rounding >= 1 for rounding in self.roundings):
            raise ConfigError(f"roundings are {self.roundings}; give at least one, each 1 or more")
        if self.finetune_steps < 0:
            raise ConfigError(f"finetune_steps is {self.finetune_steps}; give 0 or more")


class Uniform:
    """A searcher without feedback: every point grows from the dense model, passes no gate and is tried once.

    All points are priced first. One that promises no less latency than a point with at least as many channels in every
    group, or than the dense network, is not trained: the wider network computes all that it can, as fast, so it cannot
    be on the lower envelope.
    """

    def __init__(self, settings: UniformSettings) -> None:
        """Begin; the points are known once trial 0 is told."""
        self._settings = settings
        self._points: tuple[Proposal, ...] = ()
        self._prices: list[float | None] = []
        self._dense_s = math.inf
        self._asked: list[Proposal] | None = None

    @property
    def stop_reason(self) -> str:
        """How many points there were, and how many of them were not worth training."""
        left = len(self._points) - len(self._worthwhile())
        slower = f"; {left} of them promised to be no faster than a wider one and were not trained" if left else ""
        return f"all {len(self._points)} uniform points were tried{slower}"

    def ask(self) -> tuple[Proposal, ...]:
        """Return the points to price, later one of them after the other."""
        if self._asked is None:
            self._asked = []
            return tuple(replace(point, price_only=True, finetune_steps=0) for point in self._points)
        for point in self._worthwhile():
            if point not in self._asked:
                self._asked.append(point)
                return (point,)
        return ()

    def tell(self, trial: Trial) -> None:
        """Take trial 0, which has the groups, and the prices; later outcomes change nothing."""
        if trial.number == 0:
            assert trial.groups is not None
            assert trial.cost is not None
            self._points = self._proposals(trial.groups)
            self._dense_s = trial.cost.latency_s
        elif trial.proposal is not None and trial.proposal.price_only:
            self._prices.append(None if trial.cost is None else trial.cost.latency_s)

    def _worthwhile(self) -> list[Proposal]:
        priced = list(zip(self._points, self._prices, strict=True))

        def beaten(point: Proposal, latency_s: float) -> bool:
            return latency_s >= self._dense_s or any(
                other_s is not None and other_s <= latency_s and other != point and _wider(other, point)
                for other, other_s in priced
            )

        return [point for point, latency_s in priced if latency_s is None or not beaten(point, latency_s)]

    def _proposals(self, groups: tuple[ScoredGroup, ...]) -> tuple[Proposal, ...]:
        found: dict[tuple[PruneStep, ...], Proposal] = {}
        for ratio in self._settings.ratios:
            for rounding in self._settings.roundings:
                widths = [
                    (group, kept_width(group.width, ratio, round_to=rounding)) for group in groups if group.prunable
                ]
                steps = tuple(prune_to(group, count) for group, count in widths if count < group.width)
                if steps and steps not in found:
                    found[steps] = Proposal(
                        parent=0,
                        steps=steps,
                        finetune_steps=self._settings.finetune_steps,
                        note=f"uniform {ratio:g}, counts in multiples of {rounding}",
                    )
        return tuple(found.values())


def _wider(one: Proposal, other: Proposal) -> bool:
    """Whether `one` keeps at least as many channels as `other` in every group."""
    kept = {step.group: len(step.keep) for step in other.steps if isinstance(step, PruneStep)}
    mine = {step.group: len(step.keep) for step in one.steps if isinstance(step, PruneStep)}
    return all(name in kept and count >= kept[name] for name, count in mine.items())
