"""How much rise of the probed loss a step may cause: what training has undone so far, learned from the gates."""

import math
from collections.abc import Iterable

__all__ = ["Ceiling"]


class Ceiling:
    """A trust region in loss. It starts open, halves where accuracy was refused and widens where it was held."""

    def __init__(self) -> None:
        self._value = math.inf

    def allows(self, rise: float | None) -> bool:
        """Whether a step that raises the probed loss by `rise` may be tried; always if nothing was probed."""
        return rise is None or rise <= self._value

    def held(self, rise: float | None) -> None:
        """A step with that rise kept its accuracy after training: twice as much may do as well."""
        if rise is not None:
            self._value = max(self._value, 2 * rise)

    def broken(self, rise: float | None) -> None:
        """A step with that rise lost too much accuracy: half of it is believed."""
        if rise is not None and rise > 0:
            self._value = min(self._value, rise) / 2

    def lift(self, rises: Iterable[float | None]) -> None:
        """Let the least of `rises` through: nothing smaller is left to try."""
        self._value = max(self._value, min((rise for rise in rises if rise is not None), default=0.0))
