"""Tasks of a lowered model: distinct kernels, the variants that may stand in for each, and the layers they compute."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from relay_passes.weight_form import PLAIN, WeightForm
from tvm_prune.oracle.forms import fits, forms, plain_pays
from tvm_prune.oracle.lower import Lowered
from tvm_prune.oracle.program import Task
from tvm_prune.oracle.target import Target

__all__ = ["Kernel", "TaskGraph", "Variant", "anatomy_of", "body_of", "kernel", "task_graph"]


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
    """One way to compute a task: with its weight as it is, or in another form; `pays` if it may be the fastest."""

    form: WeightForm
    kernel: Kernel
    pays: bool = True


@dataclass(frozen=True)
class TaskGraph:
    """The tasks of one model.

    `variants` holds those of each task by its hash, `calls` the task of each kernel call in order, `weight_names` the
    placeholders of the weights that each task reads (to change their form).
    """

    tasks: tuple[Task, ...]
    variants: dict[str, tuple[Variant, ...]]
    calls: tuple[str, ...]
    weight_names: dict[str, tuple[str, ...]]


def kernel(function: Any, *, shape: str = "") -> Kernel:
    """Return `function` with its structural hash, and in a few words what it computes."""
    import tvm
    import tvm_ffi

    # The name of a kernel is no part of what it computes.
    plain = function.without_attr("global_symbol") if "global_symbol" in (function.attrs or {}) else function
    return Kernel(key=str(tvm_ffi.structural_hash(tvm.IRModule({"main": plain}))), function=plain, shape=shape)


def _rounds(wanted: dict[tuple[str, WeightForm], str]) -> Iterator[list[tuple[str, WeightForm]]]:
    """Split what is wanted into rounds that give each weight one form."""
    left = list(wanted)
    while left:
        taken: dict[str, tuple[str, WeightForm]] = {}
        for item in left:
            taken.setdefault(wanted[item], item)
        yield list(taken.values())
        left = [item for item in left if item not in taken.values()]


# Kernel of a task in a form, by the task's key: the same kernels come again in every network of a search.
_reformed: dict[tuple[str, WeightForm], Kernel] = {}


def task_graph(lowered: Lowered, target: Target) -> TaskGraph:
    """Return the tasks of `lowered` on `target`."""
    tvm_target = target.to_tvm()
    module, sites = lowered.fuse(tvm_target, {})
    kernels = {name: kernel(module[name]) for name in dict.fromkeys(site.kernel for site in sites)}
    anatomies = {name: anatomy_of(found) for name, found in kernels.items()}
    kernels = {
        name: replace(found, shape=_shape(name, found.function, anatomies[name])) for name, found in kernels.items()
    }
    placeholders = _weights_by_call(module)

    variants = {
        found.key: {PLAIN: Variant(PLAIN, found, pays=plain_pays(anatomies[name], target))}
        for name, found in kernels.items()
    }
    wanted: dict[tuple[str, WeightForm], str] = {}
    read: dict[str, list[str]] = {}
    for call, site in enumerate(sites):
        if (name := placeholders[call]) is not None:
            read.setdefault(kernels[site.kernel].key, []).append(name)
    for call, site in enumerate(sites):
        anatomy, name, exact = anatomies[site.kernel], placeholders[call], kernels[site.kernel]
        # A kernel of two activations may still read a bias, which is no weight with forms.
        if name is None or lowered.state[name].ndim < 2:
            continue
        for form in forms(anatomy, exact.function, target, _bits(lowered, read[exact.key])):
            if not all(fits(form, lowered.state[other]) for other in read[exact.key]):
                continue
            if (exact.key, form) in _reformed:
                variants[exact.key][form] = Variant(form, _reformed[exact.key, form])
            else:
                wanted[exact.key, form] = name
    for chosen in _rounds(wanted):
        _, reformed_sites = reformed = lowered.fuse(tvm_target, {wanted[item]: item[1] for item in chosen})
        assert len(reformed_sites) == len(sites)
        for call, (site, reformed_site) in enumerate(zip(sites, reformed_sites, strict=True)):
            exact = kernels[site.kernel]
            for key, form in chosen:
                if key == exact.key and wanted[key, form] == placeholders[call] and form not in variants[key]:
                    found = kernel(reformed[0][reformed_site.kernel])
                    _reformed[key, form] = replace(found, shape=f"{exact.shape}, {form}")
                    variants[key][form] = Variant(form, _reformed[key, form])

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


def _bits(lowered: Lowered, weights: Sequence[str]) -> tuple[int, int] | None:
    """Return the most bits of any of these weights and of what is multiplied by it, None where one is not known."""
    known = [lowered.bits.get(name) for name in weights]
    if None in known:
        return None
    return max(bits[0] for bits in known if bits), max(bits[1] for bits in known if bits)


_anatomies: dict[str, Any] = {}


def anatomy_of(found: Kernel) -> Any:
    """Return the anatomy of a kernel, dissected once: the same kernels come again in every network of a search."""
    from tvm_prune.oracle.spaces.anatomy import dissect

    if found.key not in _anatomies:
        _anatomies[found.key] = dissect(found.function)
    return _anatomies[found.key]


def body_of(found: Kernel) -> Any:
    """Return what kernels share that differ in the epilogue alone: their spaces hold the same programs."""
    anatomy = anatomy_of(found)
    if not anatomy.channels:
        return found.key
    data, weight, *_, result = (tuple(int(extent) for extent in param.shape) for param in found.function.params)
    return replace(anatomy, before=(), after=()), data, weight, result


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
