"""Tuned dense, the uniform envelope and CPrune on one trained network, over several seeds.

    python -m benchmarks.cprune --data-dir DIR --weights resnet20_cifar10.safetensors --json FILE --out runs/benchmark

Every method starts from the same trained weights and the same validation split, gets the same trials per task, and each
uniform network gets as many optimizer steps as CPrune's result had in all. Later seeds find the tuning records of the
first ones. Resumes like any run.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.candidates import candidate_seconds
from benchmarks.document import Document, markdown_table
from benchmarks.trained import add_options, trained_model, wanted_data
from tvm_prune.cli.screen import Screen
from tvm_prune.jobs.cprune import CPruneJob, Pruned, cprune
from tvm_prune.jobs.export import bundler
from tvm_prune.jobs.folder import RunFolder, Stages
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tune_settings import TuneSettings
from tvm_prune.report.summary import Figures
from tvm_prune.search.budget import Budget
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
VERDICT = {
    "seed": "",
    "speedup": ".2f",
    "accuracy_drop_pp": ".2f",
    "versus_uniform_at_accuracy": ".2f",
    "versus_uniform_at_macs": ".2f",
    "explained_dense": ".3f",
    "explained_pruned": ".3f",
    "priced": "",
    "priced_s": ".2f",
    "built": "",
    "built_s": ".1f",
    "built_with_prices_s": ".1f",
    "built_with_training_s": ".1f",
}


def rows_of(result: Pruned, seed: int) -> list[dict[str, Any]]:
    """Return the rows of one seed: dense, every uniform network, CPrune.

    Latencies are set against the dense one's by their paired ratio, and `latency_spread` is the distance between the
    10th and 90th percentile of that ratio. `search_s` and `measurements` are the whole price of a network: tuning,
    measuring, training, evaluating.
    """
    dense, pruned, ratio = result.summary.dense, result.summary.pruned, result.measured.ratio
    trials = result.report.trials

    def row(method: str, label: str, figures: Figures, spread: float, search_s: float, measurements: int) -> Any:
        return {
            "seed": seed,
            "method": method,
            "label": label,
            "latency_ms": figures.latency_ms,
            "latency_spread": spread * dense.latency_ms,
            "accuracy": figures.accuracy,
            "macs": figures.macs,
            "params": figures.params,
            "search_s": search_s,
            "measurements": measurements,
        }

    spread = result.measured.dense.whole.latency_spread_s * 1e3 / dense.latency_ms
    rows = [row("dense", "tuned", dense, spread, sum(trials[0].seconds.values()), trials[0].measurements)]
    for point in sorted(result.uniform, key=lambda point: point.relative):
        figures = Figures(
            latency_ms=point.relative * dense.latency_ms,
            accuracy=point.accuracy,
            macs=point.macs,
            params=point.params,
        )
        rows.append(row("uniform", point.label, figures, point.spread, point.seconds, point.measurements))
    search_s = sum(sum(trial.seconds.values()) for trial in trials)
    search_s += Stages(result.folder.stages).seconds()["retrain"]
    label = result.report.stop_reason
    rows.append(row("cprune", label, pruned, ratio.high - ratio.low, search_s, result.summary.measurements))
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
        "notes": list(result.report.notes),
        **candidate_seconds(result.report.trials),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-cprune"), help="one run folder a seed in it")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the search")
    parser.add_argument("--ratios", default="0.875,0.75,0.625,0.5,0.375,0.25")
    parser.add_argument("--roundings", default="1,4,8,16")
    parser.add_argument("--max-seconds", type=float, help="end each search after so many seconds (default: no limit)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    uniform = UniformSettings(
        ratios=tuple(float(part) for part in arguments.ratios.split(",")),
        roundings=tuple(int(part) for part in arguments.roundings.split(",")),
    )
    settings = changed(preset(arguments.preset), parse_assignments(arguments.set))
    data = wanted_data(parser, arguments)
    target = Target.local()
    rows, verdicts = [], []
    for seed in range(arguments.seeds):
        model = trained_model(arguments, data)
        folder = RunFolder(arguments.out / f"seed{seed}")
        tuning = TuneSettings(trials_per_task=settings.trials_per_task)
        with (
            Screen() as screen,
            CompilerOracle(target, records_folder=arguments.out / "records", tuning=tuning) as oracle,
        ):
            job = CPruneJob(
                settings=replace(settings, seed=seed),
                uniform=uniform,
                budget=Budget(seconds=arguments.max_seconds),
                target=str(target),
            )
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
    print(markdown_table(verdicts, VERDICT))


if __name__ == "__main__":
    main()
