"""Scales of weights with few integers: the range that rounds them with the least mean square error."""

import torch

from tvm_prune.graph.integer_ops import integer_weight, weight_scales

__all__ = ["ENOUGH_BITS", "fitted_scales"]

# With that many the whole range is as good as any part of it, and follows from the weight alone.
ENOUGH_BITS = 8
# Parts of a channel's range that are tried.
_PARTS = torch.linspace(0.3, 1.0, 71)


def fitted_scales(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """Return the scale of each output channel, float32, that rounds its weights to `bits` with the least error.

    Of one bit that is the mean magnitude, which `weight_scales` gives.
    """
    weight = weight.detach()
    largest = weight_scales(weight, bits)
    if bits == 1:
        return largest
    best, least = largest, torch.full_like(largest, torch.inf)
    for part in _PARTS.tolist():
        scales = part * largest
        error = (integer_weight(weight, bits, scales) - weight).square().reshape(len(weight), -1).sum(dim=1)
        best, least = torch.where(error < least, scales, best), torch.minimum(error, least)
    return best
