"""How many channels go at once so that the fastest program keeps its structure (CPrune, section "pruning step").

The rule here differs from the paper's product / max, which for a program whose inner tile is the largest factor goes from
32 channels to 30 and breaks the vector. Here the outermost channel loop gets shorter and everything inside it stays.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tvm_prune.oracle.program import Axis, Program

__all__ = ["Stride", "combine", "fallback_step", "keep_counts", "output_step", "reduction_step"]


@dataclass(frozen=True, kw_only=True)
class Stride:
    """Channels removed at a time, and in words why not more or less."""

    channels: int
    note: str = ""


def _inside_outermost(axis: Axis) -> int:
    """Return the product of the factors inside the outermost loop that really loops, 1 when there is none inside."""
    real = [factor for factor in axis.factors if factor > 1]
    return math.prod(real[1:])


def output_step(program: Program) -> int:
    """Return the channels by which a layer's output can shrink without a change inside its outermost channel loop.

    Without such an inner tile it is the vector: a group of lanes, narrowed to a smaller power of two where the whole
    width is one vector, so that what remains still fills whole vectors.
    """
    axis = program.axes.get("out_c")
    if axis is None:
        return 1
    step = _inside_outermost(axis)
    if step == 1 or step > axis.extent // 2:
        step = program.lanes
    while step > 1 and step > axis.extent // 2:
        step //= 2
    return max(1, step)


def reduction_step(program: Program, *, per_channel: int = 1) -> int:
    """Return the channels by which a layer's input can shrink without a change inside its outermost reduction loop.

    `per_channel` is how many input elements one channel feeds (more than 1 behind a flatten). A reduction loop that is
    not tiled can shrink by any number, hence 1.
    """
    axis = program.axes.get("in_c")
    if axis is None:
        return 1
    inside = _inside_outermost(axis)
    return inside // math.gcd(inside, per_channel)


def fallback_step(width: int) -> int:
    """Return the step of a group no program tells about: an eighth of `width`, down to a power of two, at least 1."""
    return 1 << max(0, (width // 8).bit_length() - 1)


def combine(steps: Sequence[int], *, width: int, unit: int = 1) -> Stride:
    """Return one step for a group of `width` channels whose programs ask for `steps`; always a multiple of `unit`.

    It is their least common multiple; where that is more than half the width, the largest single step that is not, so
    that at least two steps fit.
    """
    if not steps:
        step = fallback_step(width)
        return Stride(channels=math.lcm(step, unit), note=f"no program: step {math.lcm(step, unit)} from the width {width}")
    wanted = math.lcm(*steps, unit)
    if wanted <= width // 2:
        return Stride(channels=wanted)
    fitting = [step for step in (math.lcm(single, unit) for single in steps) if step <= width // 2]
    step = max(fitting, default=unit)
    return Stride(channels=step, note=f"common multiple {wanted} of {width} channels is too coarse: step {step}")


def keep_counts(*, width: int, least: int, stride: int, unit: int, limit: int, below: int | None = None) -> tuple[int, ...]:
    """Return up to `limit` counts to try, largest first: multiples of `stride` from under `width` down to `least`.

    Of many, those 1, 2, 4, 8 ... steps away. Of few, the stride is halved (down to `unit`, and to even counts) and the
    counts in between are added: programs with narrower vectors exist for them, and the oracle prices which are worth
    it. With `below` (what has proved too small a step) only whole strides under it are left.
    """
    step = stride
    top = width if below is None else min(width, below)
    while True:
        counts = [count for count in range((top - 1) // step * step, 0, -step) if count >= least]
        half = step // 2
        if below is not None or len(counts) >= limit or half < max(unit, 2) or half % unit:
            break
        step = half
    if len(counts) > limit:
        counts = [counts[index] for index in ((1 << power) - 1 for power in range(limit)) if index < len(counts)]
    return tuple(counts)
