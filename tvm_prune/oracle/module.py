"""Whole modules: the best program of every task put into the graph, weights bound, compiled to one library."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relay_passes.weight_changes import apply_changes
from relay_passes.weight_form import PLAIN, WeightForm
from tvm_prune.codec import encode
from tvm_prune.oracle.lower import Lowered
from tvm_prune.oracle.objects import Form, KernelObjects, KernelSource
from tvm_prune.oracle.records import Record, Records
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tasks import TaskGraph, Variant, kernel
from tvm_prune.oracle.worker import Worker

__all__ = ["STAMPED_ROUNDS", "Blueprint", "Choice", "Compiled", "blueprint", "choose"]

# Runs of a stamped module that its buffer has room for.
STAMPED_ROUNDS = 32
# The largest networks take minutes on a slow machine.
_BUILD_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Choice:
    """The variant of each task that runs, its record (None = default schedule), the forms by weight placeholder."""

    variant: dict[str, Variant]
    record: dict[str, Record | None]
    forms: dict[str, WeightForm]


@dataclass(frozen=True)
class Compiled:
    """A compiled library; the task of each kernel call in order; words of its stamps buffer."""

    library: Path
    calls: tuple[str, ...]
    stamp_words: int


def choose(graph: TaskGraph, records: Records) -> Choice:
    """Return for each task the fastest variant that has a record.

    Tasks that share a weight must agree on its form: that with the least sum wins.
    """
    choice: dict[str, Variant] = {}
    found: dict[str, Record | None] = {}
    forms: dict[str, WeightForm] = {}
    sharing: dict[tuple[str, ...], list[str]] = {}
    for task in graph.tasks:
        sharing.setdefault(graph.weight_names.get(task.hash, ()) or (task.hash,), []).append(task.hash)
    groups = _merge(graph, sharing)
    weight = {task.hash: task.weight for task in graph.tasks}
    for members in groups:
        by_form = [{variant.form: variant for variant in graph.variants[member]} for member in members]
        common = set(by_form[0]).intersection(*by_form[1:])
        totals: dict[WeightForm, float] = {}
        for form in common:
            latencies = []
            for member, variants in zip(members, by_form, strict=True):
                record = records.best(variants[form].kernel.key)
                latencies.append(None if record is None else record.program.latency_s * weight[member])
            if None not in latencies:
                totals[form] = sum(value for value in latencies if value is not None)
        # Without any record the task runs as it is, with the default schedule.
        winner = min(totals, key=lambda form: (totals[form], str(form))) if totals else PLAIN
        for member, variants in zip(members, by_form, strict=True):
            choice[member] = variants[winner]
            found[member] = records.best(variants[winner].kernel.key)
            if winner != PLAIN:
                forms.update(dict.fromkeys(graph.weight_names[member], winner))
    return Choice(choice, found, forms)


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


@dataclass(frozen=True)
class Blueprint:
    """A module with a program for each of its kernels, ready for a compiler.

    `module` is the JSON of the graph, `kernels` what is linked for each kernel in it, by name; `weights` are the values
    of the parameters after the inputs; the rest as in `Compiled`.
    """

    module: str
    kernels: dict[str, KernelSource]
    weights: tuple[np.ndarray, ...]
    calls: tuple[str, ...]
    stamp_words: int

    def compile(self, builder: Worker, target: Target, library: Path, *, objects: KernelObjects) -> Compiled:
        """Compile the graph in `builder` and link it to its kernels' `objects`, which must be there.

        Raises WorkerDied with the compiler's words if it refuses or crashes.
        """
        stored = library.with_suffix(".weights.npz")
        np.savez(stored, *self.weights)
        symbols = {name: source.symbol for name, source in self.kernels.items()}
        request = {
            "module": self.module,
            "symbols": symbols,
            "objects": objects.linked(symbols.values()),
            "target": encode(target),
            "weights": str(stored),
            "library": str(library),
        }
        try:
            builder.request("build_module", request, timeout_s=_BUILD_TIMEOUT_S)
        finally:
            stored.unlink(missing_ok=True)
        return Compiled(library, self.calls, self.stamp_words)


def blueprint(lowered: Lowered, choice: Choice, target: Target, *, form: Form = "plain") -> Blueprint:
    """Choose the programs of the model's kernels; its weights travel in the library.

    Form "stamped" takes one more input and writes down there when each kernel starts and ends.
    """
    import tvm

    from relay_passes.hoist_weights import weight_entries
    from relay_passes.stamp_calls import STAMP_WORDS, StampCalls, results_of

    module, sites = lowered.fuse(target.to_tvm(), choice.forms)
    weights = tuple(apply_changes(lowered.state[entry["name"]], entry["changes"]) for entry in weight_entries(module))
    words = 1 + STAMP_WORDS * len(sites) * STAMPED_ROUNDS
    by_key = {variant.kernel.key: task for task, variant in choice.variant.items()}
    results = results_of(module)
    kernels, task_of = {}, {}
    for name in dict.fromkeys(site.kernel for site in sites):
        found = kernel(module[name])
        task_of[name] = by_key[found.key]
        kernels[name] = KernelSource(found, choice.record[task_of[name]], form, results[name], words)
    if form == "stamped":
        module = StampCalls(kernels, words)(module)  # type: ignore[operator]  # the decorator makes it a pass
        kernels = {f"stamped_{name}": source for name, source in kernels.items()}
    calls = tuple(task_of[site.kernel] for site in sites)
    return Blueprint(tvm.ir.save_json(module), kernels, weights, calls, words)
