"""The uniform baseline: every group thinned by the same ratio, counts rounded up to what vectors like."""

from collections.abc import Iterator
from dataclasses import dataclass

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
    """A searcher without feedback: every point grows from the dense model, passes no gate and is tried once."""

    def __init__(self, settings: UniformSettings) -> None:
        """Begin; the points are known once trial 0 is told."""
        self._settings = settings
        self._points: Iterator[Proposal] = iter(())
        self._tried = 0

    @property
    def stop_reason(self) -> str:
        """How many points there were."""
        return f"all {self._tried} uniform points were tried"

    def ask(self) -> tuple[Proposal, ...]:
        """Return the next point."""
        point = next(self._points, None)
        if point is None:
            return ()
        self._tried += 1
        return (point,)

    def tell(self, trial: Trial) -> None:
        """Take trial 0, which has the groups; later outcomes change nothing."""
        if trial.number == 0:
            assert trial.groups is not None
            self._points = iter(self._proposals(trial.groups))

    def _proposals(self, groups: tuple[ScoredGroup, ...]) -> list[Proposal]:
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
        return list(found.values())
