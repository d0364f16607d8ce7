"""What the nodes of an ONNX graph work on while it is converted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

__all__ = ["OnnxNode", "Unsupported", "Value"]


class Unsupported(Exception):  # noqa: N818 - collected, so that one error can name all of them
    """A node that has no counterpart in torch here; the text says what about it."""


@dataclass(frozen=True)
class Value:
    """A tensor of the graph as it is for the example inputs, and the fx node that computes it (None = a constant)."""

    tensor: torch.Tensor
    node: fx.Node | None = None

    @property
    def constant(self) -> bool:
        """Whether it does not depend on the inputs."""
        return self.node is None

    def numbers(self) -> list[Any]:
        """Return a constant's elements as Python numbers. Raises Unsupported for what depends on the inputs."""
        if not self.constant:
            raise Unsupported("a shape, axis or limit that depends on the values of the inputs")
        return list(self.tensor.flatten().tolist())


@dataclass(frozen=True)
class OnnxNode:
    """One node: operator, name, inputs (None = left out), attributes, version of its operator set, names of outputs."""

    op: str
    name: str
    inputs: Sequence[Value | None]
    input_names: Sequence[str]
    attributes: Mapping[str, Any]
    opset: int
    outputs: Sequence[str]

    def required(self, place: int) -> Value:
        """Return an input that must be there."""
        value = self.optional(place)
        if value is None:
            raise Unsupported(f"{self.op} without its input {place}")
        return value

    def optional(self, place: int) -> Value | None:
        """Return an input that may be left out."""
        return self.inputs[place] if place < len(self.inputs) else None

    def numbers(self, attribute: str, place: int) -> list[Any] | None:
        """Return what older operator sets hold in an attribute and newer ones in an input; None if it is in neither."""
        if attribute in self.attributes:
            return list(self.attributes[attribute])
        value = self.optional(place)
        return None if value is None else value.numbers()
