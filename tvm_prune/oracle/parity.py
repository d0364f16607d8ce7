"""Does the compiled module compute what torch computes? Output by output, each on its own scale."""

from collections.abc import Sequence

import numpy as np

from tvm_prune.errors import ParityError

__all__ = ["worst_difference"]

# An output of the compiled module may differ from torch's by this much, relative to its largest value.
_TOLERANCE = 1e-3
# Sums of floats in another order round a few stored values of an integer network to the integer beside.
_INTEGER_TOLERANCE = 5e-2


def worst_difference(found: Sequence[np.ndarray], expected: Sequence[np.ndarray], *, integer: bool = False) -> float:
    """Return the largest absolute difference over all outputs, compiled and torch's in the same order.

    Raises ParityError naming the first output that differs by more than 0.1 % of its largest value, or 5 % where some
    layers compute with integers.
    """
    tolerance = _INTEGER_TOLERANCE if integer else _TOLERANCE
    differences = []
    for number, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        # numpy's maximum, unlike Python's, keeps what is not a number: that is no parity either.
        worst, scale = float(np.abs(mine - theirs).max()), max(1e-6, float(np.abs(theirs).max()))
        if not worst <= tolerance * scale:
            raise ParityError(
                f"output {number} of the compiled module differs from torch by {worst:.3g} where it reaches "
                f"{scale:.3g}; delete this run's tuning records and try again, and report the model if it stays"
            )
        differences.append(worst)
    return max(differences)
