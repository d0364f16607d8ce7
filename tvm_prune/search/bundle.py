"""Which options are tried together: as many of the best as promise the bite, and nothing like what was refused."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tvm_prune.compress.step import PruneStep
from tvm_prune.search.options import Option
from tvm_prune.search.ranking import Gain

__all__ = ["Bundle", "Refused", "choose"]

Steps = tuple[PruneStep, ...]


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Options of different groups tried as one candidate, with the seconds they promise to save."""

    options: tuple[Option, ...]
    saved_s: float

    @property
    def steps(self) -> Steps:
        """All steps, in order of the options."""
        return tuple(step for option in self.options for step in option.steps)

    @property
    def kept(self) -> dict[str, int]:
        """Channels left of each group that shrinks."""
        return {step.group: len(step.keep) for step in self.steps}

    def covers(self, other: "Bundle") -> bool:
        """Whether this one thins every group of `other` at least as much."""
        kept = self.kept
        return all(group in kept and kept[group] <= count for group, count in other.kept.items())


@dataclass
class Refused:
    """Bundles of several options that are closed for this incumbent, by why.

    `harmful` ones were not tried: their probed distance is over what training has undone so far.
    """

    slow: list[Bundle] = field(default_factory=list)
    inaccurate: list[Bundle] = field(default_factory=list)
    failed: list[Bundle] = field(default_factory=list)
    harmful: list[Bundle] = field(default_factory=list)

    def allows(self, bundle: Bundle) -> bool:
        """Whether `bundle` is within no slow one, covers no inaccurate or harmful one and is no failed one."""
        return not (
            any(refused.covers(bundle) for refused in self.slow)
            or any(bundle.covers(refused) for refused in [*self.inaccurate, *self.harmful])
            or any(bundle.kept == refused.kept for refused in self.failed)
        )


def choose(
    ranked: Sequence[Gain],
    *,
    target_s: float,
    least_s: float,
    refused: Refused,
    harmless: Callable[[Sequence[Option]], bool] = lambda _: True,
) -> Bundle | None:
    """Return the smallest allowed lead of `ranked` that promises `target_s`, else the largest allowed one.

    `ranked` is best first; a bundle must promise at least `least_s` (the latency gate), and beyond that it grows only
    while its options are `harmless` together. None if no lead is allowed.
    """
    found: Bundle | None = None
    deepest: dict[frozenset[str], Option] = {}
    saved_s = 0.0
    for gain in ranked:
        deepest[gain.option.groups] = gain.option
        saved_s += gain.saved_s
        bundle = Bundle(options=tuple(deepest.values()), saved_s=saved_s)
        if found is not None and not harmless(bundle.options):
            break
        if bundle.saved_s >= least_s and refused.allows(bundle):
            found = bundle
            if bundle.saved_s >= target_s:
                break
    return found
