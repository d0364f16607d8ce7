"""Pruning groups for real: a new, physically smaller module of the same class."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from tvm_prune.errors import PruningError
from tvm_prune.graph.groups import Group, Ignored, Traced, cuts_of, near, trace
from tvm_prune.graph.slicing import remove_channels
from tvm_prune.graph.trial_cut import why_wrong

__all__ = ["prune_groups", "prune_traced"]


def prune_groups(
    module: nn.Module,
    example_inputs: Sequence[torch.Tensor],
    keep: Mapping[str, Sequence[int]],
    *,
    ignored_layers: Sequence[Ignored] = (),
) -> nn.Module:
    """Return a copy of `module` in which each group named in `keep` has only those units, in their old order.

    Names and unit numbers are those of `find_groups`; groups not named stay whole; `module` is not changed. The result
    is run once beside the masked original and returned only if both agree. Raises PruningError for an unknown or
    unprunable group, for indices that are empty, repeated or out of range, and for a result that does not agree.
    """
    return prune_traced(module, trace(module, example_inputs, ignored_layers=ignored_layers), keep)


def prune_traced(module: nn.Module, traced: Traced, keep: Mapping[str, Sequence[int]]) -> nn.Module:
    """Do what `prune_groups` does for a `module` traced before."""
    by_name = {group.name: group for group in traced.groups}
    for name, units in keep.items():
        if name not in by_name:
            raise PruningError(
                f"{type(module).__name__} has no group {name!r}; {near(name, by_name)}. "
                "find_groups(module, example_inputs) lists them all."
            )
        _check_units(by_name[name], units)
    cuts = cuts_of(traced.groups, keep)
    smaller = remove_channels(module, cuts)
    reason = why_wrong(traced.probe, smaller, traced.inputs, cuts=cuts)
    if reason:
        raise PruningError(
            f"channels of {', '.join(keep)} cannot be removed from {type(module).__name__}: {reason}. "
            "find_groups(module, example_inputs) says which groups are safe; name the others in ignored_layers."
        )
    return smaller


def _check_units(group: Group, units: Sequence[int]) -> None:
    if not units:
        raise PruningError(f"group {group.name!r}: keep is empty; keep at least one of its {group.width} units.")
    outside = [unit for unit in units if not 0 <= unit < group.width]
    if outside:
        raise PruningError(
            f"group {group.name!r}: units {outside} are out of range; it has units 0 to {group.width - 1}."
        )
    if len(set(units)) != len(units):
        twice = sorted({unit for unit in units if list(units).count(unit) > 1})
        raise PruningError(f"group {group.name!r}: units {twice} are listed twice; list each unit to keep once.")
    if not group.prunable and len(units) < group.width:
        raise PruningError(f"group {group.name!r} cannot be pruned: {group.reason}.")
