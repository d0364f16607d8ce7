"""The quantize step: made from what a network holds on calibration data, and carried out."""

from collections.abc import Mapping
from dataclasses import replace

from tvm_prune.compress.calibrate import Observer, Seen, ranges
from tvm_prune.compress.step import QuantizeStep
from tvm_prune.compress.weight_ranges import ENOUGH_BITS, fitted_scales
from tvm_prune.errors import QuantizationError, RecipeError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.fold import fold_batchnorm
from tvm_prune.graph.groups import near
from tvm_prune.graph.scheme import Scheme
from tvm_prune.graph.stored_tensors import integer_capable, layers_of, stored_nodes, traced_graph

__all__ = ["apply_quantize", "quantize_precision", "step_of", "with_precision"]


def with_precision(
    model: CompressedModel, precision: Mapping[str, Scheme], seen: Mapping[str, Seen], *, observer: Observer = "mse"
) -> CompressedModel:
    """Return `model`, batch norms folded, with `precision`, and ranges from `seen` (calibrate.observe).

    Raises QuantizationError for a layer that the model does not have, or that cannot compute with integers.
    """
    folded = fold_batchnorm(model.module, model.example_inputs)
    made = replace(model, module=folded, precision=dict(precision), stored={}, weight_scales={})
    graph = traced_graph(made).graph
    known, capable = layers_of(graph), integer_capable(graph)
    for layer, scheme in precision.items():
        if layer not in known:
            raise QuantizationError(f"there is no layer {layer!r} to quantize; {near(layer, known)}")
        if scheme.in_integers and layer not in capable:
            raise QuantizationError(
                f"layer {layer!r} has no integer form: linear layers of rows have, and convolutions of one group or "
                f"depthwise. Its weights alone can be rounded (w{scheme.weight_bits})"
            )
    scales = {
        layer: tuple(fitted_scales(folded.get_parameter(f"{layer}.weight"), scheme.weight_bits).tolist())
        for layer, scheme in precision.items()
        if scheme.weight_bits < ENOUGH_BITS and scheme.fraction_bits is None
    }
    return replace(made, stored=ranges(made, seen, observer=observer), weight_scales=scales)


def step_of(model: CompressedModel) -> QuantizeStep:
    """Return the step that gives a model of this shape the number formats of `model`."""
    precision = {layer: str(scheme) for layer, scheme in model.precision.items() if scheme.rounds_weights}
    scales = {layer: found for layer, found in model.weight_scales.items() if layer in precision}
    return QuantizeStep(precision=precision, stored=model.stored, weight_scales=scales)


def apply_quantize(model: CompressedModel, step: QuantizeStep, *, number: int) -> CompressedModel:
    """Carry out `step`, the recipe's step `number`. Raises RecipeError where it does not fit the model."""
    made = replace(
        model,
        module=fold_batchnorm(model.module, model.example_inputs),
        precision=quantize_precision(step, number=number),
        stored=dict(step.stored),
        weight_scales=dict(step.weight_scales),
    )
    graph = traced_graph(made).graph
    known = layers_of(graph)
    for layer in (*step.precision, *step.weight_scales):
        if layer not in known:
            raise RecipeError(f"step {number} quantizes layer {layer!r}, which is not there; {near(layer, known)}")
    for node in stored_nodes(graph, made.integer_layers):
        if node.name not in step.stored:
            raise RecipeError(
                f"step {number} does not say how tensor {node.name!r} is stored. Quantize the model it was made from "
                "with this version of torch: it names tensors by the operators that make them."
            )
    for layer, scales in step.weight_scales.items():
        channels = len(made.module.get_parameter(f"{layer}.weight"))
        if len(scales) != channels:
            raise RecipeError(f"step {number} has {len(scales)} scales for layer {layer!r} of {channels} channels.")
    return made


def quantize_precision(step: QuantizeStep, *, number: int) -> dict[str, Scheme]:
    """Return the schemes that `step` names. Raises RecipeError for a name that is none."""
    try:
        return {layer: Scheme.parse(name) for layer, name in step.precision.items()}
    except QuantizationError as error:
        raise RecipeError(f"step {number}: {error}") from error
