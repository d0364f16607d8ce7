"""Uniform pruning: the same share of every group. The baseline of every search."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from tvm_prune.compress.step import PruneStep
from tvm_prune.errors import ConfigError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.groups import Group, Ignored, find_groups

__all__ = ["kept_width", "uniform_steps"]


def uniform_steps(
    model: CompressedModel,
    ratio: float,
    *,
    round_to: int,
    scores: Callable[[Group], np.ndarray],
    ignored_layers: Sequence[Ignored] = (),
) -> tuple[PruneStep, ...]:
    """Return one step for each prunable group: of its units, the `kept_width` with the highest `scores` stay.

    `ratio` in (0, 1] is the share kept, `scores` gives one score a unit [width]. Equal scores keep the lower unit.
    Groups that stay whole have no step. Raises ConfigError for a ratio or rounding out of range.
    """
    steps = []
    for group in find_groups(model.module, model.example_inputs, ignored_layers=ignored_layers):
        count = kept_width(group.width, ratio, round_to=round_to)
        if group.prunable and count < group.width:
            best = np.argsort(-scores(group), kind="stable")[:count]
            steps.append(PruneStep(group=group.name, width=group.width, keep=tuple(sorted(best.tolist()))))
    return tuple(steps)


def kept_width(width: int, ratio: float, *, round_to: int) -> int:
    """Return ``width * ratio`` rounded to the nearest unit, then up to a multiple of `round_to`; 1 to `width`."""
    if not 0 < ratio <= 1:
        raise ConfigError(f"ratio must be above 0 and at most 1, not {ratio}; 0.5 keeps half of each group.")
    if round_to < 1:
        raise ConfigError(f"round_to must be at least 1, not {round_to}; 1 keeps any count, 8 multiples of 8.")
    nearest = max(1, math.floor(width * ratio + 0.5))
    return min(width, math.ceil(nearest / round_to) * round_to)
