"""summary.json: the outcome of one run in figures, for people and for scripts."""

import json
from dataclasses import dataclass
from pathlib import Path

from tvm_prune.codec import STRICT, decode, encode
from tvm_prune.errors import ConfigError
from tvm_prune.files import write_atomically
from tvm_prune.oracle.cost import Cost
from tvm_prune.report.sheet import Column, Sheet, column, number
from tvm_prune.search.trial import Accuracy

__all__ = ["Figures", "Summary", "TestImages", "read_summary", "summary_sheet", "write_summary"]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One network: latency of the whole compiled module, top-1 accuracy on the test split (0..1), size."""

    latency_ms: float
    accuracy: float
    macs: int
    params: int
    __pydantic_config__ = STRICT

    @classmethod
    def of(cls, cost: Cost, accuracy: Accuracy) -> "Figures":
        """Return the figures of a measured and tested model."""
        return cls(latency_ms=cost.latency_s * 1e3, accuracy=accuracy.fraction, macs=cost.macs, params=cost.params)


@dataclass(frozen=True, kw_only=True)
class TestImages:
    """Test images answered correctly before and after, and how many were lost net."""

    __test__ = False  # the name starts like a test class; pytest must not collect it

    total: int
    dense_correct: float
    pruned_correct: float
    lost_net: float
    __pydantic_config__ = STRICT

    @classmethod
    def of(cls, dense: Accuracy, pruned: Accuracy) -> "TestImages":
        """Return the counts of two networks on the same images."""
        assert dense.total == pruned.total, f"two test splits: {dense.total} and {pruned.total} images"
        return cls(
            total=dense.total,
            dense_correct=dense.correct,
            pruned_correct=pruned.correct,
            lost_net=dense.correct - pruned.correct,
        )


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What summary.json holds.

    `uniform` is the uniform baseline's lower envelope at the pruned model's accuracy, `versus_uniform` its latency over
    the pruned one's (above 1 = the pruned model is faster). Where no two networks of the baseline enclose that accuracy
    `uniform_note` says which one stands in, and `versus_uniform` is None unless the true factor is at least as far from
    1; both are None when no uniform network was tried. `speedup` is the paired measurement dense over pruned, not the
    quotient of two separate readings. `seconds` is wall-clock time of the whole run.
    """

    model: str
    data: str
    target: str
    threads: int
    dense: Figures
    pruned: Figures
    uniform: Figures | None
    speedup: float
    accuracy_drop_pp: float
    parity_max_abs_err: float
    trials: int
    measurements: int
    seconds: float
    test_images: TestImages
    versus_uniform: float | None
    uniform_note: str = ""
    __pydantic_config__ = STRICT


def write_summary(summary: Summary, path: Path) -> None:
    """Write `summary` to `path` as indented JSON, whole or not at all."""
    write_atomically(path, json.dumps(encode(summary), indent=2) + "\n")


def read_summary(path: Path) -> Summary:
    """Return the summary in `path`. Raises ConfigError when the file is missing, broken or of another version."""
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(f"no {path}: the run has not finished; start its command again, it resumes") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not JSON ({error}); delete it and start the run's command again") from error
    return decode(Summary, data)


def summary_sheet(summary: Summary) -> Sheet:
    """Return before and after as a sheet: one row a figure."""
    dense, pruned, uniform = summary.dense, summary.pruned, summary.uniform

    def row(name: str, values: tuple[str, str, str], change: str) -> tuple[str, ...]:
        return (name, *values, change)

    def three(text: str, before: Figures, after: Figures, other: Figures | None, scale: float) -> tuple[str, str, str]:
        cells = [number(getattr(each, text) * scale, 4) if each else "-" for each in (before, after, other)]
        return (cells[0], cells[1], cells[2])

    images = summary.test_images
    rows = (
        row("latency ms", three("latency_ms", dense, pruned, uniform, 1), f"{summary.speedup:.2f}x faster (paired)"),
        row(
            "accuracy %",
            three("accuracy", dense, pruned, uniform, 100),
            f"{-summary.accuracy_drop_pp:+.2f} points",
        ),
        row(
            f"correct of {images.total}",
            (f"{images.dense_correct:g}", f"{images.pruned_correct:g}", "-"),
            f"{images.lost_net:g} lost net",
        ),
        row("MMACs", three("macs", dense, pruned, uniform, 1e-6), f"{1 - pruned.macs / dense.macs:.0%} removed"),
        row(
            "k parameters",
            three("params", dense, pruned, uniform, 1e-3),
            f"{1 - pruned.params / dense.params:.0%} removed",
        ),
    )
    notes = [
        f"{summary.model} on {summary.data}; {summary.target}, {summary.threads} threads; {summary.trials} trials, "
        f"{summary.measurements} measurements, {summary.seconds:.0f} s.",
        f"Compiled module against torch: largest absolute difference {summary.parity_max_abs_err:.1e}.",
    ]
    if summary.versus_uniform is not None:
        factor = summary.versus_uniform
        compared = f"{factor:.2f}x faster" if factor >= 1 else f"{1 / factor:.2f}x slower"
        against = "that stand-in" if summary.uniform_note else "uniform pruning at this accuracy"
        notes.append(f"The pruned model is {compared} than {against}.")
    if summary.uniform_note:
        notes.insert(2, summary.uniform_note)
    return Sheet(
        title="Before and after",
        columns=(Column(name=""), column("dense"), column("pruned"), column("uniform"), Column(name="change")),
        rows=rows,
        notes=tuple(notes),
    )
