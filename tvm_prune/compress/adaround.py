"""Adaptive rounding: each weight is rounded up or down as the layer's output wants it, not to the nearest integer.

Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization", section 3: layer by layer, rounding
is a variable between 0 and 1 that is learned with Adam and pressed towards either end. Instead of whole images a step
sees a random choice of output positions, so that a step is one matrix product.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from tvm_prune.codec import STRICT
from tvm_prune.compress.layer_walk import Change, Layer, Told, walk
from tvm_prune.compress.weight_ranges import ENOUGH_BITS
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.integer_ops import weight_limit, weight_scales
from tvm_prune.graph.stored_tensors import own_scales

__all__ = ["RoundingSettings", "round_adaptively"]

# The rectified sigmoid reaches 0 and 1 (equation 23): it is stretched from `_LOW` to `_HIGH` and clipped.
_LOW, _HIGH = -0.1, 1.1
# Images whose positions are unfolded at once, and numbers of unfolded inputs that are kept of a layer (256 MB).
_IMAGES, _KEPT = 32, 64 << 20


@dataclass(frozen=True, kw_only=True)
class RoundingSettings:
    """How rounding is learned: `steps` of Adam for each layer, on `rows` of `positions` sampled output positions.

    The pressure of the regulariser (equation 24), `pressure` times its sum, sets in after the part `warm_up` of the
    steps; its exponent falls from `sharp` to `blunt`.
    """

    steps: Annotated[int, Field(ge=1)] = 500
    positions: Annotated[int, Field(ge=1)] = 16384
    rows: Annotated[int, Field(ge=1)] = 256
    lr: Annotated[float, Field(gt=0)] = 0.01
    pressure: Annotated[float, Field(ge=0)] = 0.01
    warm_up: Annotated[float, Field(ge=0, lt=1)] = 0.2
    sharp: float = 20.0
    blunt: float = 2.0
    seed: int = 0
    __pydantic_config__ = STRICT


def round_adaptively(
    model: CompressedModel,
    exact: nn.Module,
    batches: Iterable[torch.Tensor],
    settings: RoundingSettings | None = None,
    *,
    told: Told | None = None,
) -> CompressedModel:
    """Return `model` whose weights of 2 to 7 bits are integers times their scales, chosen for the layers' outputs.

    Rounding them to nearest with the model's `weight_scales` gives the same integers. `exact` is the float network that
    `model` was rounded from, whose outputs (after a relu where one follows) each layer approaches from what it reads in
    the rounded network. Same seed, same result. Raises QuantizationError for no batches.
    """
    settings, scales = settings or RoundingSettings(), dict(model.weight_scales)

    def chosen(layer: Layer) -> Change:
        scheme = model.precision[layer.name]
        if not 1 < scheme.weight_bits < ENOUGH_BITS:
            return Change()
        own = own_scales(model, layer.name)
        if own is None:
            own = weight_scales(layer.weight, scheme.weight_bits)
            scales[layer.name] = tuple(own.tolist())
        return Change(weight=_learned(layer, own, weight_limit(scheme.weight_bits), settings))

    module = walk(model, exact, batches, chosen, told=told)
    return replace(model, module=module, weight_scales=scales)


def _learned(layer: Layer, scales: torch.Tensor, limit: int, settings: RoundingSettings) -> torch.Tensor:
    """Return the layer's weight with its rounding learned: whole numbers up to `limit` times `scales`."""
    generator = torch.Generator().manual_seed(settings.seed)
    groups = int(layer.arguments[3]) if len(layer.arguments) > 3 else 1
    inputs, wanted = _sampled(layer, groups, settings.positions, generator)
    # One matrix for each group of channels: [groups, outputs of a group, inputs of a group times pixels].
    shape = (groups, len(layer.weight) // groups, -1)
    scale = scales.reshape(groups, -1, 1)
    scaled = layer.weight.reshape(shape) / scale
    down = scaled.floor()
    bias = torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias
    # The rounding that leaves the weight as it is, to begin with.
    part = ((scaled - down - _LOW) / (_HIGH - _LOW)).clamp(1e-4, 1 - 1e-4)
    variable = nn.Parameter(part.logit())
    optimiser = torch.optim.Adam([variable], lr=settings.lr)
    begin = math.ceil(settings.warm_up * settings.steps)
    with torch.enable_grad():
        for step in range(settings.steps):
            rows = torch.randint(inputs.shape[1], (settings.rows,), generator=generator)
            up = _rectified(variable)
            weight = (down + up).clamp(-limit, limit) * scale
            found = torch.bmm(inputs[:, rows], weight.transpose(1, 2)) + bias.reshape(groups, 1, -1)
            error = (functional.relu(found) if layer.relu else found) - wanted[:, rows]
            loss = error.square().sum(dim=(0, 2)).mean()
            if step >= begin:
                passed = (step - begin) / max(1, settings.steps - begin)
                exponent = settings.blunt + (settings.sharp - settings.blunt) * (1 + math.cos(math.pi * passed)) / 2
                loss = loss + settings.pressure * (1 - (2 * up - 1).abs().pow(exponent)).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    integers = (down + (_rectified(variable.detach()) >= 0.5)).clamp(-limit, limit)
    return (integers * scale).reshape(layer.weight.shape)


def _rectified(variable: torch.Tensor) -> torch.Tensor:
    return (torch.sigmoid(variable) * (_HIGH - _LOW) + _LOW).clamp(0, 1)


def _sampled(
    layer: Layer, groups: int, positions: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the layer reads at random output positions, and what the float network makes there.

    Both are [groups, positions, numbers of a group].
    """
    columns = layer.weight[0].numel() * groups
    positions = max(1, min(positions, _KEPT // columns))
    exact = functional.relu(layer.exact) if layer.relu else layer.exact
    if layer.exact.dim() != 4:
        read, made = layer.inputs.flatten(0, -2), exact.flatten(0, -2)
        rows = torch.randperm(len(read), generator=generator)[:positions]
        return read[rows].unsqueeze(0), made[rows].unsqueeze(0)
    stride, padding, dilation = (tuple(each) for each in (*layer.arguments, *_DEFAULTS[len(layer.arguments) :])[:3])
    size = tuple(layer.weight.shape[2:])
    found, images, pixels = [], len(layer.inputs), layer.exact[0, 0].numel()
    each = min(pixels, math.ceil(positions / images))
    made = exact.flatten(2)
    for start in range(0, images, _IMAGES):
        part = slice(start, start + _IMAGES)
        read = functional.unfold(layer.inputs[part], size, dilation, padding, stride)
        places = torch.rand(len(read), pixels, generator=generator).argsort(dim=1)[:, None, :each]
        found.append([value.gather(2, places.expand(-1, value.shape[1], -1)) for value in (read, made[part])])
    read, made = (torch.cat(values) for values in zip(*found, strict=True))
    # [images, groups * numbers, places] to [groups, images * places, numbers].
    read, made = (value.unflatten(1, (groups, -1)).permute(1, 0, 3, 2).flatten(1, 2) for value in (read, made))
    return read, made


# Stride, padding and dilation of a convolution that does not name them.
_DEFAULTS = ((1, 1), (0, 0), (1, 1))
