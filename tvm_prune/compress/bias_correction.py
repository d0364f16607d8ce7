"""Bias correction: what rounding adds to the mean of a layer's outputs is taken off its bias.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2 and appendix D:
the empirical form, with means over data.
"""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import nn

from tvm_prune.compress.layer_walk import Change, Layer, Told, walk
from tvm_prune.graph.compressed import CompressedModel

__all__ = ["correct_biases"]


def correct_biases(
    model: CompressedModel, exact: nn.Module, batches: Iterable[torch.Tensor], *, told: Told | None = None
) -> CompressedModel:
    """Return `model` with biases that give each rounded layer's output channels the means of the float network.

    `exact` is the float network that `model` was rounded from; means are over the images of `batches` and all their
    positions. A layer reads what the corrected layers before it make. One without a bias is left alone: a recipe could
    not give it one. Raises QuantizationError for no batches.
    """
    return replace(model, module=walk(model, exact, batches, _corrected, told=told))


def _corrected(layer: Layer) -> Change:
    if layer.bias is None:
        return Change()
    error = layer.exact.double() - layer.output().double()
    # Channels are on the second axis of images, and on the last of rows and sequences.
    channels = error.movedim(1 if error.dim() == 4 else -1, 0)
    return Change(bias=layer.bias + channels.reshape(len(layer.bias), -1).mean(dim=1).to(layer.bias.dtype))
