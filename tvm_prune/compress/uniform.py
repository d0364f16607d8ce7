"""How many units uniform pruning keeps of a group."""

import math

from tvm_prune.errors import ConfigError

__all__ = ["kept_width"]


def kept_width(width: int, ratio: float, *, round_to: int) -> int:
    """Return ``width * ratio`` rounded to the nearest unit, then up to a multiple of `round_to`; 1 to `width`."""
    if not 0 < ratio <= 1:
        raise ConfigError(f"ratio must be above 0 and at most 1, not {ratio}; 0.5 keeps half of each group.")
    if round_to < 1:
        raise ConfigError(f"round_to must be at least 1, not {round_to}; 1 keeps any count, 8 multiples of 8.")
    nearest = max(1, math.floor(width * ratio + 0.5))
    return min(width, math.ceil(nearest / round_to) * round_to)
