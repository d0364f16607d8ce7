"""The lower envelope of a baseline's points: the least latency it offers at an accuracy or at a number of MACs."""

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Envelope", "Point"]


@dataclass(frozen=True)
class Point:
    """`worth` is what more latency buys (accuracy as a fraction, or MACs); `latency_s` what it costs."""

    worth: float
    latency_s: float


@dataclass(frozen=True)
class Envelope:
    """Points in rising order of worth and of latency; any other point is no better than one of these in both."""

    points: tuple[Point, ...]

    @classmethod
    def of(cls, points: Iterable[Point]) -> "Envelope":
        """Return the envelope of `points`: those that no other one dominates."""
        best: list[Point] = []
        for point in sorted(points, key=lambda point: (-point.worth, point.latency_s)):
            if not best or point.latency_s < best[-1].latency_s:
                best.append(point)
        return cls(tuple(reversed(best)))

    def latency_at(self, worth: float) -> float | None:
        """Return the latency in seconds at `worth`, linear between neighbours; None outside the range of the points.

        Nothing is extrapolated: beyond the last point the baseline has shown nothing. Below the first one it has a
        point that is better and at least as fast, but none of equal worth, so that is not answered either.
        """
        for point in self.points:
            if point.worth == worth:
                return point.latency_s
        for low, high in zip(self.points, self.points[1:], strict=False):
            if low.worth < worth < high.worth:
                part = (worth - low.worth) / (high.worth - low.worth)
                return low.latency_s + part * (high.latency_s - low.latency_s)
        return None
