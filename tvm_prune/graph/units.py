"""Units: connected sets of channels, sorted into bundles that run through the same dimensions of the same layers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

__all__ = ["Bundle", "Kind", "Member", "Place", "Points", "Side", "bundles_of"]

Kind = Literal["conv", "depthwise", "linear", "norm", "param"]
Side = Literal["out", "in"]


@dataclass(frozen=True, kw_only=True)
class Member:
    """One dimension of one layer that shrinks with its group.

    `layer` is a dotted name (of the parameter itself for kind "param"). Unit u of the group owns the channels
    ``channels[u * channels_per_unit : (u + 1) * channels_per_unit]`` of that dimension. A layer that keeps its channels
    (depthwise, norm, param) has the side "out" only.
    """

    layer: str
    kind: Kind
    side: Side
    channels_per_unit: int
    channels: tuple[int, ...] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Units through the same dimensions, first producer first; `reason` says why they cannot go (empty = they can)."""

    width: int
    members: tuple[Member, ...]
    reason: str


@dataclass(frozen=True)
class Place:
    """One side of one node of the traced graph. `size` is unknown (None) for a bare operation."""

    order: int
    layer: str
    kind: Kind | None = None
    side: Side = "out"
    size: int | None = None
    reason: str = ""


@dataclass
class Points:
    """Channels seen at each place and the pairs that must go together.

    Where an operation rearranges channels, an edge leads to channels that a layer does not have. `crowded` maps that
    layer's place to the place, unprunable, where such channels go instead.
    """

    seen: dict[int, np.ndarray] = field(default_factory=dict)
    left: list[np.ndarray] = field(default_factory=list)
    right: list[np.ndarray] = field(default_factory=list)
    crowded: dict[int, int] = field(default_factory=dict)

    def new(self, place: int, channels: np.ndarray) -> np.ndarray:
        """Return those of `channels` not seen at `place` before, and remember them."""
        before = self.seen.get(place, np.empty(0, dtype=np.int64))
        fresh = np.setdiff1d(channels, before)
        self.seen[place] = np.union1d(before, fresh)
        return fresh

    def join(self, place: int, channels: np.ndarray, other: int, other_channels: np.ndarray) -> None:
        """Say that channel i of `channels` at `place` and of `other_channels` at `other` must go together."""
        self.left.append(_code(place, channels))
        self.right.append(_code(other, other_channels))


def _code(place: int, channels: np.ndarray) -> np.ndarray:
    return channels.astype(np.int64) + (place << 32)


def bundles_of(places: Sequence[Place], points: Points) -> tuple[Bundle, ...]:
    """Sort points into units, and units that run through the same dimensions into bundles, in forward order."""
    if not points.seen:
        return ()
    seen = [_code(place, channels) for place, channels in points.seen.items()]
    codes, pairs = np.unique(np.concatenate([*points.left, *points.right, *seen]), return_inverse=True)
    left, right = np.split(pairs[: 2 * sum(side.size for side in points.left)], 2)
    joined = coo_array((np.ones(left.size, dtype=np.int8), (left, right)), shape=(codes.size, codes.size))
    _, unit_of = connected_components(joined, directed=False)
    # Operations without a width of their own say nothing about where a unit belongs, unless they forbid it.
    telling = np.array([bool(place.kind or place.reason) for place in places])[codes >> 32]
    codes, unit_of = codes[telling], unit_of[telling]
    units: dict[int, dict[int, list[int]]] = {}
    for unit, place, channel in zip(
        unit_of.tolist(), (codes >> 32).tolist(), (codes & 0xFFFFFFFF).tolist(), strict=True
    ):
        units.setdefault(unit, {}).setdefault(place, []).append(channel)
    found: dict[tuple[tuple[int, int], ...], list[dict[int, list[int]]]] = {}
    for parts in units.values():
        found.setdefault(tuple((place, len(channels)) for place, channels in parts.items()), []).append(parts)
    bundles = [
        _bundle(places, alike, crowded=points.crowded)
        for signature, alike in found.items()
        if any(_produces(places[place]) for place, _ in signature)
    ]
    return tuple(bundle for _, bundle in sorted(bundles, key=lambda item: item[0]))


def _produces(place: Place) -> bool:
    return place.kind in ("conv", "linear", "depthwise") and place.side == "out"


def _bundle(
    places: Sequence[Place], units: list[dict[int, list[int]]], *, crowded: dict[int, int]
) -> tuple[tuple[int, int], Bundle]:
    """Return one bundle with its sort key: forward position of its first producer and that one's first channel.

    A depthwise convolution hands channels on; it counts as a producer only where there is no other.
    """
    ordered = sorted(units[0], key=lambda place: (places[place].order, places[place].side == "in", place))
    producers = [place for place in ordered if _produces(places[place])]
    first = min(producers, key=lambda place: places[place].kind == "depthwise")
    units = sorted(units, key=lambda unit: unit[first][0])
    why = [places[place].reason for place in [*ordered, *(crowded[place] for place in ordered if place in crowded)]]
    reasons = list(dict.fromkeys(reason for reason in why if reason))
    members = [
        Member(
            layer=places[place].layer,
            kind=kind,
            side=places[place].side,
            channels_per_unit=len(units[0][place]),
            channels=tuple(channel for unit in units for channel in unit[place]),
        )
        for place in [first, *(place for place in ordered if place != first)]
        if (kind := places[place].kind) is not None
    ]
    key = (places[first].order, units[0][first][0])
    return key, Bundle(width=len(units), members=tuple(members), reason="; ".join(reasons))
