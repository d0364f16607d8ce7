"""What a layer reads for one of its outputs, at random places of a batch: the rows of a least-squares problem."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

__all__ = ["ROWS_PER_ELEMENT", "Layer", "Places", "linear_layers"]

Layer = nn.Conv2d | nn.Linear

# Rows for each element of a filter. ResNet-20 of half the channels (l1), CIFAR-10, refitted and not trained: 4 give 38
# %, 16 50 %, 64 54 %, 128 55 % with twice the images; with norm statistics taken anew, before refit.py moved them.
ROWS_PER_ELEMENT = 64
# A narrower filter gets the rows of one with so many elements.
_LEAST_ELEMENTS = 256


def linear_layers(module: nn.Module) -> dict[str, Layer]:
    """Return the layers, by name, whose every output is a sum of products of one patch and one whole filter."""
    return {
        name: part
        for name, part in module.named_modules()
        if type(part) is nn.Linear
        or (
            type(part) is nn.Conv2d
            and part.groups == 1
            and part.padding_mode == "zeros"
            and not isinstance(part.padding, str)
        )
    }


@dataclass(frozen=True, kw_only=True)
class Places:
    """Some outputs of a layer in each image: `down` and `right` in pixels (of a linear layer all, both are empty)."""

    down: torch.Tensor
    right: torch.Tensor

    @classmethod
    def draw(
        cls, layer: Layer, output: torch.Tensor, generator: torch.Generator, *, rows_per_element: int = ROWS_PER_ELEMENT
    ) -> "Places":
        """Return as many places of `output`, the same in each image, as a fit of `layer` needs."""
        if not isinstance(layer, nn.Conv2d):
            return cls(down=torch.empty(0, dtype=torch.int64), right=torch.empty(0, dtype=torch.int64))
        images, _, height, width = output.shape
        rows = rows_per_element * max(_LEAST_ELEMENTS, layer.weight[0].numel())
        drawn = torch.randperm(height * width, generator=generator)[: math.ceil(rows / images)]
        return cls(down=drawn // width, right=drawn % width)

    def outputs(self, layer: Layer, output: torch.Tensor) -> torch.Tensor:
        """Return what `layer` gave at these places, [rows, channels]."""
        if isinstance(layer, nn.Conv2d):
            output = output[:, :, self.down, self.right].transpose(1, 2)
        return output.flatten(0, -2)

    def patches(self, layer: Layer, inputs: torch.Tensor) -> torch.Tensor:
        """Return what `layer` reads of `inputs` for them, [rows, elements of a filter]."""
        if not isinstance(layer, nn.Conv2d):
            return inputs.flatten(0, -2)
        down, right = (int(size) for size in layer.padding)
        padded = functional.pad(inputs, (right, right, down, down))
        (step_down, step_right), (far_down, far_right) = layer.stride, layer.dilation
        taps = [
            padded[:, :, self.down * step_down + y * far_down, self.right * step_right + x * far_right]
            for y in range(layer.kernel_size[0])
            for x in range(layer.kernel_size[1])
        ]
        # A tap is [images, channels, places]; a filter's elements are ordered by channel, then tap.
        return torch.stack(taps, dim=-1).transpose(1, 2).flatten(0, 1).flatten(1)
