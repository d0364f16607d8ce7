"""Cross-layer equalisation: channels between two layers are scaled so that both layers use their integers alike.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1. What lies
between the layers must let a positive factor of a channel through: relu does, relu6 does not.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import fx, nn

from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.fold import fold_batchnorm
from tvm_prune.graph.stored_tensors import traced_graph, weighted_nodes

__all__ = ["Pair", "equalise", "equalised_pairs", "lone_layers"]

_ATEN = torch.ops.aten
# Operators f with f(s * x) = s * f(x) for s > 0 in each channel, which keep the channels on their axis.
_SCALE_INVARIANT = (
    _ATEN.relu.default,
    _ATEN.relu_.default,
    _ATEN.leaky_relu.default,
    _ATEN.leaky_relu_.default,
    _ATEN.max_pool2d.default,
    _ATEN.avg_pool2d.default,
    _ATEN.adaptive_avg_pool2d.default,
    _ATEN.dropout.default,
)
_RESHAPING = (_ATEN.view.default, _ATEN.reshape.default, _ATEN.flatten.using_ints)
# One pair's scales change its neighbours' ranges: the rounds end when no scale is further from 1, or after so many.
_SETTLED, _ROUNDS = 1e-3, 20


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two layers of which the second alone reads the first; its convolution has `groups`, a linear layer one."""

    first: str
    second: str
    groups: int


def equalise(model: CompressedModel) -> CompressedModel:
    """Return `model`, batch norms folded, with the channels between each pair of layers scaled; outputs stay the same.

    Channel i of the first layer is divided by s_i = sqrt(r1_i * r2_i) / r2_i, the second layer's column times it, r
    being the largest magnitudes of that row and column (equation 11); repeated until all pairs have settled.
    """
    module = fold_batchnorm(model.module, model.example_inputs)
    made = replace(model, module=module)
    pairs = equalised_pairs(made)
    with torch.no_grad():
        for _ in range(_ROUNDS):
            furthest = max((_equalised(module, pair) for pair in pairs), default=0.0)
            if furthest < _SETTLED:
                break
    return made


def equalised_pairs(model: CompressedModel) -> list[Pair]:
    """Return the pairs of layers that `equalise` scales, in the order of the graph."""
    graph = traced_graph(model).graph
    layers, lone = dict(weighted_nodes(graph)), lone_layers(graph)
    found = []
    for node, first in layers.items():
        reader = _reader(node, layers)
        if reader is None or first not in lone or layers[reader] not in lone:
            continue
        groups = int(reader.args[6]) if len(reader.args) > 6 else 1  # type: ignore[arg-type]  # a convolution's
        found.append(Pair(first=first, second=layers[reader], groups=groups))
    return found


def lone_layers(graph: fx.Graph) -> set[str]:
    """Return the layers whose weight and bias nothing but one operator reads: they can be changed for its sake."""
    readers: Counter[str] = Counter()
    for node in graph.nodes:
        if node.op == "get_attr":
            readers[str(node.target)] += len(node.users)
    return {
        layer for _, layer in weighted_nodes(graph) if readers[f"{layer}.weight"] == 1 and readers[f"{layer}.bias"] <= 1
    }


def _reader(node: fx.Node, layers: dict[fx.Node, str]) -> fx.Node | None:
    """Return the layer that alone reads what `node` made, through operators that let a factor through; else None."""
    rank = 4 if node.target == _ATEN.conv2d.default else 2
    if len(_shape(node)) != rank:
        return None  # an image without a batch, or a linear layer of more than rows: channels are on another axis
    for current in _alone_after(node):
        if current in layers:
            return current
        if current.target in _RESHAPING:
            before, after = _shape(current.args[0]), _shape(current)
            if after != [before[0], prod(before[1:])]:
                return None
        elif current.target not in _SCALE_INVARIANT:
            return None
    return None


def _alone_after(node: fx.Node) -> Iterator[fx.Node]:
    """Yield the only user of `node`, that one's only user, and so on."""
    while len(node.users) == 1:
        (user,) = node.users
        if user.op != "call_function" or user.args[0] is not node:
            return
        yield user
        node = user


def _shape(node: Any) -> list[int]:
    return [int(size) for size in node.meta["val"].shape]


def _equalised(module: nn.Module, pair: Pair) -> float:
    """Scale the channels of `pair`; return how far the furthest scale was from 1, as a logarithm."""
    first, second = (module.get_parameter(f"{layer}.weight") for layer in (pair.first, pair.second))
    channels = len(first)
    # [groups, outputs of a group, inputs of a group, all that belongs to one channel]: pixels of a filter, or columns
    # that a flattened image has of each channel.
    inputs = channels // pair.groups
    columns = second.view(pair.groups, len(second) // pair.groups, inputs, -1)
    rows_most = first.reshape(channels, -1).abs().amax(dim=1)
    columns_most = columns.abs().amax(dim=(1, 3)).reshape(-1)
    scales = (rows_most.double() * columns_most).sqrt() / columns_most
    # A channel that is always zero, or that nobody reads, has no scale.
    usable = (rows_most > 0) & (columns_most > 0)
    scales = torch.where(usable, scales, 1.0).to(first.dtype)
    first.div_(scales.reshape(-1, *[1] * (first.dim() - 1)))
    bias = module.get_submodule(pair.first)._parameters.get("bias")
    if bias is not None:
        bias.div_(scales)
    columns.mul_(scales.view(pair.groups, 1, inputs, 1))
    return float(scales.log().abs().max())
