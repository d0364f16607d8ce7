"""Folders of tuning records as a whole: what is in them, joined, thinned out and handed on."""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tvm_prune.errors import RecordsError
from tvm_prune.files import append_line, write_atomically
from tvm_prune.oracle.record_lines import GONE, TUNING, WORKLOADS, end_lines, lock_folder, read_lines, target_key
from tvm_prune.oracle.record_units import read_units, unit_of, write_units
from tvm_prune.oracle.records import FAILED_S
from tvm_prune.oracle.spaces import SPACES
from tvm_prune.oracle.spaces.candidate import program_of_trace

__all__ = ["Holding", "export_best", "holdings", "merge", "prune"]


@dataclass(frozen=True, kw_only=True)
class Holding:
    """What a folder holds of one target and program space.

    `target` is a short text; `current` says that this version's programs are in use; `kernels` are distinct ones.
    """

    target: str
    space: str
    space_version: int
    current: bool
    kernels: int
    programs: int


@dataclass(frozen=True)
class _Line:
    """One measured program: its kernel's workload, its record as JSON, its space, whether it runs on all threads."""

    workload: Any
    record: Any
    space: str
    space_version: int
    parallel: bool

    @property
    def identity(self) -> str:
        """What makes two lines the same program of the same kernel for the same target."""
        trace, _seconds, target, _arguments = self.record
        return json.dumps([self.workload[0], trace, target_key(target)], sort_keys=True)

    @property
    def seconds(self) -> float:
        return float(statistics.median(self.record[1]))

    @property
    def current(self) -> bool:
        return SPACES.get(self.space) == self.space_version


def _lines(folder: Path) -> Iterator[_Line]:
    """Yield the readable lines of `folder`; the rest is for the tuner to quarantine. Raises RecordsError."""
    if not (folder / TUNING).is_file():
        raise RecordsError(
            f"{folder} holds no tuning records ({TUNING} is missing); pass a folder that tune has written"
        )
    workloads = [value for _, value in read_lines(folder / WORKLOADS)]
    for _, value in read_lines(folder / TUNING):
        try:
            place, record = value
            workload = workloads[place]
            trace, seconds, target, _arguments = record
            program = program_of_trace(trace, latency_s=0.0)
            if workload is None or workload[0] is None or not seconds or program is None:
                continue
            target_key(target)
        except (TypeError, ValueError, IndexError, KeyError, AttributeError):
            continue
        yield _Line(workload, record, program.space, program.space_version, program.parallel > 1)


def _append(folder: Path, lines: Sequence[_Line]) -> None:
    """Add `lines` to both files of `folder`, the workloads first; the caller holds its lock."""
    known = read_lines(folder / WORKLOADS)
    place = {value[0]: number for number, (_, value) in enumerate(known) if value is not None}
    new = {line.workload[0]: json.dumps(line.workload) for line in lines if line.workload[0] not in place}
    place.update({key: len(known) + number for number, key in enumerate(new)})
    if new:
        append_line(folder / WORKLOADS, "\n".join(new.values()))
    if lines:
        append_line(folder / TUNING, "\n".join(json.dumps([place[line.workload[0]], line.record]) for line in lines))


def _keep(folder: Path, lines: Sequence[_Line]) -> None:
    """Leave nothing but `lines`; the caller holds the lock.

    Workloads keep their places, those without a record are blanked afterwards: after a kill in between every line
    still finds its own.
    """
    workloads = read_lines(folder / WORKLOADS)
    place = {value[0]: number for number, (_, value) in enumerate(workloads) if value is not None}
    records = (json.dumps([place[line.workload[0]], line.record]) for line in lines)
    write_atomically(folder / TUNING, "".join(f"{text}\n" for text in records))
    used = {place[line.workload[0]] for line in lines}
    texts = (text if number in used else GONE for number, (text, _) in enumerate(workloads))
    write_atomically(folder / WORKLOADS, "".join(f"{text}\n" for text in texts))


def holdings(folder: Path) -> list[Holding]:
    """Return what `folder` holds, by target, then by space. Raises RecordsError if it holds no records."""
    found: dict[tuple[str, str, int, bool], tuple[set[str], int]] = {}
    for line in _lines(folder):
        key = (_target_text(line.record[2]), line.space, line.space_version, line.current)
        kernels, programs = found.setdefault(key, (set(), 0))
        kernels.add(str(line.workload[0]))
        found[key] = (kernels, programs + 1)
    return [
        Holding(
            target=target,
            space=space,
            space_version=version,
            current=current,
            kernels=len(kernels),
            programs=programs,
        )
        for (target, space, version, current), (kernels, programs) in sorted(found.items())
    ]


def merge(folder: Path, sources: Sequence[Path]) -> int:
    """Add to `folder` what `sources` know and it does not, in its unit of seconds; return how many programs that are.

    Raises RecordsError if a source holds no records or another process writes `folder`.
    """
    found = [(read_units(source), list(_lines(source))) for source in sources]
    with lock_folder(folder):
        end_lines(folder)
        kept = list(_lines(folder)) if (folder / TUNING).exists() else []
        units = read_units(folder)
        new = [line for _, lines in found for line in lines]
        # Seconds of an unknown unit that are there already must not be taken for those of a source's.
        if units or not kept:
            new = [_converted(line, theirs, units) for theirs, lines in found for line in lines]
        if units:
            write_units(folder, units)
        known = {line.identity for line in kept}
        added = []
        for line in new:
            if line.identity not in known:
                known.add(line.identity)
                added.append(line)
        _append(folder, added)
    return len(added)


def _converted(line: _Line, theirs: Mapping[str, float], units: dict[str, float]) -> _Line:
    """Return a line in `units`, which takes over the unit of a target that it has none of."""
    trace, seconds, target, arguments = line.record
    name = unit_of(theirs, target, parallel=line.parallel)
    if name is None:
        return line
    factor = units.setdefault(name, theirs[name]) / theirs[name]
    scaled = [value if value >= FAILED_S else value * factor for value in seconds]
    return replace(line, record=[trace, scaled, target, arguments])


def prune(folder: Path, *, keep: int) -> int:
    """Keep the `keep` fastest programs of each kernel and target, of the space versions in use; return how many went.

    A kernel's count of trials goes down with its programs: it may be tuned further later. Raises RecordsError.
    """
    if keep < 1:
        raise RecordsError(f"keep at least 1 program of each kernel, not {keep}")
    with lock_folder(folder):
        every = list(_lines(folder))
        kept = _fastest(every, keep)
        if len(kept) < len(every):
            _keep(folder, kept)
    return len(every) - len(kept)


def export_best(folder: Path, out: Path, *, keep: int = 1) -> int:
    """Write the fastest programs of each kernel and target of `folder` to the new folder `out`; return how many.

    Raises RecordsError if `out` has records already.
    """
    if (out / TUNING).exists():
        raise RecordsError(f"{out} holds records already; export to a new folder, or merge into it")
    kept = _fastest(list(_lines(folder)), keep)
    with lock_folder(out):
        _append(out, kept)
        if units := read_units(folder):
            write_units(out, units)
    return len(kept)


def _fastest(lines: Sequence[_Line], keep: int) -> list[_Line]:
    """Return of each kernel and target the `keep` fastest programs in use, in the order they were measured in."""
    groups: dict[str, list[_Line]] = {}
    latest = {line.identity: line for line in lines if line.current}
    for line in latest.values():
        groups.setdefault(json.dumps([line.workload[0], target_key(line.record[2])]), []).append(line)
    chosen = {
        line.identity for group in groups.values() for line in sorted(group, key=lambda item: item.seconds)[:keep]
    }
    return [line for identity, line in latest.items() if identity in chosen]


def _target_text(target: Any) -> str:
    kind, cpu, triple, cores = target_key(target)
    words = [str(cpu or kind), *([str(triple)] if triple else []), f"{cores or 1} threads"]
    return ", ".join(words)
