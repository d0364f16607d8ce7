"""The one value that compress makes, oracle lowers and search passes on."""

from dataclasses import dataclass, field

import torch
from torch import nn

from tvm_prune.codec import STRICT
from tvm_prune.graph.scheme import Scheme

__all__ = ["CompressedModel", "StoredAs"]


@dataclass(frozen=True, kw_only=True)
class StoredAs:
    """How the integers 0 to `most` stand for a tensor: x = scale * (integer - zero_point)."""

    scale: float
    zero_point: int
    most: int = 255
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class CompressedModel:
    """A torch module in eval mode, the inputs it is traced with, and its number formats.

    `precision` holds the scheme of each layer (absent = float32), `stored` how the tensors that its integer layers read
    are kept, by the name of the node that makes them in the traced graph (graph/stored_tensors.py), `weight_scales` one
    scale for each output channel of the layers whose scales do not follow from their weights. The weights themselves
    stay the float ones: what rounds them are those three.
    """

    module: nn.Module
    example_inputs: tuple[torch.Tensor, ...]
    precision: dict[str, Scheme] = field(default_factory=dict)
    stored: dict[str, StoredAs] = field(default_factory=dict)
    weight_scales: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def integer_layers(self) -> list[str]:
        """The layers that compute with integers."""
        return [layer for layer, scheme in self.precision.items() if scheme.in_integers]

    @property
    def rounded_layers(self) -> list[str]:
        """The layers whose weights are rounded, those that compute with integers among them."""
        return [layer for layer, scheme in self.precision.items() if scheme.rounds_weights]
