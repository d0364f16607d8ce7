"""Cutting channels out of single layers, and switching off what reads them: no knowledge of how layers depend."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from tvm_prune.graph.running import copy_module
from tvm_prune.graph.units import Kind, Side

__all__ = ["Cuts", "is_depthwise", "masked_weights", "remove_channels"]

# (layer, kind, side) -> channels to remove there.
Cuts = Mapping[tuple[str, Kind, Side], np.ndarray]


def remove_channels(module: nn.Module, cuts: Cuts) -> nn.Module:
    """Return a copy of `module`, of the same class, whose layers have lost the channels in `cuts`."""
    smaller = copy_module(module)
    for (name, kind, side), channels in cuts.items():
        _CUTTERS[kind, side](smaller, name, channels)
    return smaller


def masked_weights(module: nn.Module, cuts: Cuts) -> dict[str, torch.Tensor]:
    """Return weights, by dotted name, that ignore the input channels in `cuts`.

    With them `module` computes exactly what the smaller module should: a channel that nobody reads is gone, whatever
    lies between its producer and its readers.
    """
    masked = {}
    for (name, _, side), channels in cuts.items():
        if side == "in":
            layer = module.get_submodule(name)
            weight = _weight(layer).detach().clone()
            if isinstance(layer, _ConvNd):
                _channels_first(weight, layer)[:, _local(layer, channels)] = 0
            else:
                weight[:, torch.from_numpy(channels)] = 0
            masked[f"{name}.weight"] = weight
    return masked


def is_depthwise(layer: nn.Module) -> bool:
    """Whether `layer` is a convolution with one input channel a group (any channel multiplier)."""
    return isinstance(layer, _ConvNd) and layer.groups == layer.in_channels and layer.groups > 1


def _weight(layer: nn.Module) -> nn.Parameter:
    weight = layer._parameters["weight"]
    assert weight is not None, "dependency.py refuses layers without a weight of their own"
    return weight


def _channels_first(weight: torch.Tensor, layer: _ConvNd) -> torch.Tensor:
    """Return a view [out, in per group, ...] of a convolution's weight."""
    return weight.transpose(0, 1) if layer.transposed else weight


def _local(layer: _ConvNd, channels: np.ndarray) -> torch.Tensor:
    """Return where input channels lie inside their group; a unit takes the same place in every group."""
    return torch.from_numpy(np.unique(channels % (layer.in_channels // layer.groups)))


def _shrink(owner: nn.Module, label: str, *, dim: int, removed: torch.Tensor | np.ndarray) -> None:
    """Take the entries `removed` of `dim` out of one parameter or buffer of `owner`, if it has it."""
    old = owner._parameters.get(label)
    stored = old if old is not None else owner._buffers.get(label)
    if stored is None:
        return
    keep = torch.ones(stored.shape[dim], dtype=torch.bool)
    keep[torch.as_tensor(removed)] = False
    new = stored.detach().index_select(dim, keep.nonzero().flatten().to(stored.device))
    if old is not None:
        owner._parameters[label] = nn.Parameter(new, requires_grad=old.requires_grad)
    else:
        owner._buffers[label] = new


def _cut_conv_out(module: nn.Module, name: str, channels: np.ndarray) -> None:
    layer = module.get_submodule(name)
    assert isinstance(layer, _ConvNd)
    _shrink(layer, "weight", dim=1 if layer.transposed else 0, removed=channels)
    _shrink(layer, "bias", dim=0, removed=channels)
    layer.out_channels -= channels.size


def _cut_conv_in(module: nn.Module, name: str, channels: np.ndarray) -> None:
    layer = module.get_submodule(name)
    assert isinstance(layer, _ConvNd)
    _shrink(layer, "weight", dim=0 if layer.transposed else 1, removed=_local(layer, channels))
    layer.in_channels -= channels.size


def _cut_depthwise(module: nn.Module, name: str, channels: np.ndarray) -> None:
    layer = module.get_submodule(name)
    assert isinstance(layer, _ConvNd)
    multiplier = layer.out_channels // layer.groups
    _cut_conv_out(module, name, channels)
    layer.in_channels = layer.groups = layer.out_channels // multiplier


def _cut_linear_out(module: nn.Module, name: str, channels: np.ndarray) -> None:
    layer = module.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    _shrink(layer, "weight", dim=0, removed=channels)
    _shrink(layer, "bias", dim=0, removed=channels)
    layer.out_features -= channels.size


def _cut_linear_in(module: nn.Module, name: str, channels: np.ndarray) -> None:
    layer = module.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    _shrink(layer, "weight", dim=1, removed=channels)
    layer.in_features -= channels.size


def _cut_norm(module: nn.Module, name: str, channels: np.ndarray) -> None:
    layer = module.get_submodule(name)
    for label in ("weight", "bias", "running_mean", "running_var"):
        _shrink(layer, label, dim=0, removed=channels)
    if isinstance(layer, nn.GroupNorm):
        size = layer.num_channels // layer.num_groups
        layer.num_channels -= channels.size
        layer.num_groups = layer.num_channels // size
    else:
        assert isinstance(layer, _BatchNorm | _InstanceNorm)
        layer.num_features -= channels.size


def _cut_parameter(module: nn.Module, name: str, channels: np.ndarray) -> None:
    owner_name, _, label = name.rpartition(".")
    owner = module.get_submodule(owner_name)
    parameter = owner._parameters[label]
    assert parameter is not None, "a bare parameter in the graph has a value"
    # The channel dimension of a bare parameter is its last one of more than one entry, as in dependency.py.
    dim = max(index for index, size in enumerate(parameter.shape) if size > 1)
    _shrink(owner, label, dim=dim, removed=channels)
    if isinstance(owner, nn.PReLU):
        owner.num_parameters -= channels.size


_CUTTERS: dict[tuple[Kind, Side], Callable[[nn.Module, str, np.ndarray], None]] = {
    ("conv", "out"): _cut_conv_out,
    ("conv", "in"): _cut_conv_in,
    ("depthwise", "out"): _cut_depthwise,
    ("linear", "out"): _cut_linear_out,
    ("linear", "in"): _cut_linear_in,
    ("norm", "out"): _cut_norm,
    ("param", "out"): _cut_parameter,
}
