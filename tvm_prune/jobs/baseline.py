"""The uniform baseline of a run, and what it offers at the accuracy of the pruned model."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from tvm_prune.codec import STRICT
from tvm_prune.oracle.base import CostOracle
from tvm_prune.report.summary import Figures
from tvm_prune.search.budget import Budget
from tvm_prune.search.envelope import Envelope, Point
from tvm_prune.search.journal import Header
from tvm_prune.search.loop import Progress, run
from tvm_prune.search.outcome import Outcome
from tvm_prune.search.uniform import Uniform, UniformSettings
from tvm_prune.search.workbench import Workbench

__all__ = ["Offer", "UniformPoint", "envelope_of", "offer_at", "run_baseline", "uniform_points"]


@dataclass(frozen=True, kw_only=True)
class UniformPoint:
    """One uniform network: `relative` is its latency over the dense one (paired), accuracy that on the test split.

    `spread` is the distance between the 10th and 90th percentile of that ratio; `seconds` and `measurements` its price.
    """

    label: str
    relative: float
    accuracy: float
    macs: int
    params: int
    spread: float = 0.0
    seconds: float = 0.0
    measurements: int = 0
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What the baseline offers at an accuracy: figures, and a note where that is not an interpolation.

    `bound` is what its latency over another's says there: "exact" between networks of the baseline, "at least" where
    the best it has is less accurate, "at most" where the least it has is more accurate.
    """

    figures: Figures
    note: str = ""
    bound: Literal["exact", "at least", "at most"] = "exact"

    def versus(self, latency_ms: float) -> float | None:
        """Return how much faster than the baseline `latency_ms` is; None where only an upper bound above 1 is known."""
        factor = self.figures.latency_ms / latency_ms
        return None if self.bound == "at most" and factor > 1 else factor


def run_baseline(
    settings: UniformSettings,
    workbench: Workbench,
    oracle: CostOracle,
    *,
    header: Header,
    folder: Path,
    progress: Progress | None = None,
) -> Outcome:
    """Run the uniform networks through the loop; a killed run goes on where it was."""
    return run(Uniform(settings), workbench, oracle, header=header, budget=Budget(), run_dir=folder, progress=progress)


def uniform_points(outcome: Outcome, workbench: Workbench) -> tuple[UniformPoint, ...]:
    """Return the networks of a finished baseline, each scored on the test split: call it after the last decision."""
    points = []
    prices = {trial.proposal.steps: trial for trial in outcome.trials if trial.proposal and trial.proposal.price_only}
    for trial in outcome.accepted[1:]:
        assert trial.ratio is not None
        assert trial.cost is not None
        assert trial.proposal is not None
        accuracy = workbench.test(outcome.model(trial.number, workbench))
        both = [trial, *([prices[trial.proposal.steps]] if trial.proposal.steps in prices else [])]
        points.append(
            UniformPoint(
                label=trial.proposal.note.removeprefix("uniform ").replace(", counts in multiples of ", "/"),
                relative=trial.ratio.median,
                accuracy=accuracy.fraction,
                macs=trial.cost.macs,
                params=trial.cost.params,
                spread=trial.ratio.high - trial.ratio.low,
                seconds=sum(sum(each.seconds.values()) for each in both),
                measurements=sum(each.measurements for each in both),
            )
        )
    return tuple(points)


def offer_at(points: Sequence[UniformPoint], accuracy: float, *, dense: Figures) -> Offer | None:
    """Return the least latency that uniform pruning offers at `accuracy` (0..1), None without any network.

    The dense network counts as one of `points` with nothing removed. Between two networks of the lower envelope all
    figures are interpolated linearly. Beyond its ends nothing is extrapolated: below the least accurate network that
    one stands in (it is better and as fast as any), above the most accurate that one (so the true figure is no lower).
    """
    if not points:
        return None
    ordered = envelope_of(points, dense=dense)
    if accuracy <= ordered[0].accuracy:
        figures = _between(ordered[0], ordered[0], 0.0, dense=dense)
        if accuracy == ordered[0].accuracy:
            return Offer(figures=figures)
        note = "The fastest uniform network is more accurate than that and stands in."
        return Offer(figures=figures, note=note, bound="at most")
    for low, high in pairwise(ordered):
        if accuracy <= high.accuracy:
            part = (accuracy - low.accuracy) / (high.accuracy - low.accuracy)
            return Offer(figures=_between(low, high, part, dense=dense))
    note = f"No uniform network is as accurate; the most accurate one ({ordered[-1].label}) stands in."
    return Offer(figures=_between(ordered[-1], ordered[-1], 0.0, dense=dense), note=note, bound="at least")


def envelope_of(points: Sequence[UniformPoint], *, dense: Figures) -> tuple[UniformPoint, ...]:
    """Return the networks, the dense one included, that no other beats in both latency and accuracy, fastest first."""
    if not points:
        return ()
    whole = UniformPoint(label="dense", relative=1.0, accuracy=dense.accuracy, macs=dense.macs, params=dense.params)
    by_place = {(point.accuracy, point.relative): point for point in (*points, whole)}
    best = Envelope.of(Point(point.accuracy, point.relative) for point in by_place.values()).points
    return tuple(by_place[(point.worth, point.latency_s)] for point in best)


def _between(low: UniformPoint, high: UniformPoint, part: float, *, dense: Figures) -> Figures:
    def mixed(first: float, second: float) -> float:
        return first + part * (second - first)

    return Figures(
        latency_ms=mixed(low.relative, high.relative) * dense.latency_ms,
        accuracy=mixed(low.accuracy, high.accuracy),
        macs=round(mixed(low.macs, high.macs)),
        params=round(mixed(low.params, high.params)),
    )
