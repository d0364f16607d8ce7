"""Kernels that differ in their channel counts alone: what is fast for one is worth a trial for the others.

A count that happened to be tried with other programs than its neighbours would look dear or cheap for no reason of its
own, and a search would prune after it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tvm_prune.oracle.program import Program
from tvm_prune.oracle.records import Records
from tvm_prune.oracle.spaces.anatomy import Anatomy
from tvm_prune.oracle.tasks import Kernel, anatomy_of

__all__ = ["Relatives"]

# Counts further apart than by this factor, those read and those stored together, say little about each other.
_NEAR = 1.5
# Where the loops over the channels stored and those read stand in the nest of an anchor, by kind.
_CHANNEL_LOOPS = {"conv2d": (3, -1), "depthwise": (3,), "winograd": (-2, -1), "dense": (-2, -1)}


class Relatives:
    """The kernels that were seen, by what they have in common but for their channels.

    `points` returns the programs of a kernel's space.
    """

    def __init__(self, records: Records, points: Callable[[Kernel], Sequence[Program]]) -> None:
        self._records = records
        self._points = points
        self._families: dict[Any, dict[str, tuple[int, ...]]] = {}
        self._family: dict[str, Any] = {}

    def add(self, kernels: Sequence[Kernel]) -> None:
        """Put kernels with the others of their families; those that have no channels have none."""
        for kernel in kernels:
            if kernel.key not in self._family and (anatomy := anatomy_of(kernel)).kind in _CHANNEL_LOOPS:
                family, counts = _without_channels(anatomy)
                self._family[kernel.key] = family
                self._families.setdefault(family, {})[kernel.key] = counts

    def favourites(self, kernel: Kernel) -> list[str]:
        """Return the programs of a kernel that are the fastest ones of its relatives, those of the nearest first."""
        family = self._families.get(self._family.get(kernel.key), {})
        apart = {key: _factor(family[kernel.key], counts) for key, counts in family.items() if key != kernel.key}
        near = sorted((key for key in apart if apart[key] <= _NEAR), key=lambda key: apart[key])
        records = [self._records.best(key) for key in near]
        layouts = dict.fromkeys(_layout(record.program) for record in records if record is not None)
        own = {_layout(program): program.name for program in self._points(kernel)} if layouts else {}
        return [own[layout] for layout in layouts if layout in own]


def _without_channels(anatomy: Anatomy) -> tuple[Any, tuple[int, ...]]:
    loops = _CHANNEL_LOOPS[anatomy.kind]
    extents = list(anatomy.extents)
    counts = tuple(extents[loop] for loop in loops)
    for loop in loops:
        extents[loop] = 0
    alike = replace(anatomy, extents=tuple(extents), channels=0, computed_channels=0, before=(), after=())
    return alike, (anatomy.channels, *counts[1:])


def _factor(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    return math.prod(max(a, b) / min(a, b) for a, b in zip(one, other, strict=True))


def _layout(program: Program) -> Any:
    """Return what a program of one count has in common with its like of another: all but how often a tile repeats."""
    axes = tuple(
        (role, axis.factors[1:] if role == "out_c" else axis.factors)
        for role, axis in sorted(program.axes.items())
        if role != "in_c"
    )
    return program.space, program.space_version, program.variant, axes
