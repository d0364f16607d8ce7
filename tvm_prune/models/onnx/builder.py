"""The torch graph that grows while an ONNX graph is walked: every step is also computed on the example inputs.

What depends on no input is computed at once and becomes a constant; the shape of anything is a constant too, since the
inputs' shapes are fixed. So the arithmetic on shapes that exporters leave behind is gone once the walk is over.
"""

import operator
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree

from tvm_prune.models.onnx.value import Value

__all__ = ["Builder", "ConvertedModule"]


class ConvertedModule(fx.GraphModule):
    """A traced module that raises errors as any other module does.

    Those of fx also print a page of code whenever a call fails, and trying what a network does without some of its
    channels is how the groups of channels are found out.
    """

    def recompile(self) -> Any:
        """Make forward() from the graph again."""
        code = super().recompile()
        # Each instance has a class of its own.
        type(self).__call__ = nn.Module.__call__  # type: ignore[method-assign]
        return code


class Builder:
    """Collects layers, constants and calls; `finish` makes the module."""

    def __init__(self) -> None:
        self._graph = fx.Graph()
        self._root = nn.Module()
        self._constants: dict[int, fx.Node] = {}

    def input(self, name: str, example: torch.Tensor) -> Value:
        """Add an input of the module."""
        return Value(example, self._graph.placeholder(_identifier(name)))

    def call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Value:
        """Add a call that returns one tensor; Values may stand anywhere among the arguments."""
        (value,) = self._calls(function, arguments, options)
        return value

    def calls(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> list[Value]:
        """Add a call that returns several tensors."""
        return self._calls(function, arguments, options)

    def layer(self, name: str, module: nn.Module, source: Value) -> Value:
        """Add a layer under a name like `name` and apply it. A layer applied to a constant is a constant."""
        module.eval()
        with torch.no_grad():
            result = module(source.tensor)
        if source.constant:
            return Value(result)
        target = self._free(name)
        self._root.add_module(target, module)
        return Value(result, self._graph.call_module(target, (source.node,)))

    def layer_of(self, value: Value) -> nn.Module | None:
        """Return the layer that computes `value`, None if no layer does."""
        if value.node is None or value.node.op != "call_module":
            return None
        return self._root.get_submodule(str(value.node.target))

    def finish(self, outputs: list[Value]) -> fx.GraphModule:
        """Return the module that computes `outputs`: one tensor, or a tuple of several."""
        nodes = [self._argument(value) for value in outputs]
        self._graph.output(nodes[0] if len(nodes) == 1 else tuple(nodes))
        module = ConvertedModule(self._root, self._graph)
        module.graph.eliminate_dead_code()
        module.delete_all_unused_submodules()
        module.recompile()
        return module.eval()

    def _calls(self, function: Callable[..., Any], arguments: Any, options: Any) -> list[Value]:
        leaves = _pytree.tree_leaves((arguments, options), is_leaf=_is_value)
        given, named = _mapped(lambda value: value.tensor, (arguments, options))
        with torch.no_grad():
            result = function(*given, **named)
        several = isinstance(result, tuple | list)
        results = list(result) if several else [result]
        if all(leaf.constant for leaf in leaves if isinstance(leaf, Value)):
            return [Value(tensor) for tensor in results]
        traced, traced_named = _mapped(self._argument, (arguments, options))
        node = self._graph.call_function(function, traced, traced_named)
        if not several:
            return [Value(result, node)]
        return [
            Value(tensor, self._graph.call_function(operator.getitem, (node, place)))
            for place, tensor in enumerate(results)
        ]

    def _argument(self, value: Value) -> Any:
        if value.node is not None:
            return value.node
        if value.tensor.numel() == 1 and value.tensor.dim() <= 1 and value.tensor.is_floating_point():
            return float(value.tensor)
        key = id(value.tensor)
        if key not in self._constants:
            name = self._free("constant")
            self._root.register_buffer(name, value.tensor)
            self._constants[key] = self._graph.get_attr(name)
        return self._constants[key]

    def _free(self, name: str) -> str:
        wanted = _identifier(name)
        number, free = 1, wanted
        while hasattr(self._root, free):
            number += 1
            free = f"{wanted}_{number}"
        return free


def _is_value(leaf: Any) -> bool:
    return isinstance(leaf, Value)


def _mapped(change: Callable[[Value], Any], tree: Any) -> Any:
    return _pytree.tree_map(lambda leaf: change(leaf) if isinstance(leaf, Value) else leaf, tree, is_leaf=_is_value)


def _identifier(name: str) -> str:
    found = re.sub(r"\W+", "_", name).strip("_") or "layer"
    return f"n{found}" if found[0].isdigit() else found
