"""The report on disk: report.md and its plots in the run folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm_prune.codec import STRICT
from tvm_prune.files import write_atomically
from tvm_prune.oracle.table import ProgramTable
from tvm_prune.report.change import change_sheet, task_changes
from tvm_prune.report.history import history_lines, history_sheet, seconds_sheet
from tvm_prune.report.markdown import to_markdown
from tvm_prune.report.plots import Point, plot_history, plot_latency_accuracy, plot_tasks
from tvm_prune.report.programs import program_sheet, program_view
from tvm_prune.report.sheet import Sheet
from tvm_prune.report.summary import Figures, Summary, summary_sheet
from tvm_prune.search.trial import Trial

__all__ = ["RunReport", "report_sheets", "unprunable_layers", "write_report"]


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """All that a report says of one run.

    `trials` are the searcher's, in order, trial 0 the dense model; `uniform` are the networks of the uniform baseline
    and `envelope` the best of them, on the test split as the summary; `accuracy_floor` is the requirement on the
    validation split (0..1); `notes` say what happened after the search.
    """

    summary: Summary
    dense: ProgramTable
    pruned: ProgramTable
    trials: tuple[Trial, ...]
    stop_reason: str = ""
    uniform: tuple[Point, ...] = ()
    envelope: tuple[Point, ...] = ()
    accuracy_floor: float | None = None
    notes: tuple[str, ...] = ()
    __pydantic_config__ = STRICT


def unprunable_layers(trials: Sequence[Trial]) -> dict[str, str]:
    """Return the layers whose output channels cannot be removed, each with the reason; from trial 0's groups."""
    groups = (trials[0].groups or ()) if trials else ()
    return {layer: group.reason for group in groups if not group.prunable for layer in group.outputs}


def report_sheets(run: RunReport) -> tuple[Sheet, ...]:
    """Return every sheet of the report in reading order."""
    lines = history_lines(run.trials)
    return (
        summary_sheet(run.summary),
        change_sheet(task_changes(run.dense, run.pruned, unprunable=unprunable_layers(run.trials))),
        history_sheet(lines, priced=len(run.trials) - len(lines), stop_reason=run.stop_reason),
        seconds_sheet(run.trials),
        program_sheet(program_view(run.pruned), title="Tasks and programs, pruned"),
        program_sheet(program_view(run.dense), title="Tasks and programs, dense"),
    )


def write_report(run: RunReport, folder: Path) -> Path:
    """Write report.md and plots/*.png into `folder` and return the path of report.md."""
    plots = folder / "plots"
    plot_latency_accuracy(
        plots / "latency_accuracy.png",
        dense=_point(run.summary.dense, "dense"),
        pruned=_point(run.summary.pruned, "pruned"),
        uniform=run.uniform,
        envelope=run.envelope,
        title=f"{run.summary.model} on {run.summary.data}",
    )
    plot_history(plots / "history.png", history_lines(run.trials), accuracy_floor=run.accuracy_floor)
    changes = task_changes(run.dense, run.pruned, unprunable=unprunable_layers(run.trials))
    plot_tasks(plots / "tasks.png", dense=run.dense, pruned=run.pruned, changes=changes)
    before_after, change, history, *rest = report_sheets(run)
    parts = [
        f"# {run.summary.model} on {run.summary.data}\n",
        to_markdown(before_after),
        "![Latency against accuracy](plots/latency_accuracy.png)\n",
        to_markdown(change),
        "![Time of each task before and after](plots/tasks.png)\n",
        to_markdown(history),
        *(f"- {note}\n" for note in run.notes),
        "![Latency and accuracy over the trials](plots/history.png)\n",
        *(to_markdown(sheet) for sheet in rest),
    ]
    path = folder / "report.md"
    write_atomically(path, "\n".join(parts))
    return path


def _point(figures: Figures, label: str) -> Point:
    return Point(latency_ms=figures.latency_ms, accuracy=figures.accuracy, label=label)
