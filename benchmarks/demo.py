"""`make demo` in a fresh clone of this repository, timed from nothing to the report.

    python -m benchmarks.demo --json FILE

`--run DIR` reads a finished run folder instead, without the time from nothing.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.candidates import candidate_seconds
from benchmarks.document import Document, markdown_table
from tvm_prune.codec import encode
from tvm_prune.jobs.folder import RunFolder
from tvm_prune.jobs.report import load_report
from tvm_prune.report.document import RunReport
from tvm_prune.report.history import stage_seconds

ROOT = Path(__file__).parents[1]
COLUMNS = {"method": "", "label": "", "latency_ms": ".4f", "accuracy": ".4f", "macs": "", "params": ""}


def rows_of(report: RunReport) -> list[dict[str, Any]]:
    """Return dense, each uniform network, the envelope at the pruned accuracy, and the pruned network."""
    summary = report.summary
    rows = [{"method": "dense", **encode(summary.dense)}]
    rows += [
        {"method": "uniform", "label": point.label, "latency_ms": point.latency_ms, "accuracy": point.accuracy}
        for point in report.uniform
    ]
    if summary.uniform is not None:
        rows.append({"method": "uniform", "label": "envelope at the pruned accuracy", **encode(summary.uniform)})
    return [*rows, {"method": "cprune", **encode(summary.pruned)}]


def summary_of(report: RunReport, seconds: float | None) -> dict[str, Any]:
    """Return the figures that the rows do not hold."""
    summary = report.summary
    return {
        "seconds_from_nothing_to_report": seconds,
        "seconds_of_the_run": summary.seconds,
        "speedup": summary.speedup,
        "versus_uniform": summary.versus_uniform,
        "uniform_note": summary.uniform_note,
        "test_images": encode(summary.test_images),
        "explained_dense": report.dense.explained_s / report.dense.whole.latency_s,
        "explained_pruned": report.pruned.explained_s / report.pruned.whole.latency_s,
        "parity_max_abs_err": summary.parity_max_abs_err,
        "trials": summary.trials,
        "measurements": summary.measurements,
        **candidate_seconds(report.trials),
        "search_by_stage_s": {stage: round(each, 1) for stage, each in stage_seconds(report.trials).items()},
        "stop_reason": report.stop_reason,
        "notes": list(report.notes),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, metavar="DIR", help="a finished run folder of the demo")
    parser.add_argument("--seconds", type=float, help="what that run took from nothing, if it was timed")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run, seconds = arguments.run, arguments.seconds
        if run is None:
            clone = Path(folder) / "clone"
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
            begin = time.monotonic()
            subprocess.run(["make", "demo"], cwd=clone, check=True)
            run, seconds = clone / "runs" / "demo", time.monotonic() - begin
        report = load_report(RunFolder(run))
    rows, summary = rows_of(report), summary_of(report, seconds)
    if arguments.json is not None:
        Document(rows=rows, summary=summary, command="make demo").write(arguments.json)
    print(markdown_table(rows, COLUMNS))
    for name, value in summary.items():
        print(f"- {name}: {value}")


if __name__ == "__main__":
    main()
