"""PNG plots of a run. Drawn without a display and without matplotlib's global state."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tvm_prune.codec import STRICT
from tvm_prune.files import write_atomically
from tvm_prune.oracle.table import ProgramTable
from tvm_prune.report.change import TaskChange
from tvm_prune.report.history import HistoryLine
from tvm_prune.search.trial import State

__all__ = ["Point", "plot_history", "plot_latency_accuracy", "plot_tasks"]

# Okabe and Ito's palette: told apart by readers who do not see all colours.
BLUE, ORANGE, GREEN, RED, GREY, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#777777", "#56B4E9"
BARS = (BLUE, ORANGE, GREEN, RED, "#CC79A7", SKY, "#F0E442", "#332288", "#117733", "#882255")
NAMED_TASKS = len(BARS)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One network in the plane of latency (milliseconds) and accuracy (0..1)."""

    latency_ms: float
    accuracy: float
    label: str = ""
    __pydantic_config__ = STRICT


def plot_latency_accuracy(
    path: Path,
    *,
    dense: Point,
    pruned: Point,
    uniform: Sequence[Point] = (),
    envelope: Sequence[Point] = (),
    title: str = "Latency against accuracy",
) -> None:
    """Draw every network and the uniform envelope through its points. Accuracies are of the test split."""
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.add_subplot()
    if uniform:
        label = "uniform (ratio kept / rounding)"
        axes.plot(*_columns(uniform), linestyle="none", marker="s", markersize=5, color=ORANGE, label=label)
    if envelope:
        ordered = sorted(envelope, key=lambda point: point.latency_ms)
        axes.plot(*_columns(ordered), color=ORANGE, linewidth=1.5, label="uniform envelope")
    axes.plot(*_columns([dense]), linestyle="none", marker="D", markersize=8, color=GREY, label="dense, tuned")
    axes.plot(*_columns([pruned]), linestyle="none", marker="*", markersize=16, color=BLUE, label="pruned")
    for point in (dense, pruned, *uniform):
        if point.label:
            place = (point.latency_ms, point.accuracy * 100)
            axes.annotate(point.label, place, textcoords="offset points", xytext=(6, 4), fontsize=7, color=GREY)
    axes.set_xlabel("latency of the whole compiled module, ms (left is faster)")
    axes.set_ylabel("test accuracy, % (up is better)")
    axes.set_title(title)
    axes.set_xlim(0, 1.08 * max(point.latency_ms for point in (dense, pruned, *uniform, *envelope)))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    _save(figure, path)


def plot_history(path: Path, lines: Sequence[HistoryLine], *, accuracy_floor: float | None = None) -> None:
    """Draw latency and accuracy (validation) over the trials that were built; those refused stand apart in red."""
    figure = Figure(figsize=(7.5, 5.5), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    markers = {State.ACCEPTED: "o", State.TOO_SLOW: "v", State.INACCURATE: "x"}
    for axes, name, scale in ((top, "latency_ms", 1.0), (bottom, "accuracy", 100.0)):
        for state, marker in markers.items():
            dots = [
                (line.trial, value * scale)
                for line in lines
                if line.state is state and (value := getattr(line, name)) is not None
            ]
            if dots:
                style = "-" if state is State.ACCEPTED else "none"
                colour = BLUE if state is State.ACCEPTED else RED
                axes.plot(*zip(*dots, strict=True), linestyle=style, marker=marker, color=colour, label=state.value)
        axes.grid(alpha=0.3)
    if accuracy_floor is not None:
        bottom.axhline(accuracy_floor * 100, color=GREY, linestyle="--", linewidth=1, label="required")
    top.set_ylabel("latency, ms")
    top.set_ylim(0, 1.1 * max((line.latency_ms for line in lines if line.latency_ms is not None), default=1.0))
    bottom.set_ylabel("validation accuracy, %")
    bottom.set_xlabel("trial (numbers in between were only priced)")
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
    entries = {label: handle for axes in (top, bottom) for handle, label in zip(*_legend(axes), strict=True)}
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=4, frameon=False)
    top.set_title("Search history")
    _save(figure, path)


def plot_tasks(path: Path, *, dense: ProgramTable, pruned: ProgramTable, changes: Sequence[TaskChange]) -> None:
    """Draw two stacked bars, dense and pruned: time in place of each dense task's layers, the overhead on top."""
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    axes = figure.add_subplot()
    ordered = sorted(changes, key=lambda change: -change.before_us)
    named, rest = ordered[:NAMED_TASKS], ordered[NAMED_TASKS:]
    parts = [(_name(change), change.before_us, change.after_us) for change in named]
    if rest:
        total = (sum(change.before_us for change in rest), sum(change.after_us for change in rest))
        parts.append((f"{len(rest)} more tasks", *total))
    parts.append(("overhead", dense.overhead_s * 1e6, pruned.overhead_s * 1e6))
    colours = (*BARS[: len(named)], *(("#BBBBBB",) if rest else ()), "#444444")
    _stack(axes, parts, colours)
    for place, table in ((0, dense), (1, pruned)):
        axes.plot([place - 0.3, place + 0.3], [table.whole.latency_s * 1e6] * 2, color="black", linestyle="--")
        text = f"{table.whole.latency_s * 1e6:.0f} us measured"
        axes.annotate(
            text, (place, table.whole.latency_s * 1e6), textcoords="offset points", xytext=(0, 5), ha="center"
        )
    axes.set_xticks([0, 1], ["dense", "pruned"])
    axes.set_xlim(-0.5, 1.5)
    axes.set_ylabel("time in place of all calls, us")
    axes.set_title("Where the time goes")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    _save(figure, path)


def _stack(axes: Axes, parts: Sequence[tuple[str, float, float]], colours: Sequence[str]) -> None:
    heights = [0.0, 0.0]
    for (name, before, after), colour in zip(parts, colours, strict=True):
        axes.bar([0, 1], [before, after], bottom=heights, width=0.6, color=colour, edgecolor="white", label=name)
        heights = [heights[0] + before, heights[1] + after]
    axes.set_ylim(top=1.12 * max(heights))


def _name(change: TaskChange) -> str:
    if not change.layers:
        return change.task
    others = f" +{len(change.layers) - 1}" if len(change.layers) > 1 else ""
    return f"{change.task} ({change.layers[0]}{others})"


def _legend(axes: Axes) -> tuple[list[Artist], list[str]]:
    handles, labels = axes.get_legend_handles_labels()
    return list(handles), list(labels)


def _columns(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.latency_ms for point in points], [point.accuracy * 100 for point in points]


def _save(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_atomically(path, buffer.getvalue())
