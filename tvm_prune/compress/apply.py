"""How steps act on a model: prune steps checked against its groups and carried out in one cut, then a quantize step."""

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from tvm_prune.compress.quantize import apply_quantize, quantize_precision
from tvm_prune.compress.step import PruneStep, QuantizeStep, Step
from tvm_prune.errors import PruningError, RecipeError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.groups import Traced, cuts_of, near, trace
from tvm_prune.graph.surgery import prune_traced

__all__ = ["apply_steps", "check_order", "check_step", "kept_outputs"]


def apply_steps(model: CompressedModel, steps: Sequence[Step], *, traced: Traced | None = None) -> CompressedModel:
    """Return a new model with `steps` carried out in order; the given one is not changed.

    Several prune steps of one group are combined first, so that the cost does not grow with their number: removing
    channels changes neither the groups nor their names. `traced` is what `trace` says of the model, where it is known.
    Raises RecipeError for a step that does not fit the model, and for one after a quantize step.
    """
    check_order(steps)
    cuts = [step for step in steps if isinstance(step, PruneStep)]
    if cuts:
        traced = traced or trace(model.module, model.example_inputs)
        try:
            module = prune_traced(model.module, traced, _combined(model, traced, cuts))
        except PruningError as error:
            raise RecipeError(f"the recipe cannot be applied: {error}") from error
        model = replace(model, module=module)
    if steps and isinstance(steps[-1], QuantizeStep):
        model = apply_quantize(model, steps[-1], number=len(steps))
    return model


def check_order(steps: Sequence[Step]) -> None:
    """Raise RecipeError for a step after a quantize step: its scales are those of the channels at its time."""
    for number, step in enumerate(steps[:-1], start=1):
        if isinstance(step, QuantizeStep):
            raise RecipeError(f"step {number} quantizes, but step {number + 1} comes after it: quantize last.")


def kept_outputs(
    model: CompressedModel, steps: Sequence[PruneStep], *, traced: Traced | None = None
) -> dict[str, tuple[int, ...]]:
    """Return, for each convolution, linear layer and norm that `steps` thin, the output channels that it keeps.

    `traced` as above. Raises RecipeError for a step that does not fit the model.
    """
    traced = traced or trace(model.module, model.example_inputs)
    kept = {}
    for (layer, kind, side), removed in cuts_of(traced.groups, _combined(model, traced, steps)).items():
        if side == "out" and kind != "param":
            gone = set(removed.tolist())
            kept[layer] = tuple(
                channel for channel in range(_outputs(model.module.get_submodule(layer))) if channel not in gone
            )
    return kept


def _outputs(layer: nn.Module) -> int:
    for name in ("out_channels", "out_features", "num_features", "num_channels"):
        if hasattr(layer, name):
            return int(getattr(layer, name))
    raise AssertionError(f"{type(layer).__name__} has no output channels")


def _combined(model: CompressedModel, traced: Traced, steps: Sequence[PruneStep]) -> dict[str, tuple[int, ...]]:
    """Return which units of each group are left after all `steps`."""
    widths = {group.name: group.width for group in traced.groups}
    keep: dict[str, tuple[int, ...]] = {}
    for number, step in enumerate(steps, start=1):
        check_step(step, number=number)
        if step.group not in widths:
            raise RecipeError(
                f"step {number} prunes group {step.group!r}, which {type(model.module).__name__} does not have; "
                f"{near(step.group, widths)}. Apply the recipe to the model it was made from."
            )
        present = keep.get(step.group, tuple(range(widths[step.group])))
        if step.width != len(present):
            raise RecipeError(
                f"step {number} expects group {step.group!r} to be {step.width} wide, but it is {len(present)}. "
                "Apply the recipe to the model it was made from, with all its steps in order."
            )
        keep[step.group] = tuple(present[unit] for unit in step.keep)
    return keep


def check_step(step: Step, *, number: int) -> None:
    """Raise RecipeError for step `number` if its `keep` is not sorted, without repeats, in range and not empty.

    Of a quantize step, if it names a format that does not exist.
    """
    if isinstance(step, QuantizeStep):
        quantize_precision(step, number=number)
        return
    where = f"step {number} (group {step.group!r}, width {step.width})"
    if not step.keep:
        raise RecipeError(f"{where} keeps nothing; list at least one unit to keep.")
    if step.keep[0] < 0 or max(step.keep) >= step.width:
        raise RecipeError(f"{where} keeps units outside 0 to {step.width - 1}: {list(step.keep)}; correct the list.")
    if any(first >= second for first, second in zip(step.keep, step.keep[1:], strict=False)):
        raise RecipeError(f"{where} must list the units to keep in rising order, each once: {list(step.keep)}.")
