"""The one value that compress makes, oracle lowers and search passes on."""

from dataclasses import dataclass, field

import torch
from torch import nn

__all__ = ["CompressedModel", "Scheme"]


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """Number format of one layer's weights and activations. Only float32 exists so far."""

    weights: str = "float32"
    activations: str = "float32"


@dataclass(frozen=True, kw_only=True)
class CompressedModel:
    """A torch module in eval mode, the inputs it is traced with, and the precision of each layer (absent = float32)."""

    module: nn.Module
    example_inputs: tuple[torch.Tensor, ...]
    precision: dict[str, Scheme] = field(default_factory=dict)
