"""Which tensors an integer network keeps in memory, and the network computing with what is left of them.

The traced graph of a model with folded batch norms is what both is said in: a tensor is named by the node that makes
it. What an integer layer reads is stored; of an addition of two layers' results one is, and the other stays a sum that
the addition is part of.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn

from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.fold import fold_batchnorm
from tvm_prune.graph.integer_ops import integer_weight, stored
from tvm_prune.graph.scheme import INT8, Scheme

__all__ = [
    "integer_capable",
    "layers_of",
    "origin_of",
    "own_scales",
    "reference_module",
    "rounding_graph",
    "stored_nodes",
    "stored_schemes",
    "traced_graph",
    "weighted_nodes",
]

_ATEN = torch.ops.aten
_LAYERS = (_ATEN.conv2d.default, _ATEN.linear.default)
# Operators that pick or move values: they may as well do so with integers.
_MOVING = (
    _ATEN.max_pool2d.default,
    _ATEN.view.default,
    _ATEN.reshape.default,
    _ATEN.flatten.using_ints,
    _ATEN.permute.default,
    _ATEN.squeeze.dim,
    _ATEN.dropout.default,
)
_ADD = (_ATEN.add.Tensor, _ATEN.add_.Tensor)


def traced_graph(model: CompressedModel, *, any_batch: bool = False) -> fx.GraphModule:
    """Return the model's graph of operators, batch norms folded; parameters keep their dotted names."""
    folded = fold_batchnorm(model.module, model.example_inputs).eval()
    inputs, shapes = model.example_inputs, None
    if any_batch:
        # A batch of one would be taken for a constant.
        inputs = tuple(torch.cat([value, value]) for value in inputs)
        shapes = tuple({0: torch.export.Dim.AUTO} for _ in inputs)
    with torch.no_grad():
        program = torch.export.export(folded, inputs, dynamic_shapes=shapes)
    made = program.module(check_guards=False)
    return fx.GraphModule(made, made.graph)  # a plain one, which can be put into eval mode and exported again


def reference_module(model: CompressedModel, *, any_batch: bool = False) -> nn.Module:
    """Return the torch module that the compiled model is compared with: rounded like it where it has integers."""
    if not model.rounded_layers:
        return model.module
    return rounding_graph(model, any_batch=any_batch, weights=model.rounded_layers).eval()


def weighted_nodes(graph: fx.Graph) -> Iterator[tuple[fx.Node, str]]:
    """Yield every convolution and matrix product, in order, with the name of the layer whose weight it reads."""
    for node in graph.nodes:
        if node.op == "call_function" and node.target in _LAYERS:
            weight = node.args[1]
            if isinstance(weight, fx.Node) and weight.op == "get_attr":
                yield node, str(weight.target).rpartition(".")[0]


def layers_of(graph: fx.Graph) -> list[str]:
    """Return the layers whose weights convolutions and matrix products read, in order."""
    return list(dict.fromkeys(layer for _, layer in weighted_nodes(graph)))


def integer_capable(graph: fx.Graph) -> list[str]:
    """Return the layers that have an integer form.

    That is all but convolutions of several groups that are not depthwise, and linear layers of more than rows.
    """
    found: dict[str, bool] = {}
    for node, layer in weighted_nodes(graph):
        groups = node.args[6] if node.target == _ATEN.conv2d.default and len(node.args) > 6 else 1
        depthwise = groups == _shape(node.args[0])[1] == _shape(node.args[1])[0]
        rows = bool(node.target == _ATEN.conv2d.default or len(_shape(node.args[0])) == 2)
        found[layer] = found.get(layer, True) and rows and bool(groups == 1 or depthwise)
    return [layer for layer, capable in found.items() if capable]


def _shape(value: Any) -> list[Any]:
    return list(value.meta["val"].shape)


def stored_nodes(graph: fx.Graph, layers: Collection[str]) -> list[fx.Node]:
    """Return the nodes whose results are stored as integers, in order, if `layers` compute with integers."""
    products = {node for node, layer in weighted_nodes(graph) if layer in layers}
    order = {node: place for place, node in enumerate(graph.nodes)}
    found = {origin_of(node.args[0]) for node in products}
    for node in graph.nodes:
        if node.op == "call_function" and node.target in _ADD:
            sums = [operand for operand in node.args[:2] if operand in products and operand not in found]
            found.update(sorted(sums, key=order.__getitem__)[:-1])
    return sorted(found, key=order.__getitem__)


def stored_schemes(graph: fx.Graph, precision: Mapping[str, Scheme]) -> dict[str, Scheme]:
    """Return for each stored tensor, by node name, the scheme whose activations it holds.

    Of several layers that read it that is the one with the most bits; what is only added is int8.
    """
    layers = [layer for layer, scheme in precision.items() if scheme.in_integers]
    found = dict.fromkeys((node.name for node in stored_nodes(graph, layers)), INT8)
    read: dict[str, Scheme] = {}
    for node, layer in weighted_nodes(graph):
        if layer in layers:
            name, scheme = origin_of(node.args[0]).name, precision[layer]
            if name not in read or read[name].activation_bits < scheme.activation_bits:
                read[name] = scheme
    return {**found, **read}


def origin_of(node: Any) -> fx.Node:
    """Return the node whose values `node` holds, moved or picked at most."""
    while node.op == "call_function" and node.target in _MOVING:
        node = node.args[0]
    assert isinstance(node, fx.Node)
    return node


def rounding_graph(model: CompressedModel, *, any_batch: bool = False, weights: Collection[str]) -> fx.GraphModule:
    """Return the model's graph where what is stored is rounded, and so are the weights of the layers `weights`."""
    graph = traced_graph(model, any_batch=any_batch)
    for node in stored_nodes(graph.graph, model.integer_layers):
        how = model.stored[node.name]
        with graph.graph.inserting_after(node):
            rounded = graph.graph.call_function(stored._opoverload, (node, how.scale, how.zero_point, how.most))
        node.replace_all_uses_with(rounded)
        rounded.update_arg(0, node)  # it reads the value itself
    for node, layer in list(weighted_nodes(graph.graph)):
        if layer in weights:
            with graph.graph.inserting_before(node):
                scales = own_scales(model, layer)
                if scales is not None:
                    graph.register_buffer(buffer := f"scales_of_{node.name}", scales)
                given = () if scales is None else (graph.graph.get_attr(buffer),)
                bits = model.precision[layer].weight_bits
                node.update_arg(1, graph.graph.call_function(integer_weight, (node.args[1], bits, *given)))
    graph.recompile()
    return graph


def own_scales(model: CompressedModel, layer: str) -> torch.Tensor | None:
    """Return the scales, float32 [output channels], of a layer whose weight does not say them; else None."""
    if layer in model.weight_scales:
        return torch.tensor(model.weight_scales[layer])
    fraction = model.precision.get(layer, Scheme()).fraction_bits
    if fraction is None:
        return None
    weight = model.module.get_parameter(f"{layer}.weight")
    return torch.full((len(weight),), 2.0**-fraction)
