"""From what was searched, measured and tested to the values of the report."""

from dataclasses import dataclass, replace

from tvm_prune.jobs.baseline import UniformPoint, envelope_of, offer_at
from tvm_prune.jobs.measured import Measured
from tvm_prune.report.document import RunReport
from tvm_prune.report.plots import Point
from tvm_prune.report.summary import Figures, Summary, TestImages
from tvm_prune.search.outcome import Outcome
from tvm_prune.search.trial import Accuracy

__all__ = ["Facts", "report_of"]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What else is known: names, the accuracy requirement (0..1), the largest difference from torch, seconds in all."""

    model: str
    data: str
    target: str
    requirement: float
    parity_max_abs_err: float
    seconds: float
    notes: tuple[str, ...]


def report_of(
    measured: Measured,
    tested: tuple[Accuracy, Accuracy],
    *,
    points: tuple[UniformPoint, ...],
    outcome: Outcome,
    facts: Facts,
) -> RunReport:
    """Return the report; `tested` is the accuracy of the dense and the pruned model on the test split."""
    # The paired ratio sets the pruned latency against the dense one's reading: two separate readings may be of two
    # speeds of the machine.
    dense = Figures.of(measured.dense.whole, tested[0])
    pruned = replace(Figures.of(measured.pruned.whole, tested[1]), latency_ms=dense.latency_ms * measured.ratio.median)
    offer = offer_at(points, pruned.accuracy, dense=dense)
    summary = Summary(
        model=facts.model,
        data=facts.data,
        target=facts.target,
        threads=measured.dense.whole.provenance.threads,
        dense=dense,
        pruned=pruned,
        uniform=offer.figures if offer else None,
        speedup=1 / measured.ratio.median,
        accuracy_drop_pp=100 * (dense.accuracy - pruned.accuracy),
        parity_max_abs_err=facts.parity_max_abs_err,
        trials=sum(1 for trial in outcome.trials if trial.built),
        measurements=outcome.measurements,
        seconds=facts.seconds,
        test_images=TestImages.of(*tested),
        versus_uniform=offer.versus(pruned.latency_ms) if offer else None,
        uniform_note=offer.note if offer else "No uniform network was tried.",
    )
    return RunReport(
        summary=summary,
        dense=measured.dense,
        pruned=measured.pruned,
        trials=outcome.trials,
        stop_reason=outcome.stop_reason,
        uniform=tuple(_point(point, dense) for point in points),
        envelope=tuple(_point(point, dense) for point in envelope_of(points, dense=dense)),
        accuracy_floor=facts.requirement,
        notes=facts.notes,
    )


def _point(point: UniformPoint, dense: Figures) -> Point:
    return Point(latency_ms=point.relative * dense.latency_ms, accuracy=point.accuracy, label=point.label)
