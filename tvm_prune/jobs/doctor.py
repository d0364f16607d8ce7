"""What stands in the way: of the machine, and of one model."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm_prune.codec import STRICT
from tvm_prune.errors import ModelError, PruningError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.groups import Ignored, find_groups
from tvm_prune.jobs.tune import compressed
from tvm_prune.models.load import Model
from tvm_prune.oracle.lower import lower
from tvm_prune.oracle.records import Records
from tvm_prune.oracle.target import Target, usable_cores
from tvm_prune.oracle.tasks import task_graph
from tvm_prune.oracle.toolchain import check_toolchain
from tvm_prune.report.programs import layers_text
from tvm_prune.report.sheet import Column, Sheet, column, number

__all__ = [
    "Check",
    "Diagnosis",
    "GroupView",
    "TaskView",
    "diagnose",
    "diagnosis_sheets",
    "group_views",
    "integer_check",
    "machine_checks",
    "task_views",
]

NEEDED_DISK_BYTES = 1 << 30
# One program built and measured, on two cores, and programs after which a layer's task is mostly left: ResNet-20's 13
# took 86 in 22 s, MobileNetV2's 33 took 216 in 39 s, a text recogniser's 50 took 274 in 80 s.
SECONDS_A_TRIAL = 0.25
TRIALS_A_TASK = 6


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at: what was found, and what to do where it is not `ok`."""

    name: str
    ok: bool
    found: str
    advice: str = ""
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class GroupView:
    """One dependency group: its width, the weighted layers it runs through, and why it cannot be pruned, if so."""

    name: str
    width: int
    layers: tuple[str, ...]
    prunable: bool
    reason: str
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class TaskView:
    """One task: its layers, how many calls share it, its multiply-accumulates, whether the records hold a program."""

    task: str
    layers: tuple[str, ...]
    weight: int
    macs: int
    tuned: bool
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The machine's checks, the model's, its groups, its tasks, and an estimate of tuning time (seconds)."""

    checks: tuple[Check, ...]
    groups: tuple[GroupView, ...]
    tasks: tuple[TaskView, ...]
    tuning_s: float | None
    __pydantic_config__ = STRICT

    @property
    def ok(self) -> bool:
        """Whether nothing stands in the way."""
        return all(check.ok for check in self.checks)


def machine_checks(folder: Path) -> tuple[Check, ...]:
    """Return what this machine has and lacks; `folder` is where a run would write."""
    present = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(present).free
    return (
        Check(
            name="python",
            ok=(3, 11) <= sys.version_info[:2] < (3, 14),
            found=".".join(map(str, sys.version_info[:3])),
            advice="install Python 3.11, the tested version",
        ),
        *(Check(name=check.name, ok=check.good, found=check.found, advice=check.advice) for check in check_toolchain()),
        Check(name="cores", ok=True, found=str(usable_cores())),
        Check(
            name="disk",
            ok=free >= NEEDED_DISK_BYTES,
            found=f"{free / 2**30:.1f} GiB free under {present}",
            advice="free at least 1 GiB or choose another folder for the records",
        ),
    )


def integer_check(target: Target) -> Check:
    """Return which instruction integers run on, so that one knows whether few bits may pay. Raises TargetError."""
    found = target.dot_product
    says = "no instruction; integers run on plain multiplications" if found is None else found.says
    return Check(name="int8", ok=True, found=f"{says}; 1 to 7 bits run so too, up to 2x2 in planes where faster")


def diagnose(
    model: Model, target: Target, *, records: Path, trials_per_task: int, ignored: Sequence[Ignored] = ()
) -> Diagnosis:
    """Look at the machine, then at `model`: its groups, whether the compiler takes it, and its tasks. Tunes nothing.

    What stands in the way of compiling is a check that is not `ok`, not an exception. `records` holds the tuning
    records that a run would reuse.
    """
    checks = list(machine_checks(records))
    if all(check.ok for check in checks):
        checks.append(integer_check(target))
    groups: tuple[GroupView, ...] = ()
    try:
        groups = group_views(model, ignored=ignored)
    except (ModelError, PruningError) as error:
        checks.append(Check(name="groups", ok=False, found=type(error).__name__, advice=str(error)))
    if not model.prunable:
        checks.append(Check(name="prunable", ok=True, found="no: an exported archive can be tuned and measured only"))
    tasks: tuple[TaskView, ...] = ()
    if all(check.ok for check in checks):
        try:
            tasks = task_views(compressed(model), target, records=records)
            checks.append(Check(name="compiler takes it", ok=True, found=f"{len(tasks)} tasks"))
        except ModelError as error:
            checks.append(Check(name="compiler takes it", ok=False, found=type(error).__name__, advice=str(error)))
    missing = sum(1 for task in tasks if not task.tuned and task.layers)
    return Diagnosis(
        checks=tuple(checks),
        groups=groups,
        tasks=tasks,
        tuning_s=missing * min(trials_per_task, TRIALS_A_TASK) * SECONDS_A_TRIAL if tasks else None,
    )


def task_views(model: CompressedModel, target: Target, *, records: Path) -> tuple[TaskView, ...]:
    """Return the tasks of `model` without tuning them. Raises ModelError when the compiler does not take it."""
    graph = task_graph(lower(model), target)
    known = Records(records, target) if records.exists() else None
    try:
        return tuple(
            TaskView(
                task=f"{task.kind} {task.shape}",
                layers=task.layers,
                weight=task.weight,
                macs=task.macs,
                tuned=known is not None
                and any(known.best(variant.kernel.key) is not None for variant in graph.variants[task.hash]),
            )
            for task in graph.tasks
        )
    finally:
        if known is not None:
            known.close()


def group_views(model: Model, *, ignored: Sequence[Ignored] = ()) -> tuple[GroupView, ...]:
    """Return the dependency groups of `model` in forward order; none for a model that cannot be pruned."""
    if not model.prunable:
        return ()
    made = compressed(model)
    return tuple(
        GroupView(
            name=group.name,
            width=group.width,
            layers=tuple(dict.fromkeys(member.layer for member in group.members if member.kind != "norm")),
            prunable=group.prunable,
            reason=group.reason,
        )
        for group in find_groups(made.module, made.example_inputs, ignored_layers=ignored)
    )


def diagnosis_sheets(diagnosis: Diagnosis) -> tuple[Sheet, ...]:
    """Return the diagnosis as sheets: checks, groups, tasks."""
    checks = Sheet(
        title="Checks",
        columns=(Column(name="what"), Column(name="ok"), Column(name="found"), Column(name="what to do")),
        rows=tuple(
            (check.name, "yes" if check.ok else "NO", check.found, "" if check.ok else check.advice)
            for check in diagnosis.checks
        ),
    )
    prunable = sum(1 for group in diagnosis.groups if group.prunable)
    groups = Sheet(
        title="Groups of channels",
        columns=(Column(name="group"), column("channels"), Column(name="prunable"), Column(name="layers")),
        rows=tuple(
            (
                group.name,
                str(group.width),
                "yes" if group.prunable else f"no: {group.reason}",
                ", ".join(group.layers),
            )
            for group in diagnosis.groups
        ),
        notes=(f"{prunable} of {len(diagnosis.groups)} groups can be pruned.",),
    )
    seconds = diagnosis.tuning_s
    tasks = Sheet(
        title="Tasks",
        columns=(Column(name="task"), Column(name="layers"), column("weight"), column("MMACs"), Column(name="record")),
        rows=tuple(
            (
                task.task,
                layers_text(task.layers),
                str(task.weight),
                number(task.macs / 1e6),
                "yes" if task.tuned else "no",
            )
            for task in diagnosis.tasks
        ),
        notes=() if seconds is None else (f"Tuning those without a record takes about {seconds:.0f} s.",),
    )
    return checks, *((groups,) if diagnosis.groups else ()), *((tasks,) if diagnosis.tasks else ())
