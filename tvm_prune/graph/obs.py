"""Optimal brain surgeon for channels: what it costs to do without each, once the others have taken over its work.

A layer y = W x that may no longer read some elements S of x loses least, over its inputs, by
tr(W_S (H^-1_SS)^-1 W_S^T), H = E[x x^T], if the rest of W is set anew (Hassibi and Stork, 1993, equation 5; for
structures Kurtic et al., "ZipLM", NeurIPS 2023, section 3.1). Channels go one after the other, each time the one that
is missed least, so that of two that tell the same only one is cheap.
"""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from tvm_prune.graph.patches import Layer, Places, linear_layers
from tvm_prune.graph.running import copy_module
from tvm_prune.graph.units import Member

__all__ = ["Moments", "second_moments", "surgeon_scores"]

# E[x x^T] of what a layer reads, by its dotted name: float64 [elements of a filter, elements of a filter].
Moments = Mapping[str, torch.Tensor]

# Of the mean squared input, added to all of them: directions that the sample hardly shows are not trusted.
_DAMPING = 5e-2
# Wide groups lose several units between two updates of the inverse, which cost the cube of the width together.
_MOST_ROUNDS = 64


def second_moments(module: nn.Module, inputs: torch.Tensor, *, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return the second moments of what each convolution without groups and each linear layer reads.

    `module` runs once on the batch `inputs` [N, ...] in eval mode; rows are taken at random places, drawn from `seed`.
    """
    watched = copy_module(module).eval()
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, torch.Tensor] = {}
    with torch.no_grad(), contextlib.ExitStack() as hooks:
        for name, layer in linear_layers(watched).items():

            def look(_: nn.Module, args: Any, output: torch.Tensor, name: str = name, layer: Layer = layer) -> None:
                rows = Places.draw(layer, output, generator).patches(layer, args[0])
                moments = (rows.T @ rows).double() / rows.shape[0]
                # A layer that runs several times reads all of it.
                found[name] = found[name] + moments if name in found else moments

            hooks.callback(layer.register_forward_hook(look).remove)
        watched(inputs)
    return found


def surgeon_scores(
    module: nn.Module, members: tuple[Member, ...], *, width: int, moments: Moments
) -> np.ndarray | None:
    """Return what each of `width` units costs to remove, float64 [width], None if nothing in `moments` reads them.

    The cost is the error of each reading layer over the energy of its output, added over layers, at the point of a
    greedy removal where the unit goes; later ones never cost less than earlier ones.
    """
    readers = [
        _Reader.of(module.get_submodule(member.layer), member, width=width, moments=moments[member.layer])
        for member in members
        if member.side == "in" and member.layer in moments
    ]
    if not readers:
        return None
    scores = np.zeros(width)
    left = torch.arange(width)
    at_once = math.ceil(width / _MOST_ROUNDS)
    highest = 0.0
    with torch.no_grad():
        while len(left):
            errors = torch.stack([reader.errors(left) for reader in readers]).sum(dim=0)
            going = errors.argsort(stable=True)[:at_once]
            for place in going.tolist():
                highest = max(highest, float(errors[place]))
                scores[left[place]] = highest
            gone = left[going]
            left = left[~torch.isin(left, gone)]
            if len(left):
                for reader in readers:
                    reader.remove(gone)
    return scores


@dataclass(kw_only=True)
class _Reader:
    """One layer that reads the units: its weights [outputs, elements] and H^-1 as far as units have been removed.

    `elements` [units, elements of one] says which elements of a filter read a unit.
    """

    weight: torch.Tensor
    inverse: torch.Tensor
    elements: torch.Tensor
    energy: torch.Tensor

    @classmethod
    def of(cls, layer: nn.Module, member: Member, *, width: int, moments: torch.Tensor) -> "_Reader":
        weight = layer.get_parameter("weight").detach().flatten(1).double()
        taps = weight.shape[1] // layer.get_parameter("weight").shape[1]
        channels = torch.as_tensor(member.channels).reshape(width, -1, 1)
        damped = moments.clone()
        damped.diagonal().add_(_DAMPING * moments.diagonal().mean().clamp(min=1e-30))
        return cls(
            weight=weight,
            inverse=torch.linalg.inv(damped),
            elements=(channels * taps + torch.arange(taps)).flatten(1),
            energy=((weight @ moments) * weight).sum().clamp(min=1e-30),
        )

    def errors(self, units: torch.Tensor) -> torch.Tensor:
        """Return the relative error of doing without each of `units` alone, float64 [units]."""
        elements = self.elements[units]
        blocks = torch.linalg.inv(self.inverse[elements[:, :, None], elements[:, None, :]])
        weight = self.weight[:, elements].transpose(0, 1)
        errors: torch.Tensor = ((weight @ blocks) * weight).sum(dim=(1, 2))
        return errors / self.energy

    def remove(self, units: torch.Tensor) -> None:
        """Set the weights anew without `units`, and take them out of the inverse."""
        gone = self.elements[units].flatten()
        rows = self.inverse[gone]
        block = torch.linalg.inv(rows[:, gone])
        self.weight -= self.weight[:, gone] @ block @ rows
        self.inverse -= rows.T @ block @ rows
        # What is left there by rounding must not come back.
        self.weight[:, gone] = 0
        self.inverse[gone] = 0
        self.inverse[:, gone] = 0
