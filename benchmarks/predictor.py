"""How well latencies of channel counts that were never tuned are predicted, against the nearest padded count on record.

    python -m benchmarks.predictor --reuse runs/staircase/records --json FILE

Single layers of several kinds are tuned at `--counts` random channel counts each (what `--reuse` folders hold of other
layers counts too). Then the predictor learns from all records but those held out: of one block of 16 output channels
(`lane block`), or of one layer at every count (`layer`); what it says of those is compared with what tuning had found.
`nearest_*` prices a held-out count as the record of the same layer with the nearest counts at or above it, both rounded
up to whole vectors (nothing is on record where the whole layer is held out).
"""

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn

from benchmarks.document import Document, markdown_table
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.features import KernelShape, shape_of
from tvm_prune.oracle.predictor import KernelRecord, Predictor
from tvm_prune.oracle.record_folders import merge
from tvm_prune.oracle.records import Records
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tasks import Kernel, anatomy_of
from tvm_prune.oracle.tune_settings import TuneSettings

_BLOCK = 16
# Fewer counts of a layer say nothing about their order.
_FEWEST = 8
COLUMNS = {
    "task": "",
    "held_out": "",
    "counts": "",
    "spearman": ".3f",
    "median_error": ".3f",
    "within_interval": ".2f",
    "nearest_spearman": ".3f",
    "nearest_median_error": ".3f",
}


@dataclass(frozen=True)
class _Layer:
    """A layer of the data set: window, stride, image, whether it is depthwise."""

    window: int
    stride: int
    size: int
    depthwise: bool = False

    def model(self, source: int, result: int) -> CompressedModel:
        torch.manual_seed(0)
        groups = source if self.depthwise else 1
        conv = nn.Conv2d(source, result, self.window, self.stride, self.window // 2, groups=groups)
        example = torch.zeros(1, source, self.size, self.size)
        return CompressedModel(module=nn.Sequential(conv, nn.ReLU()).eval(), example_inputs=(example,))


LAYERS = (
    _Layer(3, 1, 32),
    _Layer(3, 1, 8),
    _Layer(3, 2, 32),
    _Layer(1, 1, 14),
    _Layer(1, 1, 28),
    _Layer(3, 1, 14, depthwise=True),
    _Layer(3, 2, 28, depthwise=True),
)


@dataclass(frozen=True)
class _Known:
    """A kernel on record: which layer and counts it computes, its shape, the seconds of its fastest program."""

    layer: str
    source: int
    result: int
    shape: KernelShape
    latency_s: float


def _tune(oracle: CompilerOracle, counts: int) -> None:
    generator = np.random.default_rng(0)
    for layer in LAYERS:
        print(f"tuning {layer}", file=sys.stderr)
        models = []
        for _ in range(counts):
            result = int(generator.integers(8, 65 if layer.window == 3 and not layer.depthwise else 129))
            source = result if layer.depthwise else int(generator.integers(8, 65))
            models.append(layer.model(source, result))
        oracle.estimate(models)


def _known(records: Records) -> list[_Known]:
    from tvm.s_tir.meta_schedule.database import Workload

    found = []
    for key, workload in records.workloads():
        function = Workload.from_json(workload).mod["main"]
        anatomy = anatomy_of(Kernel(key, function))
        if anatomy.kind == "other":
            continue
        data, result = ([int(extent) for extent in param.shape] for param in (function.params[0], function.params[-1]))
        depthwise = anatomy.kind == "depthwise"
        window = 3 if anatomy.kind == "winograd" else anatomy.extents[4] if len(anatomy.extents) > 5 else 1
        size = "x".join(str(extent) for extent in data[1:-1])
        layer = f"{'depthwise ' if depthwise else ''}{window}x{window} /{anatomy.stride} {size}"
        best = records.best(key)
        assert best is not None  # a kernel of whose programs none works is no workload on record
        found.append(_Known(layer, data[-1], result[-1], shape_of(function, anatomy), best.program.latency_s))
    return found


Task = tuple[str, int, int]


def _tasks(kernels: Iterable[_Known]) -> dict[Task, list[_Known]]:
    tasks: dict[Task, list[_Known]] = defaultdict(list)
    for kernel in kernels:
        tasks[kernel.layer, kernel.source, kernel.result].append(kernel)
    return tasks


def _best_s(kernels: Iterable[_Known]) -> float:
    return min(kernel.latency_s for kernel in kernels)


def _nearest_s(task: Task, seen: Mapping[Task, Sequence[_Known]], lanes: int) -> float | None:
    """Return the record of the nearest padded counts of the same layer."""

    def padded(count: int) -> int:
        return -(-count // lanes) * lanes

    layer, source, result = task
    reach = [
        (padded(other[1]) - padded(source) + padded(other[2]) - padded(result), other)
        for other in seen
        if other[0] == layer and padded(other[1]) >= padded(source) and padded(other[2]) >= padded(result)
    ]
    return _best_s(seen[min(reach)[1]]) if reach else None


@dataclass(frozen=True)
class _Answer:
    task: Task
    true_s: float
    said_s: float
    inside: bool
    nearest_s: float | None


def _answers(held_out: set[Task], tasks: Mapping[Task, Sequence[_Known]], target: Target) -> list[_Answer]:
    seen = {task: kernels for task, kernels in tasks.items() if task not in held_out}
    learned = [KernelRecord(kernel.shape, kernel.latency_s) for kernels in seen.values() for kernel in kernels]
    predictor = Predictor.fit(learned, target)
    answers = []
    for task in held_out:
        prices = [predictor.price(kernel.shape) for kernel in tasks[task]]
        price = min(prices, key=lambda each: each.latency_s)
        true_s = _best_s(tasks[task])
        inside = price.low_s <= true_s <= price.high_s
        answers.append(_Answer(task, true_s, price.latency_s, inside, _nearest_s(task, seen, target.lanes)))
    return answers


def _row(name: str, held_out: str, answers: Sequence[_Answer]) -> dict[str, Any]:
    true_s, said_s = [each.true_s for each in answers], [each.said_s for each in answers]
    near = [(each.true_s, each.nearest_s) for each in answers if each.nearest_s is not None]
    enough = len(near) >= _FEWEST
    return {
        "task": name,
        "held_out": held_out,
        "counts": len(answers),
        "spearman": float(spearmanr(true_s, said_s).statistic),
        "median_error": statistics.median(abs(said / true - 1) for true, said in zip(true_s, said_s, strict=True)),
        "within_interval": sum(each.inside for each in answers) / len(answers),
        "nearest_counts": len(near),
        "nearest_spearman": float(spearmanr(*zip(*near, strict=True)).statistic) if enough else None,
        "nearest_median_error": statistics.median(abs(said / true - 1) for true, said in near) if enough else None,
    }


def _rows(tasks: Mapping[Task, Sequence[_Known]], target: Target) -> list[dict[str, Any]]:
    by_layer: dict[str, list[_Answer]] = defaultdict(list)
    for block in sorted({(task[2] - 1) // _BLOCK for task in tasks}):
        for answer in _answers({task for task in tasks if (task[2] - 1) // _BLOCK == block}, tasks, target):
            by_layer[answer.task[0]].append(answer)
    layers = [layer for layer, answers in by_layer.items() if len(answers) >= _FEWEST]
    rows = [_row(layer, "lane block", by_layer[layer]) for layer in layers]
    rows.append(_row("all", "lane block", [answer for layer in layers for answer in by_layer[layer]]))
    every: list[_Answer] = []
    for layer in layers:
        answers = _answers({task for task in tasks if task[0] == layer}, tasks, target)
        rows.append(_row(layer, "layer", answers))
        every += answers
    rows.append(_row("all", "layer", every))
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, default=16, help="random channel counts of each layer")
    parser.add_argument("--reuse", type=Path, nargs="*", default=[], metavar="FOLDER", help="records to learn from too")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--trials", type=int, default=TuneSettings().trials_per_task)
    parser.add_argument("--out", type=Path, default=Path("runs/predictor"))
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    target = Target.local(threads=arguments.threads)
    folder, tuning = arguments.out / "records", TuneSettings(trials_per_task=arguments.trials)
    if arguments.counts:
        with CompilerOracle(target, records_folder=folder, tuning=tuning) as oracle:
            _tune(oracle, arguments.counts)
    if arguments.reuse:
        merge(folder, arguments.reuse)
    records = Records(folder, target)
    try:
        tasks = _tasks(_known(records))
    finally:
        records.close()
    rows = _rows(tasks, target)
    if arguments.json is not None:
        Document.of(rows, summary={"tasks_on_record": len(tasks)}).write(arguments.json)
    print(markdown_table(rows, COLUMNS))


if __name__ == "__main__":
    main()
