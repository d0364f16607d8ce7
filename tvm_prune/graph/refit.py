"""Weights of a pruned network set anew by least squares, so that its layers give what they gave before.

Channel pruning by feature-map reconstruction (He et al. 2017, "Channel Pruning for Accelerating Very Deep Neural
Networks", section 3.1; Luo et al. 2017, "ThiNet", section 3.3), for all layers in the order of one forward pass: each
layer is fitted on what the layers before it, already fitted, hand to it. It takes seconds where gradient descent takes
minutes, and leaves less to train.
"""

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from tvm_prune.graph.patches import Layer, Places, linear_layers
from tvm_prune.graph.running import copy_module

__all__ = ["refit"]

Kept = Mapping[str, Sequence[int]]

# Of the mean squared input: how strongly the weights are held where the inputs do not tell.
_RIDGE = 5e-2
_LEAST_RIDGE = 1e-12
# Error, of the squared output, that is rounding.
_EXACT = 1e-9


def refit(module: nn.Module, reference: nn.Module, kept: Kept, inputs: torch.Tensor, *, seed: int = 0) -> nn.Module:
    """Return a copy of `module` whose layers come as close to those of `reference` on `inputs` as their inputs allow.

    `module` is `reference` with fewer channels: `kept` lists, by layer, which of its outputs are left (a layer not
    named has all). `inputs` is one batch [N, ...]; at random places of each image, drawn from `seed`, both give rows of
    a ridge regression. Fitted are 2-d convolutions without groups and linear layers that run once; biases move along,
    and so do the statistics of batch norm, by as much as what it is fed has changed on these images: taken from them
    alone they would forget what they know of all others. Each network runs once, in eval mode.
    """
    fitted, whole = copy_module(module).eval(), copy_module(reference).eval()
    layers = linear_layers(fitted)
    generator = torch.Generator().manual_seed(seed)
    places: dict[str, Places] = {}
    wanted: dict[str, torch.Tensor] = {}
    fed: dict[str, _Statistics] = {}
    norms = {
        name: part
        for name, part in fitted.named_modules()
        if isinstance(part, _BatchNorm) and part.running_mean is not None
    }
    calls: Counter[str] = Counter()
    with torch.no_grad(), contextlib.ExitStack() as hooks:
        for name, layer in layers.items():

            def take(_: nn.Module, __: Any, output: torch.Tensor, name: str = name, layer: Layer = layer) -> None:
                calls.update([name])
                places[name] = Places.draw(layer, output, generator)
                rows = places[name].outputs(layer, output)
                wanted[name] = rows[:, torch.as_tensor(kept[name])] if name in kept else rows

            hooks.callback(whole.get_submodule(name).register_forward_hook(take).remove)
        for name in norms:

            def look(_: nn.Module, args: Any, name: str = name) -> None:
                calls.update([name])
                fed[name] = _Statistics.of(args[0], kept.get(name))

            hooks.callback(whole.get_submodule(name).register_forward_pre_hook(look).remove)
        whole(inputs)
    with torch.no_grad(), contextlib.ExitStack() as hooks:
        for name, norm in norms.items():
            if calls[name] == 1:

                def move(_: nn.Module, args: Any, norm: _BatchNorm = norm, before: _Statistics = fed[name]) -> None:
                    before.move(norm, _Statistics.of(args[0], None))

                hooks.callback(norm.register_forward_pre_hook(move).remove)
        for name, layer in layers.items():
            if calls[name] == 1:

                def fit(_: nn.Module, args: Any, name: str = name, layer: Layer = layer) -> None:
                    _fit(layer, places[name].patches(layer, args[0]), wanted[name])

                hooks.callback(layer.register_forward_pre_hook(fit).remove)
        fitted(inputs)
    return fitted


@dataclass(frozen=True, kw_only=True)
class _Statistics:
    """Mean and variance of each channel that a batch norm is fed."""

    mean: torch.Tensor
    variance: torch.Tensor

    @classmethod
    def of(cls, values: torch.Tensor, kept: Sequence[int] | None) -> "_Statistics":
        """Return those of `values` [N, channels, ...], of the channels `kept` (None = all)."""
        channels = values.transpose(0, 1).flatten(1)
        channels = channels if kept is None else channels[torch.as_tensor(kept)]
        return cls(mean=channels.mean(dim=1), variance=channels.var(dim=1, correction=0))

    def move(self, norm: _BatchNorm, now: "_Statistics") -> None:
        """Change what `norm` remembers by what lies between these statistics and `now`."""
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.add_(now.mean - self.mean)
        norm.running_var.mul_((now.variance + norm.eps) / (self.variance + norm.eps))


def _fit(layer: Layer, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
    """Set the weights of `layer` so that `inputs` [rows, elements of a filter] give `outputs` [rows, channels]."""
    weight, bias = layer.weight, layer.bias
    error = outputs - functional.linear(inputs, weight.flatten(1), bias)
    if error.square().sum() <= _EXACT * outputs.square().sum():
        return
    mean_in, mean_out = inputs.mean(dim=0), outputs.mean(dim=0)
    if bias is not None:
        # The bias takes up the means, so that the weights need not.
        inputs, error = inputs - mean_in, error - error.mean(dim=0)
    gram = (inputs.T @ inputs).double()
    # A layer that is fed nothing but zeros has nothing to be fitted on.
    gram.diagonal().add_((_RIDGE * gram.diagonal().mean()).clamp(min=_LEAST_RIDGE))
    change = torch.linalg.solve(gram, (inputs.T @ error).double()).to(weight.dtype)
    weight.add_(change.T.reshape(weight.shape))
    if bias is not None:
        bias.copy_(mean_out - weight.flatten(1) @ mean_in)
