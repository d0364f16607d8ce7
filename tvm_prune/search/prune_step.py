"""How many channels go at once so that the fastest program keeps its structure (CPrune, section "pruning step").

The rule here differs from the paper's product / max, which for a program whose inner tile is the largest factor goes
from 32 channels to 30 and breaks the vector. Here the outermost channel loop gets shorter and all inside it stays.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tvm_prune.oracle.program import Axis, Program

__all__ = ["Stride", "combine", "fallback_step", "keep_counts", "output_step", "reduction_step"]


@dataclass(frozen=True, kw_only=True)
class Stride:
    """Units of a group removed at a time, and in words why not more or less."""

    units: int
    note: str = ""


def _inside_outermost(axis: Axis) -> int:
    """Return the product of the factors inside the outermost loop that really loops, 1 when there is none inside."""
    real = [factor for factor in axis.factors if factor > 1]
    return math.prod(real[1:])


def _in_units(channels: int, per_unit: int) -> int:
    """Return the fewest units that hold a multiple of `channels` channels."""
    return channels // math.gcd(channels, per_unit)


def output_step(program: Program, *, per_unit: int = 1) -> int:
    """Return the units by which a layer's output can shrink without a change inside its outermost channel loop.

    Without such an inner tile it is the vector: a group of lanes, narrowed to a smaller power of two where the whole
    width is one vector, so that what remains still fills whole vectors. `per_unit` is the layer's channels in one unit.
    """
    axis = program.axes.get("out_c")
    if axis is None:
        return 1
    step = _inside_outermost(axis)
    if step == 1 or step > axis.extent // 2:
        step = program.lanes
    while step > 1 and step > axis.extent // 2:
        step //= 2
    return _in_units(max(1, step), per_unit)


def reduction_step(program: Program, *, per_unit: int = 1) -> int:
    """Return the units by which a layer's input can shrink without a change inside its outermost reduction loop.

    `per_unit` is how many input elements one unit feeds (more than 1 behind a flatten). A reduction loop that is not
    tiled can shrink by any number, hence 1.
    """
    axis = program.axes.get("in_c")
    return 1 if axis is None else _in_units(_inside_outermost(axis), per_unit)


def fallback_step(width: int) -> int:
    """Return the step of a group no program tells about: an eighth of `width`, down to a power of two, at least 1."""
    return 1 << max(0, (width // 8).bit_length() - 1)


def combine(steps: Sequence[int], *, width: int) -> Stride:
    """Return one step for a group of `width` units whose programs ask for `steps`.

    It is their least common multiple; where that is more than half the width, the largest single step that is not: then
    only the program that asked for it keeps its structure, and the note says so.
    """
    if not steps:
        step = fallback_step(width)
        return Stride(units=step, note=f"no program known: step {step} from the width {width}")
    wanted = math.lcm(*steps)
    if wanted <= width // 2:
        return Stride(units=wanted)
    step = max((single for single in steps if single <= width // 2), default=1)
    return Stride(units=step, note=f"common multiple {wanted} is over half of {width}: step {step}")


def keep_counts(
    *, width: int, least: int, stride: int, limit: int, below: int | None = None, pace: int = 1
) -> tuple[int, ...]:
    """Return up to `limit` counts to try, largest first: multiples of `stride` from under `width` down to `least`.

    Of many, those 1, 2, 4, 8 ... times `pace` steps away, the last one where they end before. Of few, the stride is
    halved, at most twice and to even counts, and the counts in between are added: programs with narrower vectors exist
    for them, and the oracle prices which are worth it. With `below` (what has proved too small a step) only whole
    strides under it are left.
    """
    step = stride
    top = width if below is None else min(width, below)
    while True:
        counts = [count for count in range((top - 1) // step * step, 0, -step) if count >= least]
        if below is not None or len(counts) >= limit or step < 4 or step <= stride // 4:
            break
        step //= 2
    if counts and (len(counts) > limit or pace > 1):
        places = dict.fromkeys(min((pace << power) - 1, len(counts) - 1) for power in range(limit))
        counts = [counts[place] for place in places]
    return tuple(counts)
