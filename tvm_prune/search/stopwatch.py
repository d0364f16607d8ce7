"""Where the seconds of a trial went."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar, runtime_checkable

from tvm_prune.oracle.base import CostOracle

__all__ = ["Metered", "Stopwatch"]

Answer = TypeVar("Answer")


@runtime_checkable
class Metered(Protocol):
    """An oracle that says what its last call spent."""

    seconds: dict[str, float]
    measurements: int


class Stopwatch:
    """Seconds by stage of one trial; what no stage claims is "other"."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start now."""
        self._clock = clock
        self._started = clock()
        self._stages: dict[str, float] = {}
        self.measurements = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside the ``with`` block as `name`."""
        started = self._clock()
        yield
        self._add(name, self._clock() - started)

    def ask(self, oracle: CostOracle, call: Callable[[], Answer]) -> Answer:
        """Make one call of `oracle`; its own account of the time goes in, the rest counts as measuring."""
        started = self._clock()
        answer = call()
        rest = self._clock() - started
        if isinstance(oracle, Metered):
            for name, seconds in oracle.seconds.items():
                self._add(name, seconds)
                rest -= seconds
            self.measurements += oracle.measurements
        self._add("measure", max(0.0, rest))
        return answer

    def seconds(self, *, share: int = 1) -> dict[str, float]:
        """Return the stages so far, divided by `share`, to the microsecond."""
        stages = dict(self._stages)
        stages["other"] = max(0.0, self._clock() - self._started - sum(stages.values()))
        return {name: rounded for name, spent in stages.items() if (rounded := round(spent / share, 6)) > 0}

    def _add(self, name: str, seconds: float) -> None:
        self._stages[name] = self._stages.get(name, 0.0) + seconds
