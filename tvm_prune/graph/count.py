"""Counting what a network does: multiply-accumulates, parameters, bytes, and the shape of every weighted layer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from tvm_prune.codec import STRICT
from tvm_prune.graph.running import evaluating, run
from tvm_prune.graph.slicing import is_depthwise

__all__ = ["Counts", "LayerShape", "count", "layer_shapes"]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Multiply-accumulates of one run on the example inputs (batch included), parameters, and bytes of weights.

    Only convolutions and linear layers count as multiply-accumulates. `bytes` covers parameters and floating-point
    buffers (batch-norm statistics) in the types they are held in.
    """

    macs: int
    params: int
    bytes: int
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class LayerShape:
    """One weighted layer as it ran.

    `kernel`, `stride`, `input_hw` and `output_hw` hold one entry for each spatial dimension (none for linear layers);
    the two sizes are those of the first call. `macs` sums over all `calls`; `params` counts the layer once.
    """

    name: str
    kind: Literal["conv", "depthwise", "linear"]
    in_channels: int
    out_channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    groups: int
    input_hw: tuple[int, ...]
    output_hw: tuple[int, ...]
    macs: int
    params: int
    calls: int
    __pydantic_config__ = STRICT


def count(module: nn.Module, example_inputs: Sequence[torch.Tensor]) -> Counts:
    """Return the totals of `module`. Raises InputShapeError if it does not run on `example_inputs`."""
    stored = [*module.parameters(), *(buffer for buffer in module.buffers() if buffer.is_floating_point())]
    return Counts(
        macs=sum(layer.macs for layer in layer_shapes(module, example_inputs)),
        params=sum(parameter.numel() for parameter in module.parameters()),
        bytes=sum(tensor.numel() * tensor.element_size() for tensor in stored),
    )


def layer_shapes(module: nn.Module, example_inputs: Sequence[torch.Tensor]) -> tuple[LayerShape, ...]:
    """Return every convolution and linear layer that ran, in order of first call, by its (first) dotted name."""
    names = {part: name for name, part in module.named_modules()}
    found: dict[str, LayerShape] = {}

    def remember(part: nn.Module, inputs: Any, output: Any) -> None:
        name = names[part]
        shape = _shape(name, part, inputs[0], output)
        if name in found:
            shape = replace(found[name], macs=found[name].macs + shape.macs, calls=found[name].calls + 1)
        found[name] = shape

    hooks = [part.register_forward_hook(remember) for part in names if isinstance(part, _ConvNd | nn.Linear)]
    try:
        with torch.no_grad(), evaluating(module):
            run(module, example_inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(found.values())


def _shape(name: str, layer: nn.Module, given: torch.Tensor, output: torch.Tensor) -> LayerShape:
    params = sum(parameter.numel() for parameter in layer.parameters())
    if isinstance(layer, nn.Linear):
        return LayerShape(
            name=name,
            kind="linear",
            in_channels=layer.in_features,
            out_channels=layer.out_features,
            kernel=(),
            stride=(),
            groups=1,
            input_hw=(),
            output_hw=(),
            macs=output.numel() * layer.in_features,
            params=params,
            calls=1,
        )
    assert isinstance(layer, _ConvNd)
    spatial = len(layer.kernel_size)
    # A transposed convolution spreads each input over the kernel; an ordinary one gathers each output from it.
    sites, fan = (given.numel(), layer.out_channels) if layer.transposed else (output.numel(), layer.in_channels)
    area = 1
    for extent in layer.kernel_size:
        area *= extent
    return LayerShape(
        name=name,
        kind="depthwise" if is_depthwise(layer) else "conv",
        in_channels=layer.in_channels,
        out_channels=layer.out_channels,
        kernel=tuple(layer.kernel_size),
        stride=tuple(layer.stride),
        groups=layer.groups,
        input_hw=tuple(given.shape[-spatial:]),
        output_hw=tuple(output.shape[-spatial:]),
        macs=sites * fan // layer.groups * area,
        params=params,
        calls=1,
    )
