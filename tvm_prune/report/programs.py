"""The program table for reading: which tasks a model became, with which programs, and what each of them takes."""

from dataclasses import dataclass

from tvm_prune.codec import STRICT
from tvm_prune.oracle.table import ProgramTable, Row
from tvm_prune.report.sheet import Column, Sheet, column, number

__all__ = ["ProgramLine", "ProgramView", "layers_text", "program_sheet", "program_view", "task_name"]

LAYERS_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class ProgramLine:
    """One task. Times are microseconds: one call alone, one call in place, all calls in place; `share` is 0..1."""

    task: str
    hash: str
    layers: tuple[str, ...]
    weight: int
    program: str
    variant: str
    lanes: int
    isolated_us: float
    in_place_us: float
    total_us: float
    share: float
    gflops: float
    trials: int
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class ProgramView:
    """All lines, most costly first, overhead and measured whole (microseconds), and the part explained (0..1)."""

    lines: tuple[ProgramLine, ...]
    overhead_us: float
    whole_us: float
    explained: float
    untuned: int
    __pydantic_config__ = STRICT


def task_name(row: Row) -> str:
    """Return what a task computes, e.g. ``conv2d 32x32 3x3 16->16``."""
    return f"{row.task.kind} {row.task.shape}".strip()


def layers_text(layers: tuple[str, ...], shown: int = LAYERS_SHOWN) -> str:
    """Return the first layers by name and how many more there are."""
    if len(layers) <= shown:
        return ", ".join(layers) or "-"
    return f"{', '.join(layers[:shown])} +{len(layers) - shown}"


def _line(table: ProgramTable, row: Row) -> ProgramLine:
    program = row.program
    return ProgramLine(
        task=task_name(row),
        hash=row.task.hash,
        layers=row.task.layers,
        weight=row.task.weight,
        program=program.tiles() if program else "default schedule",
        variant=program.variant if program else "",
        lanes=program.lanes if program else 0,
        isolated_us=row.isolated_s * 1e6,
        in_place_us=row.in_situ_s * 1e6,
        total_us=row.total_s * 1e6,
        share=table.share(row),
        gflops=row.gflops,
        trials=row.trials,
    )


def program_view(table: ProgramTable) -> ProgramView:
    """Return `table` for reading, most costly task first."""
    return ProgramView(
        lines=tuple(_line(table, row) for row in table.ranked()),
        overhead_us=table.overhead_s * 1e6,
        whole_us=table.whole.latency_s * 1e6,
        explained=table.explained_s / table.whole.latency_s,
        # A task without weights (pooling, a sum) runs the default schedule by design.
        untuned=sum(1 for row in table.rows if row.program is None and row.task.layers),
    )


def _cells(line: ProgramLine) -> tuple[str, ...]:
    program = f"{line.program}, {line.lanes} lanes, {line.variant}" if line.lanes else line.program
    return (
        line.task,
        layers_text(line.layers),
        str(line.weight),
        program,
        number(line.isolated_us),
        number(line.in_place_us),
        number(line.total_us),
        f"{line.share:.1%}",
        number(line.gflops) if line.gflops else "-",
        str(line.trials),
    )


def program_sheet(view: ProgramView, *, title: str = "Tasks and programs") -> Sheet:
    """Return the program table as a sheet, the overhead and the whole as its last rows."""
    rows = [_cells(line) for line in view.lines]
    total = sum(line.total_us for line in view.lines) + view.overhead_us
    rest = ("", "", "", "", "")
    share = view.overhead_us / total if total else 0.0
    rows.append(("overhead (between kernels)", *rest, number(view.overhead_us), f"{share:.1%}", "", ""))
    rows.append(("measured whole", *rest, number(view.whole_us), "", "", str(sum(line.trials for line in view.lines))))
    notes = [f"Rows in place and overhead explain {view.explained:.1%} of the measured whole."]
    if view.untuned:
        notes.append(f"{view.untuned} tasks with weights run the compiler's default schedule: tune them first.")
    return Sheet(
        title=title,
        columns=(
            Column(name="task"),
            Column(name="layers"),
            column("weight"),
            Column(name="program"),
            column("alone us"),
            column("in place us"),
            column("total us"),
            column("share"),
            column("GFLOPS"),
            column("trials"),
        ),
        rows=tuple(rows),
        notes=tuple(notes),
    )
