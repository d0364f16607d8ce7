"""What a searcher tried, trial by trial."""

from collections.abc import Iterable
from dataclasses import dataclass

from tvm_prune.codec import STRICT
from tvm_prune.report.sheet import Column, Sheet, column
from tvm_prune.search.trial import State, Trial

__all__ = ["HistoryLine", "history_lines", "history_sheet", "seconds_sheet", "stage_seconds"]


@dataclass(frozen=True, kw_only=True)
class HistoryLine:
    """One built trial: latency in milliseconds, ratio to its parent with its interval, accuracy 0..1 (validation).

    The latency is the dense model's reading times the paired ratios from there on: readings of their own, taken minutes
    apart, would show the machine's moods.
    """

    trial: int
    parent: int | None
    state: State
    steps: str
    latency_ms: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    accuracy: float | None
    seconds: float
    note: str
    __pydantic_config__ = STRICT


def _steps(trial: Trial) -> str:
    if trial.proposal is None:
        return "dense"
    return ", ".join(f"{step.group} {step.width}->{len(step.keep)}" for step in trial.proposal.steps)


def history_lines(trials: Iterable[Trial]) -> tuple[HistoryLine, ...]:
    """Return every trial but those that were only priced."""
    latency_ms: dict[int, float] = {}
    lines = []
    for trial in trials:
        if not trial.built:
            continue
        if trial.proposal is None and trial.cost is not None:
            latency_ms[trial.number] = trial.cost.latency_s * 1e3
        elif trial.proposal is not None and trial.ratio is not None:
            latency_ms[trial.number] = latency_ms[trial.proposal.parent] * trial.ratio.median
        lines.append(
            HistoryLine(
                trial=trial.number,
                parent=trial.proposal.parent if trial.proposal else None,
                state=trial.state,
                steps=_steps(trial),
                latency_ms=latency_ms.get(trial.number),
                ratio=trial.ratio.median if trial.ratio else None,
                ratio_low=trial.ratio.low if trial.ratio else None,
                ratio_high=trial.ratio.high if trial.ratio else None,
                accuracy=trial.accuracy.fraction if trial.accuracy else None,
                seconds=sum(trial.seconds.values()),
                note=trial.note,
            )
        )
    return tuple(lines)


def history_sheet(lines: tuple[HistoryLine, ...], *, priced: int = 0, stop_reason: str = "") -> Sheet:
    """Return the history as a sheet; `priced` counts the trials that were only priced."""
    rows = tuple(
        (
            str(line.trial),
            "" if line.parent is None else str(line.parent),
            line.state.value,
            line.steps,
            "-" if line.latency_ms is None else f"{line.latency_ms:.3f}",
            "-" if line.ratio is None else f"{line.ratio:.3f} ({line.ratio_low:.3f}-{line.ratio_high:.3f})",
            "-" if line.accuracy is None else f"{line.accuracy:.2%}",
            f"{line.seconds:.1f}",
            line.note,
        )
        for line in lines
    )
    notes = [
        "Ratio: latency over the parent's, median and 10th to 90th percentile of paired blocks; latency: the dense "
        "model's times the ratios from there on. Accuracy on the validation split."
    ]
    if priced:
        notes.append(f"{priced} more candidates were priced from their programs and not built.")
    if stop_reason:
        notes.append(f"Stopped: {stop_reason}")
    return Sheet(
        title="History",
        columns=(
            column("trial"),
            column("parent"),
            Column(name="outcome"),
            Column(name="steps"),
            column("latency ms"),
            column("ratio"),
            column("accuracy"),
            column("seconds"),
            Column(name="note"),
        ),
        rows=rows,
        notes=tuple(notes),
    )


def stage_seconds(trials: Iterable[Trial]) -> dict[str, float]:
    """Return wall-clock seconds of each stage over all trials, most costly first."""
    total: dict[str, float] = {}
    for trial in trials:
        for stage, seconds in trial.seconds.items():
            total[stage] = total.get(stage, 0.0) + seconds
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


def seconds_sheet(trials: Iterable[Trial]) -> Sheet:
    """Return where the search's own time went: stage, seconds, seconds per built trial, share."""
    trials = tuple(trials)
    built = sum(1 for trial in trials if trial.built)
    stages = stage_seconds(trials)
    whole = sum(stages.values())
    return Sheet(
        title="Time of the search",
        columns=(Column(name="stage"), column("seconds"), column("per built trial"), column("share")),
        rows=tuple(
            (stage, f"{seconds:.1f}", f"{seconds / max(built, 1):.2f}", f"{seconds / whole:.1%}" if whole else "-")
            for stage, seconds in stages.items()
        ),
        notes=(f"{built} trials built, {len(trials) - built} priced only, {whole:.0f} s in all.",),
    )
