"""Tasks of a lowered model: distinct kernels, the variants that may stand in for each, and the layers they compute."""

import math
from dataclasses import dataclass, replace
from typing import Any

from tvm_prune.oracle.lower import Lowered
from tvm_prune.oracle.program import Task
from tvm_prune.oracle.target import Target

__all__ = ["Kernel", "TaskGraph", "Variant", "task_graph"]


@dataclass(frozen=True)
class Kernel:
    """An unscheduled PrimFunc; `key` is its structural hash, as the records' workloads carry it.

    `shape` says in a few words what it computes, for who watches the tuning.
    """

    key: str
    function: Any
    shape: str = ""

    def workload_json(self) -> Any:
        """Return the workload as the tuning database writes it; the large half is the module's own JSON."""
        import tvm
        from tvm.s_tir.meta_schedule.database import Workload

        found = Workload(tvm.IRModule({"main": self.function})).as_json()
        return [str(found[0]), str(found[1])]


@dataclass(frozen=True)
class Variant:
    """One way to compute a task: as it is (`padded_channels` None), or with its output channels padded."""

    padded_channels: int | None
    kernel: Kernel


@dataclass(frozen=True)
class TaskGraph:
    """The tasks of one model.

    `variants` holds those of each task by its hash, `calls` the task of each kernel call in order, `weight_names` the
    placeholders of the weights that each task reads (for padding).
    """

    tasks: tuple[Task, ...]
    variants: dict[str, tuple[Variant, ...]]
    calls: tuple[str, ...]
    weight_names: dict[str, tuple[str, ...]]


def kernel(function: Any) -> Kernel:
    """Return `function` with its structural hash."""
    import tvm
    import tvm_ffi

    # The name of a kernel is no part of what it computes.
    plain = function.without_attr("global_symbol") if "global_symbol" in (function.attrs or {}) else function
    return Kernel(key=str(tvm_ffi.structural_hash(tvm.IRModule({"main": plain}))), function=plain)


def _registers(channels: int, lanes: int) -> int:
    """Return how many registers `channels` fill at best: a vector of 7 is cut into 4 + 2 + 1."""
    return min(channels // width * width.bit_count() for width in range(1, lanes + 1) if channels % width == 0)


def _padded_counts(channels: int, target: Target) -> tuple[int, ...]:
    """Return larger counts that may run faster than `channels` since they fill fewer registers; none if none do.

    That is the next count of whole vectors and, where that computes many channels in vain (17 -> 32), the next multiple
    of 4 that is better at all (17 -> 20).
    """
    if channels < 3:
        return ()
    lanes = target.lanes
    whole = -(-channels // lanes) * lanes if channels > lanes else 1 << (channels - 1).bit_length()
    now = _registers(channels, lanes)
    better = [count for count in range(channels // 4 * 4 + 4, whole + 1, 4) if _registers(count, lanes) < now]
    if not better:
        return ()
    return (better[0], whole) if whole - better[0] >= 8 else (whole,)


def task_graph(lowered: Lowered, target: Target) -> TaskGraph:
    """Return the tasks of `lowered` on `target`."""
    tvm_target = target.to_tvm()
    module, sites = lowered.fuse(tvm_target, {})
    kernels = {name: kernel(module[name]) for name in dict.fromkeys(site.kernel for site in sites)}
    anatomies = {name: _anatomy(found) for name, found in kernels.items()}
    kernels = {
        name: replace(found, shape=_shape(name, found.function, anatomies[name])) for name, found in kernels.items()
    }
    placeholders = _weights_by_call(module)

    variants: dict[str, dict[int | None, Variant]] = {
        found.key: {None: Variant(None, found)} for found in kernels.values()
    }
    counts: dict[str, tuple[int, ...]] = {}
    for call, site in enumerate(sites):
        anatomy, name = anatomies[site.kernel], placeholders[call]
        # A kernel of two activations may still read a bias, which is no weight to widen.
        if name is not None and anatomy.kind in ("conv2d", "depthwise", "dense") and lowered.state[name].ndim > 1:
            counts[name] = _padded_counts(anatomy.channels, target)
    for choice in range(max(map(len, counts.values()), default=0)):
        wider = {name: found[choice] for name, found in counts.items() if choice < len(found)}
        padded_module, padded_sites = lowered.fuse(tvm_target, wider)
        assert len(padded_sites) == len(sites)
        made: dict[str, Kernel] = {}
        for call, (site, padded_site) in enumerate(zip(sites, padded_sites, strict=True)):
            name = placeholders[call]
            if name is None or name not in wider:
                continue
            exact = kernels[site.kernel]
            if padded_site.kernel not in made:
                shape = f"{exact.shape}, padded to {wider[name]} channels"
                made[padded_site.kernel] = replace(kernel(padded_module[padded_site.kernel]), shape=shape)
            key = exact.key
            variants[key].setdefault(wider[name], Variant(wider[name], made[padded_site.kernel]))

    layers: dict[str, list[str]] = {}
    weights: dict[str, list[str]] = {}
    count: dict[str, int] = {}
    for call, site in enumerate(sites):
        key = kernels[site.kernel].key
        count[key] = count.get(key, 0) + 1
        layers.setdefault(key, []).extend(layer for layer in site.layers if layer not in layers.get(key, []))
        name = placeholders[call]
        if name is not None and name not in weights.setdefault(key, []):
            weights[key].append(name)
    tasks = []
    for name, found in kernels.items():
        anatomy = anatomies[name]
        tasks.append(
            Task(
                hash=found.key,
                kind=anatomy.kind,
                shape=found.shape,
                weight=count[found.key],
                layers=tuple(layers[found.key]),
                macs=math.prod(anatomy.extents) if anatomy.extents else 0,
            )
        )
    unique = {task.hash: task for task in tasks}
    return TaskGraph(
        tasks=tuple(unique.values()),
        variants={key: tuple(found.values()) for key, found in variants.items()},
        calls=tuple(kernels[site.kernel].key for site in sites),
        weight_names={key: tuple(names) for key, names in weights.items()},
    )


_anatomies: dict[str, Any] = {}


def _anatomy(found: Kernel) -> Any:
    """Return the anatomy of a kernel, dissected once: the same kernels come again in every network of a search."""
    from tvm_prune.oracle.spaces.anatomy import dissect

    if found.key not in _anatomies:
        _anatomies[found.key] = dissect(found.function)
    return _anatomies[found.key]


def _weights_by_call(module: Any) -> list[str | None]:
    """Return for each call the placeholder of its first (matrix or filter) weight; biases never come first."""
    from relay_passes.link_layers import call_sites

    return [site.weights[0] if site.weights else None for site in call_sites(module)]


def _shape(name: str, function: Any, anatomy: Any) -> str:
    """Return a short summary such as ``16x16x32 -> 16x16x64, 3x3 /1 +add+relu``."""

    def text(buffer: Any) -> str:
        extents = [int(extent) for extent in buffer.shape]
        return "x".join(str(extent) for extent in (extents[1:] if extents[:1] == [1] else extents))

    source, result = text(function.params[0]), text(function.params[-1])
    if anatomy.kind in ("conv2d", "depthwise", "grouped"):
        kernel_h, kernel_w = anatomy.extents[4:6]
        return f"{source} -> {result}, {kernel_h}x{kernel_w} /{anatomy.stride}"
    return f"{source} -> {result}" + (f", {name.removeprefix('fused_')}" if anatomy.kind == "other" else "")
