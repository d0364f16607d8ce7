"""Which options are tried together: as many of the best as promise the bite, and nothing like what was refused."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tvm_prune.compress.step import PruneStep
from tvm_prune.search.options import Option

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
    def key(self) -> frozenset[Steps]:
        """What makes two bundles the same."""
        return frozenset(option.steps for option in self.options)


@dataclass
class Refused:
    """Bundles of several options that are closed for this incumbent, by why.

    `harmful` ones were not tried: their probed loss is over what training has undone so far.
    """

    slow: list[Bundle] = field(default_factory=list)
    inaccurate: list[Bundle] = field(default_factory=list)
    failed: list[Bundle] = field(default_factory=list)
    harmful: list[Bundle] = field(default_factory=list)

    def allows(self, bundle: Bundle) -> bool:
        """Whether `bundle` is no part of a slow one, holds no inaccurate or harmful one, and is not a failed one."""
        return not (
            any(bundle.key <= refused.key for refused in self.slow)
            or any(bundle.key >= refused.key for refused in [*self.inaccurate, *self.harmful])
            or any(bundle.key == refused.key for refused in self.failed)
        )


def choose(
    ranked: Sequence[tuple[Option, float]], *, target_s: float, least_s: float, refused: Refused
) -> Bundle | None:
    """Return the smallest allowed lead of `ranked` that promises `target_s`, else the largest allowed one.

    `ranked` holds options with the seconds each saves, best first; a bundle must promise at least `least_s` (the
    latency gate). None if no lead is allowed.
    """
    found: Bundle | None = None
    for size in range(1, len(ranked) + 1):
        lead = ranked[:size]
        bundle = Bundle(options=tuple(option for option, _ in lead), saved_s=sum(saved for _, saved in lead))
        if bundle.saved_s >= least_s and refused.allows(bundle):
            found = bundle
            if bundle.saved_s >= target_s:
                break
    return found
