"""A network that is trained as it will be rounded: its graph with rounding whose steps are parameters.

Learned step sizes (Esser et al. 2020, "Learned Step Size Quantization", sections 2.1 and 2.2): the gradient of a step
is that of the straight-through estimator, made smaller by the root of how many numbers share the step and how many
integers it has. Weights of 8 bits have no step to learn, theirs is the largest weight; fixed point has given ones.
"""

from dataclasses import replace

import torch
from torch import fx, nn

from tvm_prune.graph.compressed import CompressedModel, StoredAs
from tvm_prune.graph.fold import fold_batchnorm
from tvm_prune.graph.integer_ops import integer_weight, weight_limit, whole
from tvm_prune.graph.stored_tensors import own_scales, stored_nodes, stored_schemes, traced_graph, weighted_nodes

__all__ = ["learning_module", "with_learned"]

_TENSOR, _WEIGHT = "tvm_prune_tensor_", "tvm_prune_weight_"
# A step may shrink to that part of what it was at first: it must not become zero or change its sign.
_LEAST = 0.01


class _Step(nn.Module):
    """Steps that are learned, or given where they are not to be."""

    def __init__(self, steps: torch.Tensor, *, learned: bool) -> None:
        super().__init__()
        self.steps = nn.Parameter(steps.clone(), requires_grad=learned)
        self.register_buffer("least", _LEAST * steps.abs())

    def chosen(self, sharing: float) -> torch.Tensor:
        """Return the steps; what comes back to them is divided by the root of `sharing`."""
        steps = torch.maximum(self.steps, self.get_buffer("least"))
        factor = 1 / max(1.0, sharing) ** 0.5
        scaled: torch.Tensor = steps * factor + (steps * (1 - factor)).detach()
        return scaled


class _RoundedTensor(_Step):
    def __init__(self, how: StoredAs, *, learned: bool) -> None:
        super().__init__(torch.tensor([how.scale]), learned=learned)
        self.how = how

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        zero, most = self.how.zero_point, self.how.most
        steps = self.chosen(value[0].numel() * most)
        return whole((value.float() / steps).clamp(-zero, most - zero)) * steps


class _RoundedWeight(_Step):
    def __init__(self, scales: torch.Tensor, bits: int, *, learned: bool) -> None:
        super().__init__(scales, learned=learned)
        self.bits = bits

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        steps = self.chosen(weight[0].numel() * weight_limit(self.bits))
        return integer_weight(weight, self.bits, steps)


def learning_module(model: CompressedModel) -> fx.GraphModule:
    """Return a module for training that rounds as `model` is rounded, its steps being parameters.

    It takes batches of any size; its other parameters have the names that they have with batch norms folded.
    """
    graph = traced_graph(model, any_batch=True)
    schemes = stored_schemes(graph.graph, model.precision)
    for node in stored_nodes(graph.graph, model.integer_layers):
        learned = schemes[node.name].fraction_bits is None
        graph.add_submodule(name := _TENSOR + node.name, _RoundedTensor(model.stored[node.name], learned=learned))
        with graph.graph.inserting_after(node):
            rounded = graph.graph.call_module(name, (node,))
        node.replace_all_uses_with(rounded)
        rounded.update_arg(0, node)  # it reads the value itself
    for node, layer in list(weighted_nodes(graph.graph)):
        scheme = model.precision.get(layer)
        if scheme is None or not scheme.rounds_weights:
            continue
        name = _WEIGHT + layer.replace(".", "_dot_")
        scales = own_scales(model, layer)
        with graph.graph.inserting_before(node):
            if scales is None:
                call = graph.graph.call_function(integer_weight, (node.args[1], scheme.weight_bits))
            else:
                rounding = _RoundedWeight(scales, scheme.weight_bits, learned=scheme.fraction_bits is None)
                graph.add_submodule(name, rounding)
                call = graph.graph.call_module(name, (node.args[1],))
            node.update_arg(1, call)
    for node in graph.graph.nodes:
        if node.target is torch.ops.aten.view.default:
            # Training may lay tensors out channels last, which a view does not take.
            node.target = torch.ops.aten.reshape.default
    _plain_call(graph.graph)
    return fx.GraphModule(graph, graph.graph)


def _plain_call(graph: fx.Graph) -> None:
    """Let the graph's module be called and copied like any other: what torch.export puts around it is not needed."""
    (output,) = graph.find_nodes(op="output")
    results = output.args[0]
    if isinstance(results, tuple | list) and len(results) == 1:
        output.args = (results[0],)
    graph.set_codegen(fx.graph.CodeGen())


def with_learned(model: CompressedModel, trained: nn.Module) -> CompressedModel:
    """Return `model`, batch norms folded, with the weights and steps of `trained`, which `learning_module` made."""
    module = fold_batchnorm(model.module, model.example_inputs)
    values = dict(trained.named_parameters())
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name in values:
                parameter.copy_(values[name])
    stored, scales = dict(model.stored), dict(model.weight_scales)
    for name, part in trained.named_modules():
        if isinstance(part, _RoundedTensor):
            node = name.removeprefix(_TENSOR)
            stored[node] = replace(stored[node], scale=float(part.chosen(1.0).item()))
        elif isinstance(part, _RoundedWeight) and part.steps.requires_grad:
            layer = next(layer for layer in scales if _WEIGHT + layer.replace(".", "_dot_") == name)
            scales[layer] = tuple(part.chosen(1.0).tolist())
    return replace(model, module=module, stored=stored, weight_scales=scales)
