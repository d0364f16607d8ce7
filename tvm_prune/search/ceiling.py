"""How far a step may take the answers from the incumbent's: what training has undone so far, learned from the gates."""

import math
from collections.abc import Iterable

__all__ = ["Ceiling"]


class Ceiling:
    """A trust region in probed distance: open at first, halved where accuracy was refused, widened where it held."""

    def __init__(self) -> None:
        self._value = math.inf

    def allows(self, distance: float | None) -> bool:
        """Whether a step of that probed distance may be tried; always if nothing was probed."""
        return distance is None or distance <= self._value

    def held(self, distance: float | None) -> None:
        """A step with that distance kept its accuracy after training: twice as much may do as well."""
        if distance is not None:
            self._value = max(self._value, 2 * distance)

    def broken(self, distance: float | None) -> None:
        """A step with that distance lost too much accuracy: half of it is believed."""
        if distance is not None and distance > 0:
            self._value = min(self._value, distance) / 2

    def lift(self, distances: Iterable[float | None]) -> None:
        """Let the least of `distances` through: nothing smaller is left to try."""
        self._value = max(self._value, min((distance for distance in distances if distance is not None), default=0.0))
