"""What stands in the way: of the machine, and of one model."""

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm_prune.codec import STRICT
from tvm_prune.graph.groups import Ignored, find_groups
from tvm_prune.jobs.tune import compressed
from tvm_prune.models.load import Model
from tvm_prune.report.sheet import Column, Sheet, column

__all__ = ["Check", "Diagnosis", "GroupView", "diagnosis_sheets", "group_views", "machine_checks"]

TESTED = {"apache-tvm": "0.27.0.post1", "apache-tvm-ffi": "0.1.14.post1"}
NEEDED_DISK_BYTES = 1 << 30


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
class Diagnosis:
    """The machine's checks, the model's, its groups, its tasks in words, and an estimate of tuning time (seconds)."""

    checks: tuple[Check, ...]
    groups: tuple[GroupView, ...]
    tasks: tuple[str, ...]
    tuning_s: float | None
    __pydantic_config__ = STRICT

    @property
    def ok(self) -> bool:
        """Whether nothing stands in the way."""
        return all(check.ok for check in self.checks)


def machine_checks(folder: Path) -> tuple[Check, ...]:
    """Return what this machine has and lacks; `folder` is where a run would write."""
    python = ".".join(map(str, sys.version_info[:3]))
    checks = [
        Check(
            name="python",
            ok=(3, 11) <= sys.version_info[:2] < (3, 14),
            found=python,
            advice="install Python 3.11, the tested version",
        )
    ]
    for package, version in TESTED.items():
        checks.append(_package(package, version))
    linker = next((path for name in ("g++", "clang++", "c++") if (path := shutil.which(name))), None)
    checks.append(
        Check(
            name="linker",
            ok=linker is not None,
            found=linker or "none of g++, clang++, c++ on PATH",
            advice="apt-get install g++ (it links what the compiler builds)",
        )
    )
    cores = len(os.sched_getaffinity(0))
    checks.append(Check(name="cores", ok=True, found=str(cores)))
    present = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(present).free
    checks.append(
        Check(
            name="disk",
            ok=free >= NEEDED_DISK_BYTES,
            found=f"{free / 2**30:.1f} GiB free under {present}",
            advice="free at least 1 GiB or choose another --out",
        )
    )
    return tuple(checks)


def _package(name: str, version: str) -> Check:
    advice = f"pip install {name}=={version} (other versions crash while tuning or lower differently)"
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Check(name=name, ok=False, found="not installed", advice=advice)
    return Check(name=name, ok=found == version, found=found, advice=advice)


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
        columns=(Column(name="task"),),
        rows=tuple((task,) for task in diagnosis.tasks),
        notes=() if seconds is None else (f"Tuning those without a record takes about {seconds:.0f} s.",),
    )
    return checks, *((groups,) if diagnosis.groups else ()), *((tasks,) if diagnosis.tasks else ())
