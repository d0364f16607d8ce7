"""From a torch model to kernels that name their layers."""

import contextlib
import re
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from relay_passes.integer_arrays import IntegerArray
from relay_passes.weight_form import WeightForm
from tvm_prune.errors import (
    ExportError,
    InputShapeError,
    QuantizationError,
    UnlinkedLayerError,
    UnsupportedOperatorError,
)
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.fold import fold_batchnorm
from tvm_prune.graph.integer_ops import MOST, integer_weight
from tvm_prune.graph.stored_tensors import own_scales, rounding_graph

__all__ = ["Lowered", "Site", "lower", "lower_alike"]

_WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear)

# Operators that the importer of TVM 0.27 takes without decomposition and gets wrong: for batch norm it reads momentum
# as epsilon (wrong numbers, no error), of pixel shuffle it makes an operator that has no kernel.
_MISREAD = ("batch_norm", "pixel_shuffle")


@dataclass(frozen=True)
class Site:
    """One kernel call: the kernel's name in the fused module and the layers (dotted names) whose weights it reads."""

    kernel: str
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Lowered:
    """A model as the compiler sees it.

    `graph` is the channels-last Relax module with named weights, `placeholders` maps a weight's name there to the
    layer that owns it, `owners` to the tensor's dotted path in the folded module, `state` holds the weights (numpy,
    layout of torch) by that name, `inputs` the example inputs (numpy). `bits` holds, of weights that are read as
    integers, their bits and those of what is multiplied by them.
    """

    graph: Any
    placeholders: dict[str, str]
    owners: dict[str, str]
    state: dict[str, np.ndarray] = field(repr=False)
    inputs: tuple[np.ndarray, ...] = field(repr=False)
    bits: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The weights' shapes by name, in torch's layout."""
        return {name: array.shape for name, array in self.state.items()}

    def fuse(self, target: Any, forms: Mapping[str, WeightForm]) -> tuple[Any, tuple[Site, ...]]:
        """Return the fused module for a tvm target and its kernel calls; `forms` by placeholder of the weights.

        Raises UnsupportedOperatorError naming operators that TVM has no kernel for.
        """
        from relay_passes.legalize_once import operators_left
        from relay_passes.link_layers import call_sites
        from relay_passes.pipeline import fuse

        module = fuse(self.graph, target, forms)
        if left := operators_left(module):
            raise UnsupportedOperatorError(
                f"TVM has no kernel for channels-last {', '.join(left)}. Replace the operator in the model; a "
                "dilated nn.ConvTranspose2d, for one, by nn.Upsample and nn.Conv2d"
            )
        sites = []
        for site in call_sites(module):
            layers = dict.fromkeys(self.placeholders[name] for name in site.weights if name in self.placeholders)
            sites.append(Site(kernel=site.kernel, layers=tuple(layers)))
        return module, tuple(sites)


def lower(model: CompressedModel) -> Lowered:
    """Trace `model` and bring it to channels-last form with named weights.

    Raises ExportError, InputShapeError, UnsupportedOperatorError or UnlinkedLayerError, each saying what to change.
    """
    from tvm import relax

    from relay_passes.pipeline import graph_passes

    integers = model.integer_layers
    if model.rounded_layers:
        # Weights that are read as floats are rounded here; those that are read as integers, by the pass.
        floats = [layer for layer in model.rounded_layers if layer not in integers]
        module: nn.Module = _rounded(rounding_graph(model, weights=[]), model, floats)
    else:
        module = fold_batchnorm(model.module, model.example_inputs)
    program = export(module, model.example_inputs)
    detached, params = relax.frontend.detach_params(_imported(program))
    count = int(detached["main"].attrs["num_input"])
    names = [var.name for var in detached["main"].params[count:]]
    state = {name: np.ascontiguousarray(value.numpy()) for name, value in zip(names, params["main"], strict=True)}
    signature = program.graph_signature
    owners = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    owners.update(getattr(signature, "inputs_to_lifted_tensor_constants", {}))
    layer_of = _layer_names(model.module)
    placeholders = {
        name: layer_of[owner.rpartition(".")[0]]
        for name, owner in owners.items()
        if owner.rpartition(".")[0] in layer_of and owner.rpartition(".")[2] in ("weight", "bias")
    }
    bits: dict[str, tuple[int, int]] = {}
    if integers:
        detached, state, bits = _in_integers(detached, state, placeholders, model)
    lowered = Lowered(
        graph=graph_passes()(detached),
        placeholders=placeholders,
        owners={name: owners[name] for name in state if name in owners},
        state=state,
        inputs=_arrays(model),
        bits=bits,
    )
    _check_links(lowered, layer_of)
    return lowered


def _rounded(module: nn.Module, model: CompressedModel, layers: Collection[str]) -> nn.Module:
    """Round the weights of `layers` in `module`; returns it."""
    for layer in layers:
        weight = module.get_parameter(f"{layer}.weight")
        with torch.no_grad():
            weight.copy_(integer_weight(weight, model.precision[layer].weight_bits, own_scales(model, layer)))
    return module


def _in_integers(
    graph: Any, state: dict[str, np.ndarray], placeholders: Mapping[str, str], model: CompressedModel
) -> tuple[Any, dict[str, np.ndarray], dict[str, tuple[int, int]]]:
    """Return the graph with the integer layers in integers, the state with the arrays that these read, and the bits.

    Raises QuantizationError naming layers that cannot be in integers where they are called, or whose sums may overflow.
    """
    from relay_passes.integer_arrays import WeightFormat, integer_array
    from relay_passes.integer_graph import IntegerGraph

    formats, scales = {}, {}
    for name, layer in placeholders.items():
        if layer in model.integer_layers and state[name].ndim > 1:
            own = own_scales(model, layer)
            if own is not None:
                scales[f"{name}_scales"] = own.numpy()
            formats[name] = WeightFormat(
                bits=model.precision[layer].weight_bits, scales=None if own is None else f"{name}_scales"
            )
    passed = IntegerGraph(formats)
    graph = passed(graph)  # type: ignore[operator]  # the decorator makes it a pass
    if left := [placeholders[name] for name in formats if name not in passed.arrays]:
        raise QuantizationError(
            f"{', '.join(left)} cannot compute with integers where the model calls "
            f"{'it' if len(left) == 1 else 'them'}: leave {'it' if len(left) == 1 else 'them'} in float32 "
            f"({' '.join(f'--keep-float {layer}' for layer in left)})"
        )
    known = {**state, **scales}
    _check_sums(passed.arrays, known, placeholders)
    bits = {name: (formats[name].bits, max(1, most.bit_length())) for name, most in passed.most.items()}
    return graph, {**state, **{name: integer_array(made, known) for name, made in passed.arrays.items()}}, bits


def lower_alike(model: CompressedModel, known: Lowered) -> Lowered | None:
    """Lower `model` by giving the graph of `known`, a model of the same family, its weights: tenfold faster.

    None if the graph does not tell how it looks at other channel counts: then `lower` must trace the model.
    """
    from relay_passes.resize_channels import CannotResize, resize_channels

    if model.rounded_layers:
        return None
    folded = fold_batchnorm(model.module, model.example_inputs)
    tensors = {
        **dict(folded.named_parameters(remove_duplicate=False)),
        **dict(folded.named_buffers(remove_duplicate=False)),
    }
    if not set(known.owners.values()) <= tensors.keys():
        return None  # the trace has lifted a constant out of forward(), which may name a channel count
    state = {name: np.ascontiguousarray(tensors[owner].detach().numpy()) for name, owner in known.owners.items()}
    try:
        graph = resize_channels(known.graph, {name: array.shape for name, array in state.items()})
    except CannotResize:
        return None
    return replace(known, graph=graph, state=state, inputs=_arrays(model))


def _arrays(model: CompressedModel) -> tuple[np.ndarray, ...]:
    return tuple(tensor.detach().numpy() for tensor in model.example_inputs)


def _imported(program: torch.export.ExportedProgram) -> Any:
    """Return `program` as a Relax module. Raises UnsupportedOperatorError naming what has no converter.

    The importer is asked for the operators as they are first: taking them apart costs more than all else here. Only a
    model with an operator it does not know that way, or misreads, is decomposed.
    """
    from tvm.relax.frontend.torch import from_exported_program

    refused = (AssertionError, NotImplementedError, KeyError, ValueError, RuntimeError, TypeError)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, about its pytree, from inside the importer
        targets = " ".join(str(node.target) for node in program.graph.nodes if node.op == "call_function")
        if not any(name in targets for name in _MISREAD):
            with contextlib.suppress(*refused):
                return from_exported_program(
                    program, keep_params_as_input=True, run_ep_decomposition=False, custom_convert_map=_OWN
                )
        try:
            return from_exported_program(program, keep_params_as_input=True, custom_convert_map=_OWN)
        except refused as error:
            raise UnsupportedOperatorError(_operator_text(error)) from error


def _stored(node: torch.fx.Node, importer: Any) -> Any:
    """Convert graph/integer_ops.stored: relay_passes/integer_graph.py reads the pair of operators that it becomes."""
    from tvm import relax

    value, scale, zero_point, most = importer.retrieve_args(node)
    how = relax.const(scale, "float32"), relax.const(zero_point, "uint8")
    if most < MOST:
        # Of fewer bits than the integers have: the others are cut off before.
        value = importer.block_builder.emit(relax.op.clip(value, -zero_point * scale, (most - zero_point) * scale))
    return importer.block_builder.emit(
        relax.op.dequantize(importer.block_builder.emit(relax.op.quantize(value, *how, out_dtype="uint8")), *how)
    )


_OWN = {"stored.default": _stored}


def export(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.export.ExportedProgram:
    """Trace `module` in eval mode. Raises InputShapeError when it cannot run on `inputs`, ExportError otherwise."""
    module = module.eval()
    shapes = ", ".join(str(list(tensor.shape)) for tensor in inputs)
    with torch.no_grad():
        try:
            module(*inputs)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise InputShapeError(
                f"{type(module).__name__} does not run on inputs of shape {shapes}: {_first_line(error)}. "
                "Give the right shape, e.g. --input-shape 1,3,32,32 (repeat it for several inputs)."
            ) from error
        try:
            return torch.export.export(module, inputs)
        except (torch._dynamo.exc.TorchDynamoException, RuntimeError, ValueError, TypeError, AssertionError) as error:
            raise ExportError(
                f"torch.export cannot trace {type(module).__name__}: {_first_line(error)}. "
                "Data-dependent control flow (if, while, .item() on activations) must go; "
                "try torch.export.export(model, inputs) alone to see the full report."
            ) from error


def _layer_names(module: nn.Module) -> dict[str, str]:
    """Map every dotted path of a weighted module, aliases included, to its first name."""
    first: dict[int, str] = {}
    names = {}
    for name, child in module.named_modules(remove_duplicate=False):
        if isinstance(child, _WEIGHTED):
            names[name] = first.setdefault(id(child), name)
    return names


def _check_sums(arrays: Mapping[str, IntegerArray], state: Mapping[str, np.ndarray], layers: Mapping[str, str]) -> None:
    """Raise QuantizationError for a layer whose integer sums might not fit 32 bits."""
    from relay_passes.integer_arrays import LARGEST_SUM, largest_sums

    for weight, largest in largest_sums(arrays.values(), state).items():
        if largest > LARGEST_SUM:
            raise QuantizationError(
                f"the sums of {layers[weight]} may reach {largest:.3g}, beyond the 32 bits they have: leave the layer "
                f"in float32 (--keep-float {layers[weight]}), or calibrate on data that use its inputs' whole range"
            )


def _check_links(lowered: Lowered, layer_of: dict[str, str]) -> None:
    from relay_passes.hoist_weights import weight_entries

    compiled = {entry["name"] for entry in weight_entries(lowered.graph)}
    linked = {layer for name, layer in lowered.placeholders.items() if name in compiled}
    missing = sorted(set(layer_of.values()) - linked)
    if missing:
        raise UnlinkedLayerError(
            f"no compiled kernel reads the weights of {', '.join(missing)}: forward() does not use "
            f"{'it' if len(missing) == 1 else 'them'}. Remove the unused layers from the model, or call them."
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _operator_text(error: Exception) -> str:
    operators = sorted(set(re.findall(r"[\w.]*::?[\w.]+|\b\w+\.(?:default|Tensor|Scalar|int|dim)\b", str(error))))
    found = ", ".join(operators) if operators else _first_line(error)
    return f"TVM's importer has no converter for: {found}. Replace the operator in the model's forward()."
