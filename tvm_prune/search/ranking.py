"""Which options first: the most seconds saved per harm, and of each group as deep a cut as still pays.

A step picks one count of each group so that enough is saved for the least harm: a multiple-choice knapsack. It is
filled greedily (Sinha and Zoltners, 1979): of each group only the counts on the upper hull of seconds over harm matter,
and going from one of them to the next deeper one is an item like any other.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tvm_prune.compress.step import PruneStep
from tvm_prune.search.options import Option

__all__ = ["Gain", "Price", "best_first", "worth"]

_NO_HARM = 1e-12


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a priced trial said: predicted latency, and its distance from the incumbent if it was probed."""

    latency_s: float
    distance: float | None = None


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Taking `option`, in place of the less deep one of the same groups where there is one: seconds saved by that."""

    option: Option
    saved_s: float


def best_first(
    options: Iterable[Option], prices: Mapping[tuple[PruneStep, ...], Price | None], *, incumbent: Price
) -> list[Gain]:
    """Return what is worth doing, most seconds saved per harm first; of the same groups less deep cuts come first.

    `prices` holds what the options cost (None = cannot be built). A count that costs no less than a larger count of the
    same groups, or than the incumbent, is left out. Of options that share some but not all groups, only those of the
    best are taken.
    """
    chains: dict[frozenset[str], list[tuple[Option, Price]]] = {}
    for option in sorted(options, key=lambda option: -sum(len(step.keep) for step in option.steps)):
        price, chain = prices.get(option.steps), chains.setdefault(option.groups, [])
        if price is not None and price.latency_s < (chain[-1][1] if chain else incumbent).latency_s:
            chain.append((option, price))
    ranked = sorted(
        (-each, chain[0][0].text, depth, gain)
        for chain in chains.values()
        for depth, (each, gain) in enumerate(_hull(chain, incumbent))
    )
    chosen: list[Gain] = []
    owner: dict[str, frozenset[str]] = {}
    for _, _, _, gain in ranked:
        groups = gain.option.groups
        if all(owner.get(group, groups) == groups for group in groups):
            owner.update(dict.fromkeys(groups, groups))
            chosen.append(gain)
    return chosen


def worth(option: Option, price: Price, *, incumbent: Price) -> float:
    """Return the seconds that `option` saves per harm."""
    return (incumbent.latency_s - price.latency_s) / max(_harm(option, price), _NO_HARM)


def _hull(chain: Sequence[tuple[Option, Price]], incumbent: Price) -> list[tuple[float, Gain]]:
    """Return the steps along the upper hull of seconds over harm of one set of groups, with what each is worth.

    `chain` holds the counts by falling latency; the hull begins at the incumbent.
    """
    found: list[tuple[float, Gain]] = []
    left, latency_s, harm = list(chain), incumbent.latency_s, 0.0
    while left:
        slopes = [(latency_s - price.latency_s) / max(_harm(option, price) - harm, _NO_HARM) for option, price in left]
        best = slopes.index(max(slopes))
        option, price = left[best]
        found.append((slopes[best], Gain(option=option, saved_s=latency_s - price.latency_s)))
        latency_s, harm = price.latency_s, _harm(option, price)
        left = left[best + 1 :]
    return found


def _harm(option: Option, price: Price) -> float:
    """Return the probed distance, or the importance lost where nothing was probed."""
    return option.loss if price.distance is None else price.distance
