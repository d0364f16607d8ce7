"""Which format each layer gets: exactly, by integer programming over the table of prices, or greedily.

The harm of a format is its KL divergence (search/sensitivity.py), taken to add up over layers; whoever chooses checks
the chosen network as a whole. The price is that of search/format_prices.py. In the integer program a layer has one
binary for each of its formats, and two neighbours one more that is 1 if both are in float32.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from tvm_prune.errors import GoalError
from tvm_prune.search.format_prices import FormatPrices, Neighbours

__all__ = ["Choice", "FormatOption", "Limits", "choose", "choose_greedily"]


@dataclass(frozen=True, kw_only=True)
class FormatOption:
    """One format that a layer may have: whether it computes with integers, its harm in nats, the bytes it takes."""

    format: str
    in_integers: bool
    harm: float
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the network may take at most: seconds, bytes of weights, nats of harm; infinite where nobody asks."""

    latency_s: float = math.inf
    bytes: float = math.inf
    harm: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The chosen format of each layer, and what the table says of the whole."""

    formats: dict[str, str]
    latency_s: float
    bytes: int
    harm: float


def choose(options: Mapping[str, Sequence[FormatOption]], table: FormatPrices, limits: Limits) -> Choice:
    """Return the choice within `limits` of the least harm, or of the least latency if only harm is limited.

    Every layer needs an option. Raises GoalError, naming what can be reached, if nothing is within the limits.
    """
    columns = [(layer, option) for layer, found in options.items() for option in found]
    pairs = [pair for pair in table.neighbours if pair.first in options and pair.second in options]
    floats = np.array([not option.in_integers for _, option in columns], float)
    added = floats * [table.added_s.get(layer, 0.0) for layer, _ in columns]
    # Microseconds, so that all numbers of the program have about one size.
    latency = 1e6 * np.concatenate([added, [-pair.saved_s for pair in pairs]])
    padding = np.zeros(len(pairs))
    harm = np.concatenate([[option.harm for _, option in columns], padding])
    size = np.concatenate([[option.bytes for _, option in columns], padding])
    constraints = [_one_each(options, columns, len(pairs)), *_both(pairs, columns, floats)]
    room = [
        (latency, 1e6 * (limits.latency_s - table.integers_s)),
        (size, limits.bytes),
        (harm, limits.harm),
    ]
    constraints += [LinearConstraint(row[None], ub=most) for row, most in room if math.isfinite(most)]
    fastest = not (math.isfinite(limits.latency_s) or math.isfinite(limits.bytes))
    # What decides between equals: of the least harm the fastest, of the fastest the one of least harm.
    aim, other = (latency, harm) if fastest else (harm, latency)
    scale = max(float(np.abs(other).sum()), 1e-9)
    solved = milp(
        aim + 1e-6 * max(float(np.abs(aim).max()), 1e-9) * other / scale,
        integrality=np.ones(len(harm)),
        bounds=Bounds(0, 1),
        constraints=constraints,
    )
    if solved.x is None:
        raise GoalError(_out_of_reach(options, table, limits))
    taken = {layer: option for (layer, option), value in zip(columns, solved.x, strict=False) if value > 0.5}
    return _choice(taken, table)


def choose_greedily(options: Mapping[str, Sequence[FormatOption]], table: FormatPrices, limits: Limits) -> Choice:
    """Return a choice within `limits.latency_s`, from the least harmful one on by the least harm per saved second.

    Raises GoalError if that does not get there.
    """
    taken = {layer: min(found, key=lambda option: option.harm) for layer, found in options.items()}
    while (present := _choice(taken, table)).latency_s > limits.latency_s:
        moves = []
        for layer, found in options.items():
            for option in found:
                changed = _choice({**taken, layer: option}, table)
                saved = present.latency_s - changed.latency_s
                if saved > 0:
                    moves.append(((option.harm - taken[layer].harm) / saved, layer, option))
        if not moves:
            raise GoalError(_out_of_reach(options, table, limits))
        _, layer, option = min(moves, key=lambda move: move[:2])
        taken[layer] = option
    return present


def _choice(taken: Mapping[str, FormatOption], table: FormatPrices) -> Choice:
    floats = [layer for layer, option in taken.items() if not option.in_integers]
    return Choice(
        formats={layer: option.format for layer, option in taken.items()},
        latency_s=table.latency_s(floats),
        bytes=sum(option.bytes for option in taken.values()),
        harm=sum(option.harm for option in taken.values()),
    )


def _one_each(
    options: Mapping[str, Sequence[FormatOption]], columns: Sequence[tuple[str, FormatOption]], extra: int
) -> LinearConstraint:
    rows = [[float(own == layer) for own, _ in columns] + [0.0] * extra for layer in options]
    return LinearConstraint(np.array(rows), lb=1, ub=1)


def _both(
    pairs: Sequence[Neighbours], columns: Sequence[tuple[str, FormatOption]], floats: np.ndarray
) -> list[LinearConstraint]:
    """Tie the binary of each two neighbours to the product of theirs."""
    found = []
    for number, pair in enumerate(pairs):
        ends = [np.array([layer == end for layer, _ in columns]) * floats for end in (pair.first, pair.second)]
        own = np.zeros(len(pairs))
        own[number] = 1.0
        found += [LinearConstraint(np.concatenate([-end, own])[None], ub=0) for end in ends]
        found.append(LinearConstraint(np.concatenate([ends[0] + ends[1], -own])[None], ub=1))
    return found


def _out_of_reach(options: Mapping[str, Sequence[FormatOption]], table: FormatPrices, limits: Limits) -> str:
    fastest = choose(options, table, Limits())
    smallest = sum(min(option.bytes for option in found) for found in options.values())
    harm = sum(min(option.harm for option in found) for found in options.values())
    asked = [
        *([f"{limits.latency_s * 1e3:.4g} ms"] if math.isfinite(limits.latency_s) else []),
        *([f"{limits.bytes:.0f} bytes"] if math.isfinite(limits.bytes) else []),
        *([f"{limits.harm:.3g} nats"] if math.isfinite(limits.harm) else []),
    ]
    return (
        f"no choice of formats is within {' and '.join(asked)}: by the table the fastest takes "
        f"{fastest.latency_s * 1e3:.4g} ms, the smallest {smallest} bytes, the most exact {harm:.3g} nats. Ask for "
        "less, or prune first (tvm-prune cprune)"
    )
