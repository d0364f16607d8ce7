"""How much a search may spend, and what it has spent."""

from dataclasses import dataclass

from tvm_prune.codec import STRICT
from tvm_prune.errors import ConfigError
from tvm_prune.search.trial import Trial

__all__ = ["Account", "Budget"]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits of one run; None = no limit.

    `seconds` are wall-clock seconds inside trials, over all starts of the run; `trials` counts the candidates that were
    built and compared (prices are not trials here); `measurements` counts programs timed.
    """

    seconds: float | None = None
    trials: int | None = None
    measurements: int | None = None
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        """Refuse a negative limit. Raises ConfigError."""
        for name, limit in (("seconds", self.seconds), ("trials", self.trials), ("measurements", self.measurements)):
            if limit is not None and limit < 0:
                raise ConfigError(f"the budget of {name} is {limit}; give 0 or more, or leave it out for no limit")


class Account:
    """The running sum of finished trials. A resumed run fills it from the journal, so it goes on where it was."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.seconds = 0.0
        self.trials = 0
        self.measurements = 0

    def add(self, trial: Trial) -> None:
        """Count one finished trial."""
        self.seconds += sum(trial.seconds.values())
        self.measurements += trial.measurements
        if trial.proposal is not None and trial.built:
            self.trials += 1

    def exhausted(self) -> str:
        """Return which limit is reached, in words; "" while none is."""
        pairs = (
            ("seconds", self.seconds, self._budget.seconds),
            ("trials", self.trials, self._budget.trials),
            ("measurements", self.measurements, self._budget.measurements),
        )
        for name, spent, limit in pairs:
            if limit is not None and spent >= limit:
                return f"the budget of {limit:g} {name} is spent"
        return ""

    def remaining_s(self) -> float | None:
        """Return the seconds left under the tightest limit that can be foreseen, None without one."""
        left = []
        if self._budget.seconds is not None:
            left.append(self._budget.seconds - self.seconds)
        if self._budget.trials is not None and self.trials:
            left.append((self._budget.trials - self.trials) * self.seconds / self.trials)
        return max(0.0, min(left)) if left else None
