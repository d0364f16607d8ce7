"""How much each unit of a group matters: one score a unit, comparable between groups."""

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from tvm_prune.errors import PruningError
from tvm_prune.graph.groups import Group, Member
from tvm_prune.graph.obs import Moments, surgeon_scores
from tvm_prune.graph.running import evaluating

__all__ = ["CRITERIA", "Gradients", "accumulate_gradients", "importance"]

# Mean gradient of the loss by dotted parameter name.
Gradients = Mapping[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class _Scoring:
    """What a criterion may look at."""

    module: nn.Module
    group: Group
    gradients: Gradients = field(default_factory=dict)
    moments: Moments = field(default_factory=dict)
    seed: int = 0


def importance(
    module: nn.Module,
    group: Group,
    criterion: str,
    *,
    gradients: Gradients | None = None,
    moments: Moments | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Return one score for each unit of `group`, float64 [width], mean 1 (all ones where every score is 0).

    The scores of all members that produce the group's channels are added before the mean is divided out. `criterion`
    is one of CRITERIA; `gradients` is what `accumulate_gradients` gave, read by "taylor" only, as `moments`, what
    `second_moments` gave, by "obs" and `seed` by "random".
    Raises PruningError for an unknown criterion, one that the group cannot answer, and a group of another module.
    """
    if criterion not in CRITERIA:
        raise PruningError(f"unknown criterion {criterion!r}; choose one of {', '.join(sorted(CRITERIA))}.")
    if criterion == "taylor" and gradients is None:
        raise PruningError(
            "criterion 'taylor' needs gradients: pass gradients=accumulate_gradients(module, batches, loss)."
        )
    if criterion == "obs" and moments is None:
        raise PruningError("criterion 'obs' needs moments: pass moments=second_moments(module, inputs).")
    scoring = _Scoring(module=module, group=group, gradients=gradients or {}, moments=moments or {}, seed=seed)
    with torch.no_grad():
        scores = CRITERIA[criterion](scoring)
    mean = scores.mean()
    return scores / mean if mean > 0 else np.ones(group.width)


def accumulate_gradients(
    module: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> dict[str, torch.Tensor]:
    """Return the gradient of `loss(module(inputs), labels)` by parameter name, averaged over `batches`.

    `module` runs in eval mode; neither its parameters nor their own gradients are changed. Raises PruningError for no
    batches.
    """
    parameters = {name: parameter.detach().requires_grad_(True) for name, parameter in module.named_parameters()}
    sums = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    count = 0
    with torch.enable_grad(), evaluating(module):
        for inputs, labels in batches:
            value = loss(torch.func.functional_call(module, parameters, (inputs,)), labels)
            found = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
            for name, gradient in zip(parameters, found, strict=True):
                if gradient is not None:
                    sums[name] += gradient
            count += 1
    if not count:
        raise PruningError("accumulate_gradients was given no batches; give at least one (inputs, labels).")
    return {name: total / count for name, total in sums.items()}


def _per_unit(group: Group, member: Member, per_channel: torch.Tensor) -> np.ndarray:
    """Return the sum over each unit's channels, float64 [width]. Raises PruningError if the layer is too narrow."""
    channels = np.array(member.channels, dtype=np.int64)
    if channels.max() >= len(per_channel):
        raise PruningError(
            f"group {group.name!r} says that {member.layer} has channel {channels.max()}, but it has "
            f"{len(per_channel)} channels: the group is of another module. Call find_groups on this module."
        )
    values = per_channel.double().cpu().numpy()[channels].reshape(group.width, -1)
    total: np.ndarray = values.sum(axis=1)
    return total


def _filters(layer: nn.Module, values: torch.Tensor) -> torch.Tensor:
    """Return a weight, or a tensor of its shape, as float64 [out channels, values of one filter]."""
    if isinstance(layer, _ConvNd) and layer.transposed:
        values = values.transpose(0, 1)
    return values.detach().double().flatten(1)


def _over_producers(scoring: _Scoring, score: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
    """Add `score` ([out, filter size] -> [out]) of the weights of all producing members."""
    total = np.zeros(scoring.group.width)
    for member in scoring.group.producers():
        layer = scoring.module.get_submodule(member.layer)
        total += _per_unit(scoring.group, member, score(_filters(layer, layer.get_parameter("weight"))))
    return total


def _l1(scoring: _Scoring) -> np.ndarray:
    """Sum of absolute weights (Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017, section 3.1)."""
    return _over_producers(scoring, lambda filters: filters.abs().sum(dim=1))


def _l2(scoring: _Scoring) -> np.ndarray:
    """Euclidean norm of a filter (He et al., Soft Filter Pruning, IJCAI 2018, equation 2 with p = 2)."""
    return _over_producers(scoring, lambda filters: filters.norm(dim=1))


def _fpgm(scoring: _Scoring) -> np.ndarray:
    """Sum of distances to all other filters (He et al., Filter Pruning via Geometric Median, CVPR 2019, equation 6)."""
    return _over_producers(scoring, lambda filters: torch.cdist(filters, filters).sum(dim=1))


def _bn_scale(scoring: _Scoring) -> np.ndarray:
    """Absolute scale of batch norm (Liu et al., Network Slimming, ICCV 2017, section 3)."""
    total, found = np.zeros(scoring.group.width), False
    for member in scoring.group.members:
        if member.kind == "norm":
            layer = scoring.module.get_submodule(member.layer)
            if isinstance(layer, _BatchNorm) and layer.affine:
                total += _per_unit(scoring.group, member, layer.weight.abs())
                found = True
    if not found:
        raise PruningError(
            f"group {scoring.group.name!r} has no batch norm with a scale, so that 'bn-scale' cannot rank it; "
            "use 'l1', 'l2' or 'fpgm'."
        )
    return total


def _taylor(scoring: _Scoring) -> np.ndarray:
    """First-order change of the loss (Molchanov et al., Importance Estimation for Neural Network Pruning, CVPR 2019).

    Equation 8: the squared sum of weight x gradient over all that makes a channel; here with the mean gradient.
    """
    total = np.zeros(scoring.group.width)
    for member in scoring.group.members:
        if member.side == "in" or member.kind == "param":
            continue
        layer = scoring.module.get_submodule(member.layer)
        change: torch.Tensor | None = None
        for label, parameter in layer.named_parameters(recurse=False):
            name = f"{member.layer}.{label}"
            if name not in scoring.gradients:
                raise PruningError(
                    f"gradients hold nothing for {name}; call accumulate_gradients on the module that is scored."
                )
            product = parameter * scoring.gradients[name]
            part = _filters(layer, product).sum(dim=1) if product.dim() > 1 else product.double()
            change = part if change is None else change + part
        if change is not None:
            total += _per_unit(scoring.group, member, change.square())
    return total


def _obs(scoring: _Scoring) -> np.ndarray:
    """Error of the layers that read the channel, once they are fitted anew without it (see obs.py)."""
    group = scoring.group
    scores = surgeon_scores(scoring.module, group.members, width=group.width, moments=scoring.moments)
    # Where only depthwise or grouped layers read a group, nothing can take over for a channel.
    return _l1(scoring) if scores is None else scores


def _random(scoring: _Scoring) -> np.ndarray:
    """Uniform in (0, 1], from the seed and the group's name: the baseline every other criterion must beat."""
    generator = np.random.default_rng([scoring.seed, zlib.crc32(scoring.group.name.encode())])
    return 1.0 - generator.random(scoring.group.width)


CRITERIA: dict[str, Callable[[_Scoring], np.ndarray]] = {
    "bn-scale": _bn_scale,
    "fpgm": _fpgm,
    "l1": _l1,
    "l2": _l2,
    "obs": _obs,
    "random": _random,
    "taylor": _taylor,
}
