"""What is known about the neighbours of one incumbent: prices, refusals, and which bundle follows from them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tvm_prune.compress.step import PruneStep
from tvm_prune.search.bundle import Bundle, Refused, choose
from tvm_prune.search.ceiling import Ceiling
from tvm_prune.search.options import Counts, Option
from tvm_prune.search.ranking import Price, best_first, worth

__all__ = ["Findings"]

Steps = tuple[PruneStep, ...]


@dataclass
class Findings:
    """Forgotten as a whole when another model becomes the incumbent, but for the hopes that it leaves.

    `window` is how many of the most costly tasks are looked at, `prices` what was priced (() = the incumbent itself,
    None = cannot be built), `below` the counts that have proved too small a step, `refused` the bundles refused.
    `hopes` says what options were worth to earlier incumbents: they are priced anew in that order and only as far as
    needed, since one step changes the worth of most others little (the lazy greedy of Minoux, 1978).
    """

    latency_s: float
    window: int
    hopes: Mapping[Counts, float] = field(default_factory=dict)
    prices: dict[Steps, Price | None] = field(default_factory=dict)
    below: dict[str, int] = field(default_factory=dict)
    refused: Refused = field(default_factory=Refused)
    _options: dict[Steps, Option] = field(default_factory=dict)

    @property
    def own(self) -> Price:
        """The incumbent's own predicted price, its measured latency until that is known."""
        return self.prices.get(()) or Price(latency_s=self.latency_s)

    def unpriced(self, options: Sequence[Option]) -> list[Steps]:
        """Return what must be priced before `options` can be ranked: what no earlier incumbent had priced."""
        self._options.update({option.steps: option for option in options})
        return self._after_own([option for option in self._left(options) if option.counts not in self.hopes])

    def hopeful(self, options: Sequence[Option], *, count: int, better_than: float = -math.inf) -> list[Steps]:
        """Return the next `count` of the options that earlier incumbents had priced and this one has not.

        Those alone that were worth more than `better_than`.
        """
        left = [option for option in self._left(options) if self.hopes[option.counts] > better_than]
        return self._after_own(sorted(left, key=lambda option: -self.hopes[option.counts])[:count])

    def least_worth(self, bundle: Bundle) -> float:
        """Return what the option of `bundle` is worth that is worth least: no hope above it may be left unpriced."""
        prices = [(option, self.prices[option.steps]) for option in bundle.options]
        return min(worth(option, price, incumbent=self.own) for option, price in prices if price is not None)

    def leave_hopes(self) -> dict[Counts, float]:
        """Return what each option priced so far was worth, most recently."""
        found = dict(self.hopes)
        for steps, option in self._options.items():
            price = self.prices.get(steps)
            if price is not None:
                found[option.counts] = worth(option, price, incumbent=self.own)
        return found

    def _left(self, options: Sequence[Option]) -> list[Option]:
        return [option for option in options if option.steps not in self.prices]

    def _after_own(self, options: Sequence[Option]) -> list[Steps]:
        """Return the steps of `options`, those of the incumbent itself first if it is not priced yet."""
        wanted = [option.steps for option in options]
        return [(), *wanted] if wanted and () not in self.prices else wanted

    def distance(self, steps: Steps) -> float | None:
        """Return how far `steps` take the answers from the incumbent's before training, None if that is not known."""
        price = self.prices.get(steps)
        return None if price is None else price.distance

    def held_back(self, options: Sequence[Option], *, ceiling: Ceiling) -> list[float | None]:
        """Return the distances of those of `options` that save time but are over the ceiling."""
        over = [option for option in options if not ceiling.allows(self.distance(option.steps))]
        return [self.distance(gain.option.steps) for gain in best_first(over, self.prices, incumbent=self.own)]

    def pick(self, options: Sequence[Option], *, ceiling: Ceiling, bite: float, beta: float) -> Bundle | None:
        """Return the bundle to go on with, None if the options hold none that is allowed.

        Beyond `beta` options go in as long as the sum of their distances is under `ceiling`. A bundle whose own price
        is known must still clear both: harms do not simply add up. One that is not priced yet is returned for that.
        """

        def harmless(together: Sequence[Option]) -> bool:
            return ceiling.allows(sum(self.distance(option.steps) or 0.0 for option in together))

        own = self.own.latency_s
        allowed = [option for option in options if ceiling.allows(self.distance(option.steps))]
        ranked = best_first(allowed, self.prices, incumbent=self.own)
        least_s = (1.0 - beta) * own
        while bundle := choose(ranked, target_s=bite * own, least_s=least_s, refused=self.refused, harmless=harmless):
            if len(bundle.options) == 1 or bundle.steps not in self.prices:
                return bundle
            price = self.prices[bundle.steps]
            if price is None:
                self.refused.failed.append(bundle)
            elif own - price.latency_s < least_s:
                self.refused.slow.append(bundle)
            elif not ceiling.allows(self.distance(bundle.steps)):
                self.refused.harmful.append(bundle)
            else:
                return bundle
        return None
