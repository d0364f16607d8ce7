"""How long tuning takes: ours without and with records, and MetaSchedule's own search on the same kernels.

    python -m benchmarks.tuning --models resnet20 --json FILE

Seconds of ours are those of the whole job from lowering to the program table, in a process that has loaded torch's
tracer (4 s) and waits for its workers to start; `tune_s` is building and measuring programs alone. The stock search
gets `--patience` times the seconds that ours needs to come within 5 % of its own best, from the start of the search;
benchmarks/stock_site says how it is helped. `best_ms` is the sum of the kernels' times, each as its own tuner measured
it: ours with large weights as far away as they are in a network, the stock search with all of them in the cache.
`within_5_percent_s` is when that sum came within 5 % of the best one known of the model.
"""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.document import Document, markdown_table
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.jobs.tune import compressed, tune
from tvm_prune.models.load import load_model
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.object_cache import VARIABLE
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tune_settings import TuneProgress, TuneSettings

_NEAR = 1.05
COLUMNS = {
    "model": "",
    "tuner": "",
    "trials": "",
    "seconds": ".1f",
    "tune_s": ".1f",
    "trials_per_s": ".1f",
    "best_ms": ".3f",
    "within_5_percent_s": ".1f",
}


@dataclass
class _Curve:
    """The sum of the kernels' best times over the seconds of a search; infinite until each has a program."""

    points: list[tuple[float, float]] = field(default_factory=list)

    def finite(self) -> list[tuple[float, float]]:
        """Return the points from which on every kernel has a program."""
        return [(seconds, total_s) for seconds, total_s in self.points if math.isfinite(total_s)]

    def within(self, best_s: float) -> float | None:
        """Return when the sum came within 5 % of `best_s`, None if it never did."""
        return next((seconds for seconds, total_s in self.points if total_s <= _NEAR * best_s), None)


@dataclass(frozen=True)
class _Search:
    row: dict[str, Any]
    curve: _Curve


def _sum_s(oracle: CompilerOracle, model: CompressedModel) -> float:
    graph = oracle.tasks(model)
    total_s = 0.0
    for task in graph.tasks:
        series = [each for variant in graph.variants[task.hash] for each in oracle.records.series(variant.kernel.key)]
        total_s += task.weight * min(series, default=math.inf)
    return total_s


def _ours(name: str, records: Path, arguments: argparse.Namespace, *, tuner: str) -> _Search:
    model = compressed(load_model(name))
    curve = _Curve()
    begin = time.perf_counter()

    def note(progress: TuneProgress) -> None:
        if progress.stage == "measure" and progress.done == progress.total:
            moments.append((time.perf_counter() - begin, {k: min(s) for k in keys if (s := oracle.records.series(k))}))

    moments: list[tuple[float, dict[str, float]]] = []
    keys: list[str] = []
    tuning = TuneSettings(trials_per_task=arguments.trials)
    target = Target.local(threads=arguments.threads)
    # The compiled kernels that a second run finds are those of the first one.
    os.environ[VARIABLE] = str(records / "cache")
    with CompilerOracle(target, records_folder=records, tuning=tuning, progress=note) as oracle:
        graph = oracle.tasks(model)
        keys += [variant.kernel.key for variants in graph.variants.values() for variant in variants]
        begin = time.perf_counter()
        table = tune(model, oracle)
        seconds, stages, trials = time.perf_counter() - begin, dict(oracle.seconds), oracle.trials
        best_s = _sum_s(oracle, model)
    for moment, known in moments:
        total_s = 0.0
        for task in graph.tasks:
            found = [known[v.kernel.key] for v in graph.variants[task.hash] if v.kernel.key in known]
            total_s += task.weight * min(found, default=math.inf)
        curve.points.append((moment, total_s))
    tune_s = stages.get("tune", 0.0)
    row = {
        "model": name,
        "tuner": tuner,
        "trials": trials,
        "seconds": seconds,
        "tune_s": tune_s,
        "stages_s": stages,
        "trials_per_s": trials / tune_s if trials else None,
        "best_ms": best_s * 1e3,
        "measured_ms": table.whole.latency_s * 1e3,
    }
    return _Search(row, curve)


def _stock(name: str, seconds: float, arguments: argparse.Namespace) -> _Search:
    target = Target.local(threads=arguments.threads)
    model = compressed(load_model(name))
    with tempfile.TemporaryDirectory() as folder, CompilerOracle(target, records_folder=Path(folder) / "r") as oracle:
        graph = oracle.tasks(model)
    import tvm

    tasks = [
        {
            "module": tvm.ir.save_json(tvm.IRModule({"main": graph.variants[task.hash][0].kernel.function})),
            "weight": task.weight,
        }
        for task in graph.tasks
    ]
    described = {
        "target": tvm.ir.save_json(target.to_tvm()),
        "threads": arguments.threads,
        "tasks": tasks,
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "tasks.json").write_text(json.dumps(described))
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent / "stock_site"), str(Path(__file__).parents[1])]),
            "TVM_NUM_THREADS": str(arguments.threads),
        }
        curve_file = root / "curve.jsonl"
        command = [sys.executable, "-m", "benchmarks.stock_tuner", str(root / "tasks.json"), folder, str(curve_file)]
        with open(root / "log", "w") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
            # Its own time begins when it has started and loaded its tasks; that is a few seconds.
            try:
                process.wait(timeout=seconds + 15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            else:
                raise RuntimeError(f"the stock search ended by itself: {(root / 'log').read_text()[-2000:]}")
        lines = [json.loads(text) for text in curve_file.read_text().splitlines()] if curve_file.exists() else []
    return _stock_row(name, [line for line in lines if line["seconds"] <= seconds], graph.tasks, seconds)


def _stock_row(name: str, lines: Sequence[Mapping[str, Any]], tasks: Sequence[Any], seconds: float) -> _Search:
    best: dict[int, float] = {}
    curve = _Curve()
    for line in lines:
        if line["best_s"] is not None:
            best[line["task"]] = line["best_s"]
        total_s = sum(task.weight * best.get(place, math.inf) for place, task in enumerate(tasks))
        curve.points.append((line["seconds"], total_s))
    # It tells of its trials round by round over the kernels: without a line it has not ended the first one.
    trials = sum(line["trials"] for line in lines) if lines else None
    last_s = curve.points[-1][1] if curve.points else math.inf
    row = {
        "model": name,
        "tuner": "MetaSchedule",
        "trials": trials,
        "seconds": seconds,
        "tune_s": seconds,
        "trials_per_s": None if trials is None else trials / seconds,
        # Kernels that it has not come to have no time.
        "best_ms": last_s * 1e3 if math.isfinite(last_s) else None,
        "kernels_with_a_program": len(best),
        "kernels": len(tasks),
    }
    return _Search(row, curve)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="resnet20,mobilenetv2-224", help="names or package.module:function")
    parser.add_argument("--stock", default="resnet20", help="models that the stock search tunes too")
    parser.add_argument("--patience", type=float, default=15.5, help="its time, in times of what ours needs for 5 %%")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--trials", type=int, default=TuneSettings().trials_per_task)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in arguments.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            searches = [
                _ours(name, Path(folder), arguments, tuner="ours"),
                _ours(name, Path(folder), arguments, tuner="ours, with its records"),
            ]
        if name in arguments.stock.split(","):
            near_s = searches[0].curve.within(searches[0].row["best_ms"] / 1e3) or searches[0].row["seconds"]
            searches.append(_stock(name, arguments.patience * near_s, arguments))
        best_s = min(search.row["best_ms"] or math.inf for search in searches) / 1e3
        for search in searches:
            within_s = search.curve.within(best_s)
            rows.append({**search.row, "within_5_percent_s": within_s, "curve": search.curve.finite()})
            print(markdown_table(rows[-1:], COLUMNS), file=sys.stderr)
        if arguments.json is not None:
            Document.of(rows).write(arguments.json)
    print(markdown_table(rows, COLUMNS))


if __name__ == "__main__":
    main()
