"""Weights of a pruned network set anew by least squares, so that its layers give what they gave before.

Channel pruning by feature-map reconstruction (He et al. 2017, "Channel Pruning for Accelerating Very Deep Neural
Networks", section 3.1; Luo et al. 2017, "ThiNet", section 3.3), for all layers in the order of one forward pass: each
layer is fitted on what the layers before it, already fitted, hand to it. It takes seconds where gradient descent takes
minutes, and leaves less to train.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from tvm_prune.graph.behaviour import Behaviour, Statistics, tracked_norms
from tvm_prune.graph.patches import Layer, linear_layers
from tvm_prune.graph.running import copy_module

__all__ = ["refit"]

Kept = Mapping[str, Sequence[int]]

# Of the mean squared input: how strongly the weights are held where the inputs do not tell.
_RIDGE = 5e-2
_LEAST_RIDGE = 1e-12
# Error, of the squared output, that is rounding.
_EXACT = 1e-9


def refit(module: nn.Module, reference: Behaviour, kept: Kept, *, only_readers: bool = False) -> nn.Module:
    """Return a copy of `module` whose layers come as close to `reference` as their inputs allow.

    `module` is the network of `reference` with fewer channels: `kept` lists, by layer, which of its outputs are left (a
    layer not named has all). At the places of `reference` both give rows of a ridge regression. Fitted are the layers
    that have rows there, with `only_readers` those alone that read fewer channels than before; biases move along, and
    so do the statistics of batch norm, by as much as what it is fed has changed on these images: taken from them alone
    they would forget what they know of all others. The network runs once, in eval mode.
    """
    fitted = copy_module(module).eval()
    with torch.no_grad(), contextlib.ExitStack() as hooks:
        for name, norm in tracked_norms(fitted).items():
            if name in reference.fed:
                before = reference.fed[name].kept(kept.get(name))

                def move(_: nn.Module, args: Any, norm: _BatchNorm = norm, before: Statistics = before) -> None:
                    _move(norm, before, Statistics.of(args[0]))

                hooks.callback(norm.register_forward_pre_hook(move).remove)
        for name, layer in linear_layers(fitted).items():
            if name in reference.rows and not (only_readers and layer.weight.shape[1] == reference.reads[name]):

                def fit(_: nn.Module, args: Any, name: str = name, layer: Layer = layer) -> None:
                    rows = reference.rows[name]
                    wanted = rows[:, torch.as_tensor(kept[name])] if name in kept else rows
                    _fit(layer, reference.places[name].patches(layer, args[0]), wanted)

                hooks.callback(layer.register_forward_pre_hook(fit).remove)
        fitted(reference.inputs)
    return fitted


def _move(norm: _BatchNorm, before: Statistics, now: Statistics) -> None:
    """Change what `norm` remembers by what lies between `before` and `now`."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.add_(now.mean - before.mean)
    norm.running_var.mul_((now.variance + norm.eps) / (before.variance + norm.eps))


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
