"""Names for models: one for what is computed (not the weight values), one for that without the channel counts."""

import hashlib
import json
import re
from typing import Any

import torch
from torch import nn

from tvm_prune.codec import encode
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.running import evaluating, run, tensors_of

__all__ = ["family", "fingerprint"]

# How torch prints channel counts in a layer's settings: the first numbers of Conv2d and BatchNorm2d, else named ones.
_COUNTS = re.compile(r"^\d+(, \d+)?|\b(in_features|out_features|num_features|num_channels|groups)=\d+")


def fingerprint(model: CompressedModel) -> str:
    """Return sha256 (hex) of what `model` computes: equal for two models that differ in weight values only.

    It covers names, types and settings of all modules, shapes and dtypes of parameters and buffers, the precision of
    each layer, the shapes of inputs and outputs, and the order of calls of the innermost modules with the shapes they
    saw. Arithmetic written directly in a forward() shows only through those shapes, unless the module was traced: then
    its code counts. Raises InputShapeError if the module does not run on its example inputs.
    """
    module = model.module
    content = {
        "modules": [[name, type(part).__qualname__, _settings(part)] for name, part in module.named_modules()],
        "tensors": [
            [name, list(tensor.shape), str(tensor.dtype)]
            for named in (module.named_parameters(), module.named_buffers())
            for name, tensor in named
        ],
        "precision": {name: encode(scheme) for name, scheme in model.precision.items()},
        "inputs": [_described(value) for value in model.example_inputs],
        "calls": _calls(model),
    }
    if model.stored:
        # What a zero point adds is a part of the code.
        content["stored"] = {name: how.zero_point != 0 for name, how in model.stored.items()}
    return _digest(content)


def family(model: CompressedModel) -> str:
    """Return sha256 (hex) that `model` shares with every model made of it by removing channels.

    It covers what `fingerprint` does, but of settings and of the tensors between layers not the channel counts. Raises
    InputShapeError if the module does not run on its example inputs.
    """
    module = model.module
    content = {
        "modules": [
            [name, type(part).__qualname__, _COUNTS.sub("", _settings(part))] for name, part in module.named_modules()
        ],
        "tensors": sorted(module.state_dict()),
        "precision": {name: encode(scheme) for name, scheme in model.precision.items()},
        "inputs": [_described(value) for value in model.example_inputs],
        "calls": [[name, *([shape[2:] for shape, _ in values] for values in ends)] for name, *ends in _calls(model)],
    }
    return _digest(content)


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _described(tensor: torch.Tensor) -> list[Any]:
    return [list(tensor.shape), str(tensor.dtype)]


def _settings(part: nn.Module) -> str:
    """Return a leaf's settings as torch prints them (stride, padding, groups, eps ...), of a traced module its code."""
    if isinstance(part, torch.fx.GraphModule):
        return str(part.code)
    return part.extra_repr() if not part._modules else ""


def _calls(model: CompressedModel) -> list[Any]:
    """Run the module once; return (name, input shapes, output shapes) of every leaf call in order, then the outputs."""
    names = {part: name for name, part in model.module.named_modules()}
    calls: list[Any] = []

    def remember(part: nn.Module, inputs: Any, output: Any) -> None:
        shapes = [[_described(value) for value in tensors_of(values)] for values in (inputs, output)]
        calls.append([names[part], *shapes])

    hooks = [part.register_forward_hook(remember) for part in names if not part._modules]
    try:
        with torch.no_grad(), evaluating(model.module):
            output = run(model.module, model.example_inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return [*calls, ["output", [_described(value) for value in tensors_of(output)]]]
