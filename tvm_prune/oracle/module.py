"""Whole modules: the best program of every task put into the graph, weights bound, compiled to one library."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tvm_prune.codec import encode
from tvm_prune.errors import RecordsError
from tvm_prune.oracle.lower import Lowered
from tvm_prune.oracle.records import Record, Records
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tasks import Kernel, TaskGraph, Variant, kernel
from tvm_prune.oracle.worker import Worker

__all__ = ["STAMPED_ROUNDS", "Blueprint", "Choice", "Compiled", "Form", "blueprint", "choose"]

Form = Literal["plain", "empty", "stamped"]

# Runs of a stamped module that its buffer has room for.
STAMPED_ROUNDS = 32
# The largest networks take minutes on a slow machine.
_BUILD_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Choice:
    """The variant of each task that runs, its record (None = default schedule), the padding by weight placeholder."""

    variant: dict[str, Variant]
    record: dict[str, Record | None]
    wider: dict[str, int]


@dataclass(frozen=True)
class Compiled:
    """A compiled library; the task of each kernel by the kernel's number; kernel calls; words of its stamps buffer."""

    library: Path
    tasks: tuple[str, ...]
    calls: int
    stamp_words: int


def choose(graph: TaskGraph, records: Records) -> Choice:
    """Return for each task the fastest variant that has a record.

    Tasks that share a weight must agree on its padding: the count with the least sum wins.
    """
    choice: dict[str, Variant] = {}
    found: dict[str, Record | None] = {}
    wider: dict[str, int] = {}
    sharing: dict[tuple[str, ...], list[str]] = {}
    for task in graph.tasks:
        sharing.setdefault(graph.weight_names.get(task.hash, ()) or (task.hash,), []).append(task.hash)
    groups = _merge(graph, sharing)
    weight = {task.hash: task.weight for task in graph.tasks}
    for members in groups:
        counts = [{variant.padded_channels: variant for variant in graph.variants[member]} for member in members]
        common = set(counts[0]).intersection(*counts[1:])
        totals: dict[int | None, float] = {}
        for count in common:
            latencies = []
            for member, by_count in zip(members, counts, strict=True):
                record = records.best(by_count[count].kernel.key)
                latencies.append(None if record is None else record.program.latency_s * weight[member])
            if None not in latencies:
                totals[count] = sum(value for value in latencies if value is not None)
        # Without any record the task runs as it is, with the default schedule.
        winner = min(totals, key=lambda count: (totals[count], count or 0)) if totals else None
        for member, by_count in zip(members, counts, strict=True):
            choice[member] = by_count[winner]
            found[member] = records.best(by_count[winner].kernel.key)
            if winner is not None:
                wider.update(dict.fromkeys(graph.weight_names[member], winner))
    return Choice(choice, found, wider)


def _merge(graph: TaskGraph, sharing: dict[tuple[str, ...], list[str]]) -> list[list[str]]:
    """Join tasks that read a common weight."""
    groups: list[tuple[set[str], list[str]]] = []
    for names, members in sharing.items():
        joined = set(names)
        hashes = list(members)
        rest = []
        for other_names, other_hashes in groups:
            if joined & other_names:
                joined |= other_names
                hashes += other_hashes
            else:
                rest.append((other_names, other_hashes))
        groups = [*rest, (joined, hashes)]
    return [hashes for _, hashes in groups]


def scheduled(found: Kernel, record: Record) -> Any:
    """Return the PrimFunc of `found` after the record's trace. Raises RecordsError when the trace does not fit."""
    import tvm
    from tvm.s_tir import Schedule
    from tvm.s_tir.meta_schedule.database import TuningRecord, Workload

    workload = Workload(tvm.IRModule({"main": found.function}))
    schedule = Schedule(workload.mod)
    try:
        TuningRecord.from_json(record.record_json, workload).trace.apply_to_schedule(schedule, remove_postproc=False)
    except (RuntimeError, ValueError, TypeError) as error:
        raise RecordsError(
            f"a tuning record of kernel {found.key} does not replay ({str(error).splitlines()[0]}); "
            "it comes from another version: delete the records folder and tune again"
        ) from error
    return schedule.mod["main"]


@dataclass(frozen=True)
class Blueprint:
    """A module with its programs in place, ready for a compiler.

    `module` is its JSON, `weights` the values of the parameters after the inputs; the rest as in `Compiled`.
    """

    module: str
    weights: tuple[np.ndarray, ...]
    tasks: tuple[str, ...]
    calls: int
    stamp_words: int

    def compile(self, builder: Worker, target: Target, library: Path) -> Compiled:
        """Compile to `library` in `builder`. Raises WorkerDied with the compiler's words if it refuses or crashes."""
        stored = library.with_suffix(".weights.npz")
        np.savez(stored, *self.weights)
        request = {
            "module": self.module,
            "target": encode(target),
            "weights": str(stored),
            "library": str(library),
        }
        try:
            builder.request("build_module", request, timeout_s=_BUILD_TIMEOUT_S)
        finally:
            stored.unlink(missing_ok=True)
        return Compiled(library, self.tasks, self.calls, self.stamp_words)


def blueprint(lowered: Lowered, choice: Choice, target: Target, *, form: Form = "plain") -> Blueprint:
    """Put the chosen programs into the model; its weights travel in the library.

    Form "empty" keeps every call, buffer and weight but lets the kernels do nothing: what is left is the overhead. Form
    "stamped" takes one more input and writes down there when each kernel starts and ends.
    """
    import tvm

    from relay_passes.hoist_weights import apply_changes, weight_entries
    from relay_passes.stamp_calls import STAMP_WORDS, StampCalls

    module, sites = lowered.fuse(target.to_tvm(), choice.wider)
    by_key = {variant.kernel.key: (variant.kernel, choice.record[task]) for task, variant in choice.variant.items()}
    task_of = {variant.kernel.key: task for task, variant in choice.variant.items()}
    kernels = list(dict.fromkeys(site.kernel for site in sites))
    tasks = []
    for name in kernels:
        found, record = by_key[kernel(module[name]).key]
        tasks.append(task_of[found.key])
        if form == "empty":
            module[name] = module[name].with_body(tvm.tirx.Evaluate(0))
        elif record is not None:
            module[name] = scheduled(found, record).without_attr("global_symbol")
    weights = tuple(apply_changes(lowered.state[entry["name"]], entry["changes"]) for entry in weight_entries(module))
    words = 1 + STAMP_WORDS * len(sites) * STAMPED_ROUNDS
    if form == "stamped":
        stamp = StampCalls({name: number for number, name in enumerate(kernels)}, words)
        module = stamp(module)  # type: ignore[operator]  # the decorator makes it a pass
    return Blueprint(tvm.ir.save_json(module), weights, tuple(tasks), len(sites), words)
