"""What is known about the neighbours of one incumbent: prices, refusals, and which bundle follows from them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tvm_prune.compress.step import PruneStep
from tvm_prune.search.bundle import Bundle, Refused, choose
from tvm_prune.search.ceiling import Ceiling
from tvm_prune.search.options import Option, Price, best_first

__all__ = ["Findings"]

Steps = tuple[PruneStep, ...]


@dataclass
class Findings:
    """Forgotten as a whole when another model becomes the incumbent.

    `window` is how many of the most costly tasks are looked at, `prices` what was priced (() = the incumbent itself,
    None = cannot be built), `below` the counts that have proved too small a step, `refused` the bundles refused.
    """

    latency_s: float
    window: int
    prices: dict[Steps, Price | None] = field(default_factory=dict)
    below: dict[str, int] = field(default_factory=dict)
    refused: Refused = field(default_factory=Refused)

    @property
    def own(self) -> Price:
        """The incumbent's own predicted price, its measured latency until that is known."""
        return self.prices.get(()) or Price(latency_s=self.latency_s)

    def unpriced(self, options: Sequence[Option]) -> list[Steps]:
        """Return what to ask prices for before `options` can be ranked, the incumbent itself first."""
        wanted = [option.steps for option in options if option.steps not in self.prices]
        return [(), *wanted] if wanted and () not in self.prices else wanted

    def rise(self, steps: Steps) -> float | None:
        """Return by how much `steps` raise the probed loss, None if that is not known."""
        price = self.prices.get(steps)
        if price is None or price.probe_loss is None or self.own.probe_loss is None:
            return None
        return price.probe_loss - self.own.probe_loss

    def pick(self, options: Sequence[Option], *, ceiling: Ceiling, bite: float, beta: float) -> Bundle | None:
        """Return the bundle to go on with, None if the options hold none that is allowed.

        A bundle of several options whose own price is known must still clear `beta` and `ceiling`: harms do not simply
        add up. One that is not priced yet is returned for that.
        """
        own = self.own.latency_s
        ranked = best_first(options, self.prices, incumbent=self.own)
        if ranked and not any(ceiling.allows(self.rise(option.steps)) for option, _ in ranked):
            ceiling.lift(self.rise(option.steps) for option, _ in ranked)
        ranked = [(option, saved) for option, saved in ranked if ceiling.allows(self.rise(option.steps))]
        least_s = (1.0 - beta) * own
        while bundle := choose(ranked, target_s=bite * own, least_s=least_s, refused=self.refused):
            if len(bundle.options) == 1 or bundle.steps not in self.prices:
                return bundle
            price = self.prices[bundle.steps]
            if price is None:
                self.refused.failed.append(bundle)
            elif own - price.latency_s < least_s:
                self.refused.slow.append(bundle)
            elif not ceiling.allows(self.rise(bundle.steps)):
                self.refused.harmful.append(bundle)
            else:
                return bundle
        return None
