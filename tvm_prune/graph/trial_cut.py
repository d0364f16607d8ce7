"""Does a cut give the right network? Asked by running it: a wrong dependency is found before a user meets it."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.func import functional_call

from tvm_prune.graph.running import RUN_ERRORS, evaluating, tensors_of
from tvm_prune.graph.slicing import Cuts, masked_weights

__all__ = ["why_wrong"]

# The two runs differ by rounding: at most 6 units in the last place of the largest output on networks of 56 layers.
_ROUNDING = 500


def why_wrong(module: nn.Module, smaller: nn.Module, inputs: Sequence[torch.Tensor], *, cuts: Cuts) -> str:
    """Return why `smaller` is not `module` without the channels in `cuts`; empty if it is.

    `module` is in eval mode. The same inputs run through `module` with the readers of the channels switched off and
    through `smaller` in eval mode; shapes must be the same and values equal up to rounding.
    """
    with torch.no_grad(), evaluating(smaller):
        expected = tensors_of(functional_call(module, masked_weights(module, cuts), tuple(inputs)))
        try:
            found = tensors_of(smaller(*inputs))
        except RUN_ERRORS as error:
            return f"the network no longer runs without them: {str(error).strip().splitlines()[0]}"
    if [value.shape for value in expected] != [value.shape for value in found]:
        return "without them an output of the network has another shape"
    if all(_same(want, got) for want, got in zip(expected, found, strict=True)):
        return ""
    return "an operation mixes them with other channels in a way that cannot be followed"


def _same(want: torch.Tensor, got: torch.Tensor) -> bool:
    """Whether two outputs agree: up to rounding for floats, exactly for indices; overflow says nothing."""
    if not want.numel() or not want.is_floating_point():
        return torch.equal(want, got)
    scale = want.abs().max()
    tolerance = _ROUNDING * torch.finfo(want.dtype).eps * scale
    return not bool(torch.isfinite(scale)) or bool(((want - got).abs() <= tolerance).all())
