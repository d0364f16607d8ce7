"""Folding batch norm into the layer before it, in torch, where layers still have their names."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from tvm_prune.graph.running import copy_module, run, tensors_of

__all__ = ["fold_batchnorm"]


def fold_batchnorm(module: nn.Module, example_inputs: Sequence[torch.Tensor]) -> nn.Module:
    """Return a copy in eval mode where each batch norm that alone reads a conv or linear layer is folded into it.

    The layers keep their dotted names (one without a bias gets one); a folded batch norm becomes an Identity. Who reads
    what is recorded during one run on `example_inputs`, so that any forward() works. A batch norm is left as it is if
    it or its layer is called twice, if something else reads the layer's output, or if there are no running statistics.
    A layer of a class with a forward() of its own is folded only if that gives the same outputs: most such classes pad
    the image or the like, but some compute their weight anew. Raises InputShapeError if `module` does not run on
    `example_inputs`.
    """
    folded = copy_module(module).eval()
    replaced: dict[nn.Module, nn.Module] = {}
    for layer, norm, inputs in _pairs(folded, example_inputs):
        if not _fold(layer, norm, inputs):
            continue
        replaced[norm] = nn.Identity().eval()
    for part in list(folded.modules()):
        for name, child in part._modules.items():
            if child in replaced:
                part._modules[name] = replaced[child]
    return folded


class _CountUses(TorchDispatchMode):
    """Counts how many operators read each tensor object, and keeps the tensors so that no id is given twice."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types here
        self.uses: Counter[int] = Counter()
        self.kept: list[torch.Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator and count the tensors it reads."""
        read = tensors_of((args, kwargs or {}))
        self.kept.extend(read)
        self.uses.update(id(tensor) for tensor in read)
        return func(*args, **(kwargs or {}))


def _pairs(module: nn.Module, example_inputs: Sequence[torch.Tensor]) -> list[tuple[nn.Module, _BatchNorm, Any]]:
    """Run `module` once; return each (layer, batch norm that alone reads its output, inputs of the layer)."""
    made_by: dict[int, nn.Module] = {}
    inputs_of: dict[nn.Module, Any] = {}
    read_by: list[tuple[_BatchNorm, int]] = []
    calls: Counter[nn.Module] = Counter()
    kept: list[torch.Tensor] = []

    def remember(part: nn.Module, inputs: Any, output: Any) -> None:
        calls[part] += 1
        if isinstance(part, _BatchNorm):
            read_by.append((part, id(inputs[0])))
            kept.append(inputs[0])
        elif output.dim() == part.get_parameter("weight").dim():
            # Otherwise the output has no batch dimension, or further ones, and batch norm would see other channels.
            made_by[id(output)] = part
            inputs_of[part] = inputs
            kept.append(output)

    hooks = [part.register_forward_hook(remember) for part in module.modules() if _may_fold(part)]
    try:
        with torch.no_grad(), _CountUses() as counter:
            outputs = pytree.tree_leaves(run(module, example_inputs))
    finally:
        for hook in hooks:
            hook.remove()
    counter.uses.update(id(output) for output in outputs)
    return [
        (made_by[tensor], norm, inputs_of[made_by[tensor]])
        for norm, tensor in read_by
        if tensor in made_by and counter.uses[tensor] == 1 and calls[norm] == 1 and calls[made_by[tensor]] == 1
    ]


def _may_fold(part: nn.Module) -> bool:
    """Whether `part` is a batch norm whose arithmetic is known here, or a layer that may take one up."""
    if isinstance(part, _BatchNorm):
        known = type(part).forward is _BatchNorm.forward
        return known and part.running_mean is not None and part.running_var is not None
    if part._parameters.get("weight") is None:
        return False
    if isinstance(part, _ConvNd):
        return not (part.transposed and part.groups > 1)
    return isinstance(part, nn.Linear)


def _is_plain(layer: nn.Module) -> bool:
    """Whether the arithmetic of `layer` is torch's own."""
    return any(type(layer).forward is kind.forward for kind in _LAYERS)


_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
# Outputs of a layer with its own forward() may differ by that much of the largest one: the rounding of two sums.
_SAME = 1e-4


def _fold(layer: nn.Module, norm: _BatchNorm, inputs: Any) -> bool:
    """Fold `norm` into `layer`; take it back and return False if that changes what comes out, tried on noise."""
    if _is_plain(layer):
        _scale(layer, norm)
        return True
    before = (layer._parameters.get("weight"), layer._parameters.get("bias"))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            inputs = pytree.tree_map_only(torch.Tensor, torch.randn_like, inputs)
            expected = norm(layer(*inputs))
            _scale(layer, norm)
            found = layer(*inputs)
            same = float((found - expected).abs().max()) <= _SAME * float(expected.abs().max())
        except (RuntimeError, TypeError):
            same = False  # it takes keywords, whole numbers, or no bias
    if not same:
        layer._parameters["weight"], layer._parameters["bias"] = before
    return same


def _scale(layer: nn.Module, norm: _BatchNorm) -> None:
    """Scale the layer's filters and set its bias so that it gives what `norm` gave; computed in float64."""
    weight = layer.get_parameter("weight")
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.affine:
        gain = gain * norm.weight.detach().double()
    offset = -norm.running_mean.double() * gain
    if norm.affine:
        offset = offset + norm.bias.detach().double()
    bias = layer._parameters.get("bias")
    if bias is not None:
        offset = offset + bias.detach().double() * gain
    shape = [1] * weight.dim()
    shape[1 if isinstance(layer, _ConvNd) and layer.transposed else 0] = -1
    scaled = (weight.detach().double() * gain.reshape(shape)).to(weight.dtype)
    layer.weight = nn.Parameter(scaled, requires_grad=weight.requires_grad)
    layer.bias = nn.Parameter(offset.to(weight.dtype), requires_grad=weight.requires_grad)
