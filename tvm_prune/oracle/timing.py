"""From blocks of timings to figures: median, spread, and paired ratios on a machine that changes speed by itself."""

import math
import statistics
from collections.abc import Mapping, Sequence

from tvm_prune.oracle.cost import Ratio

__all__ = [
    "best_rounds",
    "keep",
    "median_and_spread",
    "median_interval",
    "median_share",
    "paired_ratio",
    "percentile",
    "steady_rounds",
    "usual",
]

# Rounds in which the canary is slower than this, relative to its usual speed, tell about the machine, not the model.
_DRIFT = 1.05
# How often the interval of a median may miss it, to each side.
_MISSED = 0.025


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


def median_interval(values: Sequence[float], *, looks: int = 1) -> tuple[float, float]:
    """Return values that enclose the median of what `values` were drawn from, with a confidence of at least 95 %.

    Where the interval is looked at several times while values are added, that is the confidence of all `looks`
    together. Order statistics: how many of n draws fall below the true median is binomial with p = 1/2, whatever their
    distribution. Of fewer than six values the least and the greatest are returned; they say less.
    """
    ordered, outside, tail = sorted(values), 0, 0.0
    while True:
        tail += math.comb(len(ordered), outside) / 2 ** len(ordered)
        if tail > _MISSED / looks or 2 * outside >= len(ordered):
            break
        outside += 1
    place = max(0, outside - 1)
    return ordered[place], ordered[-1 - place]


def steady_rounds(canary: Sequence[float], usual_s: float) -> list[int]:
    """Return the rounds in which the canary, a fixed program, ran at the machine's usual speed, `usual_s` seconds."""
    return [number for number, value in enumerate(canary) if value <= usual_s * _DRIFT]


def best_rounds(canary: Sequence[float], count: int) -> list[int]:
    """Return the `count` rounds in which the canary was fastest, in their order."""
    return sorted(sorted(range(len(canary)), key=lambda number: canary[number])[:count])


def usual(readings: Sequence[float]) -> float:
    """Return the machine's usual speed from the quick quarter of each reading's canary.

    A machine may be slow for minutes, or quick for a moment: a fifth of the readings must have been as fast.
    """
    return percentile(readings, 20)


def median_share(part: Sequence[float], whole: Sequence[float]) -> float:
    """Return the median of part / whole, round by round: the machine may be faster in one round than in the next."""
    return statistics.median(mine / all_s for mine, all_s in zip(part, whole, strict=True))


def paired_ratio(incumbent: Sequence[float], candidate: Sequence[float], *, looks: int = 1) -> Ratio:
    """Return candidate over incumbent from blocks that ran side by side; `looks` as in `median_interval`."""
    ratios = [mine / theirs for theirs, mine in zip(incumbent, candidate, strict=True)]
    median_low, median_high = median_interval(ratios, looks=looks)
    return Ratio(
        median=statistics.median(ratios),
        low=percentile(ratios, 10),
        high=percentile(ratios, 90),
        median_low=median_low,
        median_high=median_high,
        incumbent_s=statistics.median(incumbent),
        candidate_s=statistics.median(candidate),
        blocks=len(ratios),
    )


def keep(times: Mapping[str, Sequence[float]], rounds: Sequence[int]) -> dict[str, list[float]]:
    """Return only the given rounds of every series."""
    return {name: [values[number] for number in rounds] for name, values in times.items()}
