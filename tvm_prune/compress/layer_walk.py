"""A walk through a rounded network beside the float one, layer by layer, that may change each layer on its way."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn

from tvm_prune.compress.equalise import lone_layers
from tvm_prune.errors import QuantizationError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.fold import fold_batchnorm
from tvm_prune.graph.integer_ops import integer_weight, stored
from tvm_prune.graph.scheme import FLOAT32
from tvm_prune.graph.stored_tensors import rounding_graph, traced_graph, weighted_nodes

__all__ = ["Change", "Layer", "Told", "walk"]

_RELU = (torch.ops.aten.relu.default, torch.ops.aten.relu_.default)
# The float network has none of them.
_ROUNDING = (stored._opoverload, integer_weight)
# Called with the number of layers that are finished, how many there are, and the name of the next.
Told = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One rounded layer on all the calibration data, when everything before it has been changed already.

    `inputs` are those in the rounded network, `exact` is what the layer makes in the float one; `weight` and `bias` are
    the model's own, `rounded` is the weight as its integers stand for it. `arguments` are the operator's further ones:
    stride, padding, dilation and groups of a convolution. `relu` tells whether a relu alone reads what comes out.
    """

    name: str
    inputs: torch.Tensor
    exact: torch.Tensor
    weight: torch.Tensor
    rounded: torch.Tensor
    bias: torch.Tensor | None
    arguments: tuple[Any, ...]
    relu: bool
    operator: Callable[..., torch.Tensor]

    def output(self) -> torch.Tensor:
        """Return what the layer makes in the rounded network as it is."""
        return self.operator(self.inputs, self.rounded, self.bias, *self.arguments)


@dataclass(frozen=True, kw_only=True)
class Change:
    """New values of a layer's parameters; the weight must be one that rounding leaves as it is. None = the old ones."""

    weight: torch.Tensor | None = None
    bias: torch.Tensor | None = None


def walk(
    model: CompressedModel,
    exact: nn.Module,
    batches: Iterable[torch.Tensor],
    change: Callable[[Layer], Change],
    *,
    told: Told | None = None,
) -> nn.Module:
    """Return a copy of the model's module, batch norms folded, with the changes of all rounded layers, in order.

    `exact` is the float network of the same layers. `batches` are inputs, any number in each; what a layer reads and
    makes on all of them is in memory at once. A layer that is called twice, or whose parameters something else reads,
    is not changed. Raises QuantizationError for no batches.
    """
    data = list(batches)
    if not data:
        raise QuantizationError("there are no calibration data to refine the rounding on; give --data")
    module = fold_batchnorm(model.module, model.example_inputs)
    graph = rounding_graph(model, any_batch=True, weights=model.rounded_layers)
    floats = dict(fold_batchnorm(exact, model.example_inputs).named_parameters())
    plain = traced_graph(model).graph
    lone = lone_layers(plain)
    # Rounding leaves the names of nodes as they are.
    layers = {
        node.name: layer
        for node, layer in weighted_nodes(plain)
        if layer in lone and model.precision.get(layer, FLOAT32).rounds_weights
    }
    with torch.no_grad():
        _Walker(graph, floats, module, layers, change, told).run(torch.cat(data))
    return module


@dataclass(frozen=True)
class _Both:
    """A value of the rounded network, and what the float network has in its place."""

    rounded: Any
    exact: Any


class _Walker(fx.Interpreter):
    def __init__(
        self,
        graph: fx.GraphModule,
        floats: Mapping[str, torch.Tensor],
        module: nn.Module,
        layers: Mapping[str, str],
        change: Callable[[Layer], Change],
        told: Told | None,
    ) -> None:
        super().__init__(graph)
        self._floats, self._changed, self._layers = floats, module, layers
        self._change, self._told, self._finished = change, told, 0

    def run_node(self, n: fx.Node) -> Any:
        """Compute the node in both networks."""
        if n.op == "placeholder":
            value = super().run_node(n)
            return _Both(value, value.clone())  # one of them may be changed in place
        if n.op == "get_attr":
            value = super().run_node(n)
            return _Both(value, self._floats.get(str(n.target), value))
        if n.op == "output":
            return fx.node.map_arg(n.args[0], lambda node: self.env[node].rounded)
        exact = self._computed(n, exact=True)
        if n.name in self._layers:
            return _Both(self._layer(n, exact), exact)
        return _Both(self._computed(n), exact)

    def _computed(self, n: fx.Node, *, exact: bool = False) -> Any:
        args, kwargs = self._arguments(n, exact=exact)
        if exact and n.target in _ROUNDING:
            return args[0]
        return getattr(self, n.op)(n.target, args, kwargs)

    def _arguments(self, n: fx.Node, *, exact: bool = False) -> Any:
        def value(node: fx.Node) -> Any:
            both = self.env[node]
            return both.exact if exact else both.rounded

        return fx.node.map_arg((n.args, n.kwargs), value)

    def _layer(self, n: fx.Node, exact: torch.Tensor) -> torch.Tensor:
        """Let the layer be changed, and return what it makes then."""
        name, (args, _) = self._layers[n.name], self._arguments(n)
        if self._told:
            self._told(self._finished, len(self._layers), name)
        weight = self._changed.get_parameter(f"{name}.weight")
        readers = [user.target for user in n.users]
        layer = Layer(
            name=name,
            inputs=args[0],
            exact=exact,
            weight=weight.detach(),
            rounded=args[1],
            bias=args[2] if len(args) > 2 else None,
            arguments=tuple(args[3:]),
            relu=len(readers) == 1 and readers[0] in _RELU,
            operator=n.target,  # type: ignore[arg-type]  # an operator of torch
        )
        change = self._change(layer)
        if change.weight is not None:
            weight.copy_(change.weight)
        if change.bias is not None:
            self._changed.get_parameter(f"{name}.bias").copy_(change.bias)
        self._finished += 1
        kept = replace(
            layer,
            rounded=layer.rounded if change.weight is None else change.weight,
            bias=layer.bias if change.bias is None else change.bias,
        )
        return kept.output()
