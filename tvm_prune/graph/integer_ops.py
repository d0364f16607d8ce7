"""Rounding to integers as torch operators: what a compiled integer module computes, in float tensors.

Gradients pass straight through where a value is within range (Bengio et al. 2013, straight-through estimator).
"""

from typing import Any

import torch

__all__ = ["MOST", "SPREAD", "WEIGHT_LIMIT", "integer_weight", "stored", "weight_scales"]

# Largest integer of a stored tensor, and largest magnitude of an integer weight.
MOST = 255
WEIGHT_LIMIT = 127
# How much larger than a channel's own the scale of a layer's largest channel may be.
SPREAD = 4096


@torch.library.custom_op("tvm_prune::stored", mutates_args=())
def stored(value: torch.Tensor, scale: float, zero_point: int) -> torch.Tensor:
    """Return the values that integers 0..255 can stand for, rounded half up."""
    return (_integers(value, scale, zero_point) - zero_point) * scale


def _integers(value: torch.Tensor, scale: float, zero_point: int) -> torch.Tensor:
    # The same operations in the same order as in relay_passes/integer_graph.py, so that both round alike.
    clipped = torch.clamp(value * (1 / scale), -zero_point, MOST - zero_point)
    return torch.floor(clipped + (zero_point + 0.5))


@stored.register_fake
def _(value: torch.Tensor, scale: float, zero_point: int) -> torch.Tensor:
    return torch.empty_like(value)


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    value, scale, zero_point = inputs
    ctx.save_for_backward((value >= -zero_point * scale) & (value <= (MOST - zero_point) * scale))


def _pass_through(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
    (within,) = ctx.saved_tensors
    return gradient * within, None, None


stored.register_autograd(_pass_through, setup_context=_keep)


def weight_scales(weight: torch.Tensor) -> torch.Tensor:
    """Return the scale of each output channel (the first axis), as relay_passes/integer_arrays.py does."""
    largest = weight.detach().reshape(len(weight), -1).abs().amax(dim=1)
    largest = torch.maximum(largest, largest.max() / SPREAD)
    # A subnormal divided by 127 is zero: no scale is smaller than the smallest normal number.
    scales = (largest / WEIGHT_LIMIT).clamp(min=torch.finfo(largest.dtype).tiny)
    return torch.where(largest > 0, scales, torch.ones_like(largest))


def integer_weight(weight: torch.Tensor) -> torch.Tensor:
    """Return `weight` as its int8 integers stand for it; gradients pass straight through."""
    scales = weight_scales(weight).reshape(-1, *[1] * (weight.dim() - 1))
    rounded = torch.round(weight.detach() / scales) * scales
    return weight + (rounded - weight.detach())
