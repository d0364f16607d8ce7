"""How far a step may take the answers from the incumbent's: as far as the accuracy to spare reaches."""

import math
from collections.abc import Iterable

__all__ = ["Ceiling"]

# Part of the accuracy to spare that a step may be expected to lose: the expectation is a mean.
_TRUST = 0.8


class Ceiling:
    """A trust region in probed distance, from what steps so far have lost for theirs; open until one has lost anything.

    `spare` is the accuracy, a fraction, that the next step may lose.
    """

    def __init__(self) -> None:
        self.spare = math.inf
        self._distance = 0.0
        self._lost = 0.0
        self._rate = 0.0
        self._lifted = 0.0

    def allows(self, distance: float | None) -> bool:
        """Whether a step of that probed distance may be tried; always if nothing was probed."""
        if distance is None or self._rate <= 0.0:
            return True
        return distance <= max(self._lifted, _TRUST * self.spare / self._rate)

    def told(self, distance: float | None, *, lost: float) -> None:
        """Learn that a step with that distance lost so much accuracy, after what training there is."""
        if distance is None or distance <= 0.0:
            return
        self._lifted = 0.0
        self._distance += distance
        self._lost += max(0.0, lost)
        self._rate = self._lost / self._distance
        if lost > self.spare:
            # Refused: the next one must be smaller, whatever earlier ones could do.
            self._rate = max(self._rate, lost / distance)

    def lift(self, distances: Iterable[float | None]) -> None:
        """Let the least of `distances` through: nothing smaller is left to try."""
        least = min((distance for distance in distances if distance is not None), default=0.0)
        self._lifted = max(self._lifted, least)
