"""Where did the time go, task by task, and why is this layer not faster."""

from collections.abc import Mapping
from dataclasses import dataclass

from tvm_prune.codec import STRICT
from tvm_prune.oracle.table import ProgramTable, Row
from tvm_prune.report.programs import layers_text, task_name
from tvm_prune.report.sheet import Column, Sheet, column, number

__all__ = ["LAUNCH_FLOOR_S", "TaskChange", "change_sheet", "task_changes"]

# A parallel kernel that does next to nothing takes half of this, and as much again for what it does
# (docs/benchmarks/launch.md).
LAUNCH_FLOOR_S = 0.5e-6
# In place a kernel may run slower than alone, its weights being cold; from here on that is worth saying.
COLD_RATIO = 1.5
# A program this much less efficient than its predecessor is worth saying.
EFFICIENCY_LOSS = 0.75


@dataclass(frozen=True, kw_only=True)
class TaskChange:
    """One task of the dense model and what became of its layers. Times are microseconds of all its calls in place.

    `channels` is output channels before and after (several where the task was split); `programs_after` counts the
    tasks that its layers are in now; `reasons` says why it is not faster than it is.
    """

    task: str
    layers: tuple[str, ...]
    before_us: float
    after_us: float
    channels: str
    programs_after: int
    gflops_before: float
    gflops_after: float
    reasons: tuple[str, ...]
    __pydantic_config__ = STRICT

    @property
    def speedup(self) -> float:
        """Time before over time after; 0 when nothing is left."""
        return self.before_us / self.after_us if self.after_us else 0.0


def task_changes(
    dense: ProgramTable,
    pruned: ProgramTable,
    *,
    unprunable: Mapping[str, str] | None = None,
    launch_floor_s: float = LAUNCH_FLOOR_S,
) -> tuple[TaskChange, ...]:
    """Match the tasks of two tables by layer name, the most costly dense task first.

    `unprunable` maps a layer to the reason why its channels cannot be removed. Tasks of no layer (pooling, sums) are
    compared as one line.
    """
    reasons = dict(unprunable or {})
    changes = [
        _change(row, pruned, unprunable=reasons, launch_floor_s=launch_floor_s)
        for row in dense.ranked()
        if row.task.layers
    ]
    before, after = _unlayered(dense), _unlayered(pruned)
    if before or after:
        changes.append(
            TaskChange(
                task="operators without weights",
                layers=(),
                before_us=before,
                after_us=after,
                channels="",
                programs_after=sum(1 for row in pruned.rows if not row.task.layers),
                gflops_before=0.0,
                gflops_after=0.0,
                reasons=(),
            )
        )
    return tuple(changes)


def _unlayered(table: ProgramTable) -> float:
    return sum(row.total_s for row in table.rows if not row.task.layers) * 1e6


def _change(row: Row, pruned: ProgramTable, *, unprunable: Mapping[str, str], launch_floor_s: float) -> TaskChange:
    now = [other for other in pruned.rows if set(other.task.layers) & set(row.task.layers)]
    parts = {other.task.hash: _part(other, row) for other in now}
    after_s = sum(other.total_s * parts[other.task.hash] for other in now)
    macs = sum(other.task.macs * other.task.weight * parts[other.task.hash] for other in now)
    widths = sorted({width for other in now if (width := _width(other)) is not None}, reverse=True)
    before = _width(row)
    return TaskChange(
        task=task_name(row),
        layers=row.task.layers,
        before_us=row.total_s * 1e6,
        after_us=after_s * 1e6,
        channels=f"{before if before is not None else '?'} -> {'/'.join(map(str, widths)) or '?'}",
        programs_after=len(now),
        gflops_before=row.gflops,
        gflops_after=2e-9 * macs / after_s if after_s else 0.0,
        reasons=_reasons(row, now, unprunable=unprunable, launch_floor_s=launch_floor_s),
    )


def _part(other: Row, row: Row) -> float:
    """Return which part of `other`'s calls belongs to layers of `row`; a task's layers are called equally often."""
    return len(set(other.task.layers) & set(row.task.layers)) / len(other.task.layers)


def _width(row: Row) -> int | None:
    axis = row.program.axes.get("out_c") if row.program else None
    return axis.extent if axis else None


def _reasons(row: Row, now: list[Row], *, unprunable: Mapping[str, str], launch_floor_s: float) -> tuple[str, ...]:
    """Return what keeps the layers of `row` from being faster, in the order in which to act on it."""
    found: list[str] = []
    if not now:
        return ("its layers are in no task of the pruned model",)
    same = [other for other in now if other.task.shape == row.task.shape]
    for layer in row.task.layers:
        if same and layer in unprunable and (text := f"not pruned: {unprunable[layer]}") not in found:
            found.append(text)
    if same and not found:
        found.append("not pruned: no step on it was accepted")
    for other in now:
        if other.program is None:
            found.append("runs the default schedule: not tuned")
            continue
        for role, axis in other.program.axes.items():
            if axis.padded_extent > axis.extent:
                found.append(f"program padded: {role} {axis.extent} runs as {axis.padded_extent}")
    if any(other.program and other.program.parallel > 1 and other.in_situ_s <= launch_floor_s for other in now):
        found.append(f"at the launch floor of about {launch_floor_s * 1e6:.1f} us a call")
    if any(other.in_situ_s > COLD_RATIO * other.isolated_s and other.in_situ_s > launch_floor_s for other in now):
        worst = max(now, key=lambda other: other.in_situ_s / other.isolated_s)
        found.append(
            f"memory bound: {number(worst.isolated_s * 1e6)} us with weights in cache, "
            f"{number(worst.in_situ_s * 1e6)} us in place"
        )
    slow = [other for other in now if other.gflops < EFFICIENCY_LOSS * row.gflops and other.in_situ_s > launch_floor_s]
    if slow and not same:
        worst = min(slow, key=lambda other: other.gflops)
        found.append(f"less work a call: {number(row.gflops)} -> {number(worst.gflops)} GFLOPS")
    return tuple(dict.fromkeys(found))


def change_sheet(changes: tuple[TaskChange, ...], *, title: str = "Where did the time go") -> Sheet:
    """Return the changes as a sheet."""
    rows = tuple(
        (
            change.task,
            layers_text(change.layers),
            change.channels,
            number(change.before_us),
            number(change.after_us),
            f"{change.speedup:.2f}x" if change.after_us else "-",
            f"{number(change.gflops_before)} -> {number(change.gflops_after)}" if change.layers else "",
            "; ".join(change.reasons),
        )
        for change in changes
    )
    saved = sum(change.before_us - change.after_us for change in changes)
    return Sheet(
        title=title,
        columns=(
            Column(name="task of the dense model"),
            Column(name="layers"),
            Column(name="channels"),
            column("before us"),
            column("after us"),
            column("faster"),
            column("GFLOPS"),
            Column(name="why not faster"),
        ),
        rows=rows,
        notes=(f"All calls in place; {number(saved)} us saved over all tasks, the overhead apart.",),
    )
