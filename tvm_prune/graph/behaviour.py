"""What a network does with one batch, layer by layer: what networks made from it are fitted to."""

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tvm_prune.graph.patches import ROWS_PER_ELEMENT, Layer, Places, linear_layers
from tvm_prune.graph.running import copy_module

__all__ = ["Behaviour", "Statistics", "tracked_norms"]


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Mean and variance of each channel that a batch norm is fed."""

    mean: torch.Tensor
    variance: torch.Tensor

    @classmethod
    def of(cls, values: torch.Tensor) -> "Statistics":
        """Return those of `values` [N, channels, ...]."""
        channels = values.transpose(0, 1).flatten(1)
        return cls(mean=channels.mean(dim=1), variance=channels.var(dim=1, correction=0))

    def kept(self, channels: Sequence[int] | None) -> "Statistics":
        """Return those of `channels` (None = all)."""
        if channels is None:
            return self
        index = torch.as_tensor(channels)
        return Statistics(mean=self.mean[index], variance=self.variance[index])


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What a network did with `inputs` [N, ...] in eval mode.

    For each convolution without groups and each linear layer that ran exactly once: `places`, where rows were taken,
    `rows` [rows, channels], what it gave there, and `reads`, how many channels its weights have to read. `fed` holds
    the statistics of what each batch norm was fed that ran once.
    """

    inputs: torch.Tensor
    places: Mapping[str, Places]
    rows: Mapping[str, torch.Tensor]
    reads: Mapping[str, int]
    fed: Mapping[str, Statistics]

    @classmethod
    def of(
        cls, network: nn.Module, inputs: torch.Tensor, *, seed: int = 0, rows_per_element: int = ROWS_PER_ELEMENT
    ) -> "Behaviour":
        """Run `network` once. Places are drawn from `seed`, `rows_per_element` for each element of a filter."""
        watched = copy_module(network).eval()
        generator = torch.Generator().manual_seed(seed)
        places: dict[str, Places] = {}
        rows: dict[str, torch.Tensor] = {}
        reads: dict[str, int] = {}
        fed: dict[str, Statistics] = {}
        calls: Counter[str] = Counter()
        with torch.no_grad(), contextlib.ExitStack() as hooks:
            for name, layer in linear_layers(watched).items():

                def take(_: nn.Module, __: Any, output: torch.Tensor, name: str = name, layer: Layer = layer) -> None:
                    calls.update([name])
                    places[name] = Places.draw(layer, output, generator, rows_per_element=rows_per_element)
                    rows[name] = places[name].outputs(layer, output)
                    reads[name] = layer.weight.shape[1]

                hooks.callback(layer.register_forward_hook(take).remove)
            for name, norm in tracked_norms(watched).items():

                def look(_: nn.Module, args: Any, name: str = name) -> None:
                    calls.update([name])
                    fed[name] = Statistics.of(args[0])

                hooks.callback(norm.register_forward_pre_hook(look).remove)
            watched(inputs)
        once = {name for name, times in calls.items() if times == 1}
        return cls(
            inputs=inputs,
            places={name: value for name, value in places.items() if name in once},
            rows={name: value for name, value in rows.items() if name in once},
            reads=reads,
            fed={name: value for name, value in fed.items() if name in once},
        )


def tracked_norms(module: nn.Module) -> dict[str, _BatchNorm]:
    """Return the batch norms, by name, that remember statistics."""
    return {
        name: part
        for name, part in module.named_modules()
        if isinstance(part, _BatchNorm) and part.running_mean is not None
    }
