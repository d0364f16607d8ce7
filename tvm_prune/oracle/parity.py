"""Does the compiled module compute what torch computes? Output by output, each on its own scale."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from tvm_prune.errors import ParityError
from tvm_prune.graph.running import evaluating, tensors_of

__all__ = ["torch_outputs", "worst_difference"]

# An output of the compiled module may differ from torch's by this much, relative to its largest value.
_TOLERANCE = 1e-3
# Of an integer network: the order in which floats are summed before they are stored rounds a few to the integer beside,
# and later layers make more of it. So much is allowed, or what rounding has changed in torch itself if that is more.
_INTEGER_TOLERANCE = 5e-2


def torch_outputs(module: nn.Module, inputs: Sequence[torch.Tensor]) -> list[np.ndarray]:
    """Return what `module` gives for `inputs` in eval mode."""
    with torch.no_grad(), evaluating(module):
        return [tensor.numpy() for tensor in tensors_of(module(*inputs))]


def worst_difference(
    found: Sequence[np.ndarray], expected: Sequence[np.ndarray], *, exact: Sequence[np.ndarray] | None = None
) -> float:
    """Return the largest absolute difference over all outputs, compiled and torch's in the same order.

    `exact` are those of the float network where some layers compute with integers. Raises ParityError naming the first
    output that differs by more than 0.1 % of its largest value; with `exact` by more than 5 %, and by more than
    rounding has changed in torch.
    """
    differences = []
    for number, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        # numpy's maximum, unlike Python's, keeps what is not a number: that is no parity either.
        worst, scale = float(np.abs(mine - theirs).max()), max(1e-6, float(np.abs(theirs).max()))
        allowed = _TOLERANCE * scale
        if exact is not None:
            allowed = max(_INTEGER_TOLERANCE * scale, float(np.abs(theirs - exact[number]).max()))
        if not worst <= allowed:
            raise ParityError(
                f"output {number} of the compiled module differs from torch by {worst:.3g} where it reaches "
                f"{scale:.3g}; delete this run's tuning records and try again, and report the model if it stays"
            )
        differences.append(worst)
    return max(differences)
