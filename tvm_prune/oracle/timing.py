"""From blocks of timings to figures: median, spread, and paired ratios on a machine that changes speed by itself."""

import statistics
from collections.abc import Mapping, Sequence

from tvm_prune.oracle.cost import Ratio

__all__ = ["keep", "median_and_spread", "paired_ratio", "percentile", "steady_rounds"]

# Rounds in which the canary is slower than this, relative to its best quarter, tell about the machine, not the model.
_DRIFT = 1.05


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below which `percent` of `values` lie, interpolated linearly."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def median_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the median and the distance between the 10th and the 90th percentile."""
    return statistics.median(values), percentile(values, 90) - percentile(values, 10)


def steady_rounds(canary: Sequence[float]) -> list[int]:
    """Return the rounds in which the canary, a fixed program, ran at the machine's usual speed; at least half."""
    usual = percentile(canary, 25)
    good = [number for number, value in enumerate(canary) if value <= usual * _DRIFT]
    if len(good) * 2 >= len(canary):
        return good
    return sorted(sorted(range(len(canary)), key=lambda number: canary[number])[: (len(canary) + 1) // 2])


def paired_ratio(incumbent: Sequence[float], candidate: Sequence[float]) -> Ratio:
    """Return candidate over incumbent from blocks that ran side by side."""
    ratios = [mine / theirs for theirs, mine in zip(incumbent, candidate, strict=True)]
    return Ratio(
        median=statistics.median(ratios),
        low=percentile(ratios, 10),
        high=percentile(ratios, 90),
        incumbent_s=statistics.median(incumbent),
        candidate_s=statistics.median(candidate),
        blocks=len(ratios),
    )


def keep(times: Mapping[str, Sequence[float]], rounds: Sequence[int]) -> dict[str, list[float]]:
    """Return only the given rounds of every series."""
    return {name: [values[number] for number in rounds] for name, values in times.items()}
