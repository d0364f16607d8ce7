"""What the zoo knows about one network."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

__all__ = ["ZooEntry"]


@dataclass(frozen=True, kw_only=True)
class ZooEntry:
    """How to build a network and the one input it expects.

    `builder` takes (num_classes, in_channels) and returns a module with fresh random weights; `input_shape` is
    channels, height, width of one sample; `summary` a few words for the list of networks.
    """

    builder: Callable[[int, int], nn.Module]
    input_shape: tuple[int, int, int]
    summary: str
