"""Tuned dense, the uniform envelope and CPrune on one trained network, over several seeds.

    python -m benchmarks.cprune --data-dir DIR --weights resnet20_cifar10.safetensors --json FILE --out runs/benchmark

Every method starts from the same trained weights and the same validation split, gets the same trials per task, and each
uniform network gets as many optimizer steps as CPrune's result had in all. Resumes like any run.
"""

import argparse
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.document import Document, markdown_table
from tvm_prune.cli.screen import Screen
from tvm_prune.errors import DataError
from tvm_prune.jobs.cprune import CPruneJob, Pruned, cprune
from tvm_prune.jobs.export import bundler
from tvm_prune.jobs.folder import RunFolder
from tvm_prune.models.datasets import load_data
from tvm_prune.models.load import load_model
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tuner import TuneSettings
from tvm_prune.search.envelope import Envelope, Point
from tvm_prune.search.settings import changed, parse_assignments, preset
from tvm_prune.search.uniform import UniformSettings

COLUMNS = {
    "method": "",
    "seed": "",
    "label": "",
    "latency_ms": ".4f",
    "latency_spread": ".4f",
    "accuracy": ".4f",
    "macs": "",
    "params": "",
    "search_s": ".0f",
    "measurements": "",
}


def rows_of(result: Pruned, seed: int) -> list[dict[str, Any]]:
    """Return the rows of one seed: dense, every uniform network, CPrune. Latencies are paired with the dense one's."""
    summary, report = result.summary, result.report
    dense, pruned = summary.dense, summary.pruned
    search_s = sum(sum(trial.seconds.values()) for trial in report.trials)
    common = {"seed": seed}
    rows: list[dict[str, Any]] = [
        {
            **common,
            "method": "dense",
            "label": "tuned",
            "latency_ms": dense.latency_ms,
            "latency_spread": report.dense.whole.latency_spread_s * 1e3,
            "accuracy": dense.accuracy,
            "macs": dense.macs,
            "params": dense.params,
            "search_s": sum(report.trials[0].seconds.values()),
            "measurements": report.trials[0].measurements,
        }
    ]
    for point in sorted(result.uniform, key=lambda point: point.relative):
        rows.append(
            {
                **common,
                "method": "uniform",
                "label": point.label,
                "latency_ms": point.relative * dense.latency_ms,
                "latency_spread": point.spread * dense.latency_ms,
                "accuracy": point.accuracy,
                "macs": point.macs,
                "params": point.params,
                "search_s": point.seconds,
                "measurements": point.measurements,
            }
        )
    rows.append(
        {
            **common,
            "method": "cprune",
            "label": report.stop_reason,
            "latency_ms": pruned.latency_ms,
            "latency_spread": report.pruned.whole.latency_spread_s * 1e3,
            "accuracy": pruned.accuracy,
            "macs": pruned.macs,
            "params": pruned.params,
            "search_s": search_s,
            "measurements": summary.measurements,
        }
    )
    return rows


def verdict(result: Pruned, seed: int) -> dict[str, Any]:
    """Return what one seed says: against dense, against the envelope at equal accuracy and at equal MACs."""
    summary = result.summary
    dense, pruned = summary.dense, summary.pruned
    by_macs = Envelope.of(
        [
            *(Point(float(point.macs), point.relative * dense.latency_ms) for point in result.uniform),
            Point(float(dense.macs), dense.latency_ms),
        ]
    ).latency_at(float(pruned.macs))
    return {
        "seed": seed,
        "speedup": summary.speedup,
        "accuracy_drop_pp": summary.accuracy_drop_pp,
        "versus_uniform_at_accuracy": summary.versus_uniform,
        "uniform_note": summary.uniform_note,
        "versus_uniform_at_macs": None if by_macs is None else by_macs / pruned.latency_ms,
        "explained_dense": result.report.dense.explained_s / result.report.dense.whole.latency_s,
        "explained_pruned": result.report.pruned.explained_s / result.report.pruned.whole.latency_s,
        "parity_max_abs_err": summary.parity_max_abs_err,
        "seconds_per_candidate": candidate_seconds(result),
    }


def candidate_seconds(result: Pruned) -> dict[str, float]:
    """Return the median seconds of each stage over the candidates that were built whole."""
    built = [trial for trial in result.report.trials if trial.proposal is not None and not trial.proposal.price_only]
    stages = sorted({stage for trial in built for stage in trial.seconds})
    return {stage: round(statistics.median(trial.seconds.get(stage, 0.0) for trial in built), 3) for stage in stages}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--weights", type=Path, required=True, help="trained weights (safetensors)")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir", type=Path, help="folder of the data set")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-cprune"), help="one run folder a seed in it")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the search")
    parser.add_argument("--ratios", default="0.875,0.75,0.625,0.5,0.375,0.25")
    parser.add_argument("--roundings", default="1,4,8,16")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    uniform = UniformSettings(
        ratios=tuple(float(part) for part in arguments.ratios.split(",")),
        roundings=tuple(int(part) for part in arguments.roundings.split(",")),
    )
    settings = changed(preset(arguments.preset), parse_assignments(arguments.set))
    try:
        data = load_data(arguments.data, data_dir=arguments.data_dir)
    except DataError as error:
        parser.error(str(error))
    target = Target.local()
    rows, verdicts = [], []
    for seed in range(arguments.seeds):
        model = load_model(arguments.model, weights=arguments.weights, num_classes=data.num_classes)
        folder = RunFolder(arguments.out / f"seed{seed}")
        tuning = TuneSettings(trials_per_task=settings.trials_per_task)
        with (
            Screen() as screen,
            CompilerOracle(target, records_folder=folder.records, tuning=tuning) as oracle,
        ):
            job = CPruneJob(settings=replace(settings, seed=seed), uniform=uniform, target=str(target))
            result = cprune(
                model,
                data,
                oracle,
                out=folder.path,
                bundle=bundler(oracle, name=model.name),
                job=job,
                watcher=screen,
            )
        rows += rows_of(result, seed)
        verdicts.append(verdict(result, seed))
        document = Document.of(rows, summary={"seeds": verdicts})
        if arguments.json is not None:
            document.write(arguments.json)
    print(markdown_table(rows, COLUMNS))
    print()
    print(
        markdown_table(
            verdicts,
            {key: ".3f" if key.startswith(("speedup", "versus", "acc", "expl")) else "" for key in verdicts[0]},
        )
    )


if __name__ == "__main__":
    main()
