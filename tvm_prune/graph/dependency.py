"""Which channels of which layers depend on each other: the only file that knows torch-pruning.

torch-pruning's DependencyGraph (Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023, section 3) gives
nodes, edges and the index map of each edge. Here every channel of every layer is one point, every edge joins points,
and a connected set of points is a *unit*: the least that can be removed. Grouped convolutions, group norms and channel
multipliers follow the same rule: they join points, too.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import torch
import torch_pruning
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch_pruning._helpers import _HybridIndex
from torch_pruning.dependency import Node

from tvm_prune.graph.running import run, tensors_of
from tvm_prune.graph.slicing import is_depthwise
from tvm_prune.graph.units import Bundle, Kind, Place, Points, Side, bundles_of

__all__ = ["find_bundles"]


def find_bundles(module: nn.Module, inputs: Sequence[torch.Tensor]) -> tuple[Bundle, ...]:
    """Return all bundles that some conv or linear layer produces, in forward order.

    `module` is an analysis copy (eval mode, every parameter differentiable) and is not changed. Raises InputShapeError
    if it does not run on `inputs`.
    """
    order: dict[nn.Module, int] = {}

    def remember(part: nn.Module, _inputs: Any, _output: Any) -> None:
        order.setdefault(part, len(order))

    hooks = [part.register_forward_hook(remember) for part in module.modules()]
    try:
        graph, sources = _trace(module, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    places, index = _places(module, graph, order=order, sources=sources)
    points = Points()
    _follow_edges(graph, places, index=index, points=points)
    _join_inside_layers(graph, index, points)
    return bundles_of(places, points)


def _trace(module: nn.Module, inputs: Sequence[torch.Tensor]) -> tuple[Any, dict[nn.Parameter, str]]:
    """Run torch-pruning's tracer; return its graph and the names of the network's inputs (as parameters).

    An input enters as a parameter, so that channels added to the input itself are seen as bound to it. A 3-D input
    stays a plain tensor: a 3-D parameter makes torch-pruning drop the index maps of concatenations. Each output passes
    a clone, so that an output that is also used further inside is still seen as an output.
    """
    sources = {
        nn.Parameter(value.detach().clone()): f"input {number}"
        for number, value in enumerate(inputs)
        if value.is_floating_point() and value.dim() in (2, 4, 5)
    }
    by_number = {int(name.split()[1]): parameter for parameter, name in sources.items()}
    given = [by_number.get(number, value) for number, value in enumerate(inputs)]

    def forward(part: nn.Module, values: Sequence[torch.Tensor]) -> Any:
        return run(part, [value.clone() for value in values])

    with torch.enable_grad():
        graph = torch_pruning.DependencyGraph().build_dependency(
            module,
            given,
            forward_fn=forward,
            output_transform=lambda output: [value.clone() for value in tensors_of(output) if value.requires_grad],
            unwrapped_parameters=[(parameter, 1) for parameter in sources],
            verbose=False,
        )
    return graph, sources


def _places(
    module: nn.Module, graph: Any, *, order: dict[nn.Module, int], sources: dict[nn.Parameter, str]
) -> tuple[list[Place], dict[tuple[Node, str], int]]:
    """Return every side of every node, and where (node, side) stands in that list."""
    names: dict[Any, str] = {part: name for name, part in module.named_modules()}
    names.update({parameter: name for name, parameter in module.named_parameters()})
    tied = _tied_layers(module)
    places: list[Place] = []
    index: dict[tuple[Node, str], int] = {}
    for node in graph.module2node.values():
        target = node.module
        if target in sources:
            reason = f"they are bound to the channels of the network's {sources[target]}"
            sides: dict[Side, Place] = {"out": Place(0, sources[target], reason=reason)}
        else:
            sides = _sides(node, names.get(target, ""), order=order.get(target, len(order)))
        for side, place in sides.items():
            if place.layer in tied:
                place = replace(place, reason=f"{tied[place.layer]} is shared by several layers")
            index[node, side] = len(places)
            places.append(place)
    return places, index


def _sides(node: Node, name: str, *, order: int) -> dict[Side, Place]:
    """Return the places of one node, by side; both sides of a layer that keeps its channels are one place, "out"."""
    layer = node.module
    if isinstance(layer, torch_pruning.ops._OutputOp):
        return {"out": Place(order, "", reason="they are an output of the network")}
    if isinstance(layer, nn.Parameter):
        size = layer.shape[node.pruning_dim]
        return {"out": Place(order, name, "param", "out", size)}
    if isinstance(layer, _ConvNd | nn.Linear):
        return _weighted_sides(node, name, order=order)
    if isinstance(layer, _BatchNorm | _InstanceNorm):
        return {"out": Place(order, name, "norm", "out", layer.num_features)}
    if isinstance(layer, nn.GroupNorm):
        return {"out": Place(order, name, "norm", "out", layer.num_channels)}
    if isinstance(layer, nn.PReLU):
        if layer.num_parameters == 1:
            return {"out": Place(order, "")}
        return {"out": Place(order, f"{name}.weight", "param", "out", layer.num_parameters)}
    if isinstance(layer, nn.LayerNorm):
        reason = f"{name} (LayerNorm) normalises over them, so that removing one changes all others"
        return {"out": Place(order, name, reason=reason)}
    if isinstance(layer, nn.Embedding | nn.MultiheadAttention | nn.LSTM):
        reason = f"{name} ({type(layer).__name__}) is of a type whose width cannot be changed here"
        return {side: Place(order, name, side=side, reason=reason) for side in get_args(Side)}
    return {"out": Place(order, "")}


def _weighted_sides(node: Node, name: str, *, order: int) -> dict[Side, Place]:
    layer = node.module
    reason = ""
    if layer._parameters.get("weight") is None:
        reason = f"{name} computes its weight from other parameters; remove the parametrization first"
    if isinstance(layer, nn.Linear):
        return {
            "out": Place(order, name, "linear", "out", layer.out_features, reason),
            "in": Place(order, name, "linear", "in", layer.in_features, reason),
        }
    if layer.groups > 1 and layer.transposed:
        reason = f"{name} is a grouped transposed convolution"
    kept_as_is = node.type == torch_pruning.ops.OPTYPE.DEPTHWISE_CONV
    if kept_as_is and layer.in_channels != layer.out_channels:
        reason = f"{name} has fewer outputs than inputs in each of its {layer.groups} groups"
    kind: Kind = "depthwise" if is_depthwise(layer) else "conv"
    sides: dict[Side, Place] = {"out": Place(order, name, kind, "out", layer.out_channels, reason)}
    if not kept_as_is:
        # The input side of a convolution with a channel multiplier is cut together with its outputs.
        sides["in"] = Place(order, name, None if kind == "depthwise" else kind, "in", layer.in_channels, reason)
    return sides


def _tied_layers(module: nn.Module) -> dict[str, str]:
    """Return the parameters that belong to two different modules, by the dotted name of each owner."""
    owners: dict[nn.Parameter, list[str]] = {}
    for name, part in module.named_modules():
        for label, parameter in part.named_parameters(recurse=False):
            owners.setdefault(parameter, []).append(f"{name}.{label}")
    return {
        place.rpartition(".")[0]: " = ".join(found) for found in owners.values() if len(found) > 1 for place in found
    }


def _side_of(function: Any) -> Side:
    """Return which side a pruning function of torch-pruning acts on; layers that keep channels use one for both."""
    return "in" if function.__name__ == "prune_in_channels" else "out"


def _follow_edges(graph: Any, places: list[Place], *, index: dict[tuple[Node, str], int], points: Points) -> None:
    """Carry every channel along every edge, each pair of places once for each channel."""
    pending: list[tuple[Node, Side, np.ndarray]] = []
    for (node, side), number in index.items():
        size = places[number].size
        if size is not None:
            pending.append((node, "in" if side == "in" else "out", points.new(number, np.arange(size))))
    while pending:
        node, side, channels = pending.pop()
        for edge in node.dependencies:
            if _side_of(edge.trigger) != side:
                continue
            other_side = _side_of(edge.handler)
            other = index[edge.target, other_side]
            here, there = _mapped(edge, channels)
            size = places[other].size
            if size is not None and there.size and there.max() >= size:
                inside = there < size
                points.join(index[node, side], here[~inside], _nowhere(places, other, points), there[~inside])
                here, there = here[inside], there[inside]
            points.join(index[node, side], here, other, there)
            fresh = points.new(other, there)
            if fresh.size:
                pending.append((edge.target, other_side, fresh))


def _nowhere(places: list[Place], target: int, points: Points) -> int:
    """Return the place for channels that `target` does not have, made at the first call."""
    if target not in points.crowded:
        layer, order = places[target].layer, places[target].order
        points.crowded[target] = len(places)
        places.append(Place(order, layer, reason=f"an operation next to {layer} does not keep them one by one"))
    return points.crowded[target]


def _mapped(edge: Any, channels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs (channel at the source, channel at the target) of one edge."""
    maps = [mapping for mapping in edge.index_mapping if mapping is not None]
    if not maps:
        return channels, channels
    pairs = [_HybridIndex(idx=int(channel), root_idx=int(channel)) for channel in channels]
    for mapping in maps:
        pairs = mapping(pairs)
    return (
        np.array([pair.root_idx for pair in pairs], dtype=np.int64),
        np.array([pair.idx for pair in pairs], dtype=np.int64),
    )


def _join_inside_layers(graph: Any, index: dict[tuple[Node, str], int], points: Points) -> None:
    """Join channels that one layer ties together: the same place in every conv group; a whole norm group."""
    for node in graph.module2node.values():
        layer = node.module
        if isinstance(layer, nn.GroupNorm):
            channels = np.arange(layer.num_channels)
            place, size = index[node, "out"], layer.num_channels // layer.num_groups
            points.join(place, channels, place, channels // size * size)
        if isinstance(layer, _ConvNd) and layer.groups > 1 and (node, "in") in index:
            outputs, inputs = np.arange(layer.out_channels), np.arange(layer.in_channels)
            out_place, in_place = index[node, "out"], index[node, "in"]
            if is_depthwise(layer):
                points.join(out_place, outputs, in_place, outputs // (layer.out_channels // layer.groups))
            else:
                points.join(out_place, outputs, out_place, outputs % (layer.out_channels // layer.groups))
                points.join(in_place, inputs, in_place, inputs % (layer.in_channels // layer.groups))
