"""The one value that compress makes, oracle lowers and search passes on."""

from dataclasses import dataclass, field

import torch
from torch import nn

__all__ = ["INT8", "CompressedModel", "Scheme", "StoredAs"]


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """Number format of one layer's weights and activations: float32 both, or int8 weights and uint8 activations."""

    weights: str = "float32"
    activations: str = "float32"


INT8 = Scheme(weights="int8", activations="uint8")


@dataclass(frozen=True, kw_only=True)
class StoredAs:
    """How the integers 0..255 stand for a tensor: x = scale * (integer - zero_point)."""

    scale: float
    zero_point: int


@dataclass(frozen=True, kw_only=True)
class CompressedModel:
    """A torch module in eval mode, the inputs it is traced with, and its number formats.

    `precision` holds the scheme of each layer (absent = float32), `stored` how the tensors that its integer layers read
    are kept, by the name of the node that makes them in the traced graph (graph/stored_tensors.py).
    """

    module: nn.Module
    example_inputs: tuple[torch.Tensor, ...]
    precision: dict[str, Scheme] = field(default_factory=dict)
    stored: dict[str, StoredAs] = field(default_factory=dict)

    @property
    def integer_layers(self) -> list[str]:
        """The layers that compute with integers."""
        return [layer for layer, scheme in self.precision.items() if scheme == INT8]
