"""Dependency groups: the sets of channels that must be pruned together, and why some cannot be."""

import difflib
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from tvm_prune.errors import PruningError
from tvm_prune.graph.dependency import find_bundles
from tvm_prune.graph.running import analysis_copy, random_like
from tvm_prune.graph.slicing import Cuts, remove_channels
from tvm_prune.graph.trial_cut import why_wrong
from tvm_prune.graph.units import Bundle, Kind, Member, Side

__all__ = ["Group", "Ignored", "Member", "Traced", "cuts_of", "find_groups", "near", "trace"]

# A dotted name or glob of layers (a container stands for all layers inside), or a class of layers.
Ignored = str | type[nn.Module]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Channels that must be pruned together, over layers.

    `name` is the dotted name of the first layer that produces them in forward order (``name#2`` for a second group of
    the same layer), `width` the number of units that can be removed one by one, `unit` how many channels of that layer
    one unit is (more than 1 only for grouped convolutions and norms), `reason` why the group is not `prunable`.
    """

    name: str
    width: int
    unit: int
    members: tuple[Member, ...]
    prunable: bool
    reason: str = ""

    def producers(self) -> tuple[Member, ...]:
        """Return the members whose weights make the channels: conv, depthwise and linear, output side."""
        return tuple(
            member for member in self.members if member.side == "out" and member.kind in ("conv", "depthwise", "linear")
        )


@dataclass(frozen=True, kw_only=True)
class Traced:
    """The groups of a module as its graph shows them, with the analysis copy and the random inputs they come from."""

    probe: nn.Module
    inputs: tuple[torch.Tensor, ...]
    groups: tuple[Group, ...]

    def why_wrong(self, keep: Mapping[str, Sequence[int]]) -> str:
        """Return why cutting each group named in `keep` to those units gives a wrong network; empty if it does not."""
        cuts = cuts_of(self.groups, keep)
        return why_wrong(self.probe, remove_channels(self.probe, cuts), self.inputs, cuts=cuts)


def find_groups(
    module: nn.Module, example_inputs: Sequence[torch.Tensor], *, ignored_layers: Sequence[Ignored] = ()
) -> tuple[Group, ...]:
    """Return every dependency group of `module`, in forward order, each tried once by really cutting units out.

    A group that holds an output or input of the network, an output dimension of an ignored layer, or whose trial cut
    gives a wrong network is listed with `prunable` False and a `reason`. An ignored layer keeps its output channels;
    its input may shrink. Raises PruningError for a pattern that matches no layer, InputShapeError if `module` does not
    run on `example_inputs`.
    """
    traced = trace(module, example_inputs, ignored_layers=ignored_layers)
    together = {
        group.name: _trial_keep(group, 1 + number % 3) for number, group in enumerate(traced.groups) if _cuttable(group)
    }
    if not traced.why_wrong(together):
        return traced.groups
    return tuple(_tried(traced, group) if _cuttable(group) else group for group in traced.groups)


def trace(
    module: nn.Module, example_inputs: Sequence[torch.Tensor], *, ignored_layers: Sequence[Ignored] = ()
) -> Traced:
    """Return the groups of `module` without any trial cut; errors as `find_groups`."""
    probe, inputs = analysis_copy(module), random_like(example_inputs)
    ignored = _ignored_names(probe, ignored_layers)
    groups: list[Group] = []
    seen: dict[str, int] = {}
    for bundle in find_bundles(probe, inputs):
        first = bundle.members[0].layer
        seen[first] = seen.get(first, 0) + 1
        name = first if seen[first] == 1 else f"{first}#{seen[first]}"
        groups.append(_group(bundle, name, ignored=ignored))
    return Traced(probe=probe, inputs=inputs, groups=tuple(groups))


def cuts_of(groups: Iterable[Group], keep: Mapping[str, Sequence[int]]) -> Cuts:
    """Return which channels each layer loses when of each group named in `keep` only those units stay."""
    cuts: dict[tuple[str, Kind, Side], np.ndarray] = {}
    for group in groups:
        if group.name not in keep:
            continue
        removed = np.setdiff1d(np.arange(group.width), np.asarray(keep[group.name], dtype=np.int64))
        if not removed.size:
            continue
        for member in group.members:
            channels = np.array(member.channels, dtype=np.int64).reshape(group.width, -1)[removed].ravel()
            place = (member.layer, member.kind, member.side)
            cuts[place] = np.union1d(cuts[place], channels) if place in cuts else np.sort(channels)
    return cuts


def near(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the nearest known ones, or the first few."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names[:5]
    return f"near names: {', '.join(close)}" if close else "there are none"


def _group(bundle: Bundle, name: str, *, ignored: set[str]) -> Group:
    members = bundle.members
    reasons = [bundle.reason + _bare_parameters(members)] if bundle.reason else []
    reasons += [f"{member.layer} is ignored" for member in members if member.side == "out" and member.layer in ignored]
    return Group(
        name=name,
        width=bundle.width,
        unit=members[0].channels_per_unit,
        members=members,
        prunable=not reasons,
        reason="; ".join(reasons),
    )


def _ignored_names(module: nn.Module, patterns: Sequence[Ignored]) -> set[str]:
    """Return the dotted names of all modules and parameters that `patterns` cover."""
    parts = dict(module.named_modules())
    names = [*(name for name in parts if name), *(name for name, _ in module.named_parameters())]
    found: set[str] = set()
    for pattern in patterns:
        if isinstance(pattern, str):
            hits = fnmatch.filter(names, pattern)
            if not hits:
                raise PruningError(
                    f"ignored_layers: {pattern!r} matches no layer of {type(module).__name__}; {near(pattern, names)}. "
                    "Give a dotted name, a glob such as 'layers.*.conv1', or a class such as torch.nn.Linear."
                )
        else:
            hits = [name for name, part in parts.items() if name and isinstance(part, pattern)]
            if not hits:
                kinds = ", ".join(sorted({type(part).__name__ for part in parts.values()}))
                raise PruningError(
                    f"ignored_layers: {type(module).__name__} has no layer of type {pattern.__name__}; it has {kinds}."
                )
        found.update(name for name in names if any(name == hit or name.startswith(f"{hit}.") for hit in hits))
    return found


def _cuttable(group: Group) -> bool:
    return group.prunable and group.width > 1


def _trial_keep(group: Group, count: int) -> tuple[int, ...]:
    """Return all units but `count` of the first ones, never none."""
    return tuple(range(min(count, group.width - 1), group.width))


def _tried(traced: Traced, group: Group) -> Group:
    """Return `group`, unprunable with the reason if cutting it alone goes wrong."""
    reason = traced.why_wrong({group.name: _trial_keep(group, 1)})
    if not reason:
        return group
    return replace(group, prunable=False, reason=reason + _bare_parameters(group.members))


def _bare_parameters(members: Sequence[Member]) -> str:
    """Return the end of a reason that names the bare parameters, as their channel dimension is a guess."""
    bare = [member.layer for member in members if member.kind == "param"]
    return f" (bare parameters involved: {', '.join(bare)})" if bare else ""
