"""Rounding to integers as torch operators: what a compiled integer module computes, in float tensors.

Gradients pass straight through where a value is within range (Bengio et al. 2013, straight-through estimator).
"""

from typing import Any

import torch

__all__ = ["MOST", "SPREAD", "integer_weight", "stored", "weight_integers", "weight_limit", "weight_scales", "whole"]

# Largest integer of a stored tensor of 8 bits.
MOST = 255
# How much larger than a channel's own the scale of a layer's largest channel may be.
SPREAD = 4096


@torch.library.custom_op("tvm_prune::stored", mutates_args=())
def stored(value: torch.Tensor, scale: float, zero_point: int, most: int) -> torch.Tensor:
    """Return the values that integers 0..most can stand for, rounded half up."""
    return (_integers(value, scale, zero_point, most) - zero_point) * scale


def _integers(value: torch.Tensor, scale: float, zero_point: int, most: int) -> torch.Tensor:
    # The same operations in the same order as in relay_passes/integer_graph.py, so that both round alike.
    clipped = torch.clamp(value * (1 / scale), -zero_point, most - zero_point)
    return torch.floor(clipped + (zero_point + 0.5))


@stored.register_fake
def _(value: torch.Tensor, scale: float, zero_point: int, most: int) -> torch.Tensor:
    return torch.empty_like(value)


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    value, scale, zero_point, most = inputs
    ctx.save_for_backward((value >= -zero_point * scale) & (value <= (most - zero_point) * scale))


def _pass_through(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
    (within,) = ctx.saved_tensors
    return gradient * within, None, None, None


stored.register_autograd(_pass_through, setup_context=_keep)


def weight_limit(bits: int) -> int:
    """Return the largest magnitude of an integer weight: the range is symmetric."""
    return max(1, (1 << bits - 1) - 1)


def weight_scales(weight: torch.Tensor, bits: int = 8) -> torch.Tensor:
    """Return the scale of each output channel (the first axis), as relay_passes/integer_arrays.py does.

    The largest weight of a channel is its largest integer; of one bit the scale is the mean magnitude (Rastegari et al.
    2016, "XNOR-Net", equation 6).
    """
    magnitudes = weight.detach().reshape(len(weight), -1).abs()
    largest = magnitudes.amax(dim=1) if bits > 1 else magnitudes.mean(dim=1)
    largest = torch.maximum(largest, largest.max() / SPREAD)
    # A subnormal divided by 127 is zero: no scale is smaller than the smallest normal number.
    scales = (largest / weight_limit(bits)).clamp(min=torch.finfo(largest.dtype).tiny)
    return torch.where(largest > 0, scales, torch.ones_like(largest))


def whole(value: torch.Tensor) -> torch.Tensor:
    """Return `value` rounded to the nearest integer, half to even; gradients pass straight through."""
    return value + (torch.round(value) - value).detach()


def integer_weight(weight: torch.Tensor, bits: int = 8, scales: torch.Tensor | None = None) -> torch.Tensor:
    """Return `weight` as its integers stand for it; gradients pass straight through where they are within range.

    `scales` are one for each output channel, by default those of `weight_scales`; gradients reach them too (Esser et
    al. 2020, "Learned Step Size Quantization", equation 3).
    """
    chosen = weight_scales(weight, bits) if scales is None else scales
    return weight_integers(weight, bits, scales) * chosen.reshape(-1, *[1] * (weight.dim() - 1))


def weight_integers(weight: torch.Tensor, bits: int = 8, scales: torch.Tensor | None = None) -> torch.Tensor:
    """Return the integers of `weight`, as floats; else as `integer_weight`."""
    chosen = weight_scales(weight, bits) if scales is None else scales
    scaled, limit = weight / chosen.reshape(-1, *[1] * (weight.dim() - 1)), weight_limit(bits)
    if bits == 1:
        signs = torch.where(scaled < 0, -1.0, 1.0)
        within = scaled.clamp(-1, 1)
        return within + (signs - within).detach()
    # A scale of the weight's own leaves nothing to cut off but what rounding has put beyond the largest: its gradient.
    return whole(scaled if scales is None else scaled.clamp(-limit, limit))
