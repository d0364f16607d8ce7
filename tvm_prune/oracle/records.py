"""Tuning records: MetaSchedule's own JSON database format, read line by line and owned by one writer at a time.

The files are described in record_lines.py. A line that cannot be read is moved to ``quarantine.jsonl`` and named in a
warning; everything else stays usable. A record answers only for the same kernel, target, pipeline and space version:
the first is the workload's hash, the others travel in the trace and the line. A program that crashed, hung or computed
wrong numbers stands there as MetaSchedule writes failures, with so many seconds that it never wins.
"""

import hashlib
import json
import logging
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tvm_prune.files import append_line, write_atomically
from tvm_prune.oracle.program import Program
from tvm_prune.oracle.record_lines import GONE, TUNING, WORKLOADS, end_lines, lock_folder, read_lines, target_key
from tvm_prune.oracle.spaces import SPACES
from tvm_prune.oracle.spaces.candidate import program_of_trace
from tvm_prune.oracle.target import Target

__all__ = ["FAILED_S", "Record", "Records"]

_log = logging.getLogger(__name__)

# The seconds of a program that failed, as MetaSchedule writes and reads them.
FAILED_S = 1e10

# Lines [key of a task's plain kernel and what its programs are for, trials].
_SETTLED = "settled.jsonl"


@dataclass(frozen=True)
class Record:
    """The fastest known program of a kernel: its description, its record in the database's form, trials behind it."""

    program: Program
    record_json: Any
    trials: int


class Records:
    """The records of one folder for one target."""

    def __init__(self, folder: Path, target: Target) -> None:
        self.folder = folder
        # TVM fills in what a target leaves open, and records hold the filled form.
        self._target_key = target_key(target.to_tvm().export())
        self._workload_line: dict[str, int] = {}
        self._workload_json: list[Any] = []
        # Of each kernel, by the program's name: the program and its record as they were last measured.
        self._known: dict[str, dict[str, tuple[Program, Any]]] = {}
        self._failed: dict[str, set[str]] = {}
        # What is tuned to the end for one target and one version of the spaces is not for another.
        self._purpose = hashlib.sha256(f"{target} {sorted(SPACES.items())}".encode()).hexdigest()[:12]
        self.quarantined = 0
        self.foreign = 0
        self._lock: IO[str] | None = lock_folder(folder)
        self._load()
        self._settled = _settled_of(folder / _SETTLED)

    def close(self) -> None:
        """Let another process write."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __len__(self) -> int:
        return len(self._known)

    def _load(self) -> None:
        workloads, tuning = read_lines(self.folder / WORKLOADS), read_lines(self.folder / TUNING)
        end_lines(self.folder)
        broken: list[str] = []
        for number, (text, value) in enumerate(workloads):
            if text == GONE:
                self._workload_json.append(None)
                continue
            if value is None or not isinstance(value[0], str):
                # The line keeps its place: later lines of the other file count by it.
                broken.append(text)
                _log.warning("%s line %d cannot be read; its records are ignored", self.folder / WORKLOADS, number + 1)
                self._workload_json.append(None)
                continue
            self._workload_line[value[0]] = number
            self._workload_json.append(value)
        kept = []
        for number, (text, value) in enumerate(tuning):
            try:
                key, program, record = self._read(value)
            except (KeyError, IndexError, TypeError, ValueError, AttributeError):
                broken.append(text)
                _log.warning("%s line %d cannot be read; moved to quarantine.jsonl", self.folder / TUNING, number + 1)
                continue
            kept.append(text)
            if key is not None and program is not None:
                self._remember(key, program, record)
        if self.foreign:
            _log.warning(
                "%d of %d records in %s are of another target or program space and are not used",
                self.foreign,
                len(tuning),
                self.folder,
            )
        if broken:
            self.quarantined = len(broken)
            for text in broken:
                append_line(self.folder / "quarantine.jsonl", json.dumps(text))
            write_atomically(self.folder / TUNING, "".join(f"{text}\n" for text in kept))
            placeholders = (text if value is not None else GONE for text, value in workloads)
            write_atomically(self.folder / WORKLOADS, "".join(f"{text}\n" for text in placeholders))

    def _read(self, value: Any) -> tuple[str | None, Program | None, Any]:
        """Return workload hash, program and record JSON of a tuning line; None, None for one that is of no use here."""
        line, record = value
        workload = self._workload_json[line]
        trace, seconds, target, _arguments = record
        if workload is None or not seconds:
            return None, None, record
        program = program_of_trace(trace, latency_s=float(statistics.median(seconds)))
        if (
            target_key(target) != self._target_key
            or program is None
            or SPACES.get(program.space) != program.space_version
        ):
            self.foreign += 1
            return None, None, record
        return str(workload[0]), program, record

    def _remember(self, key: str, program: Program, record_json: Any) -> None:
        if program.latency_s >= FAILED_S:
            self._failed.setdefault(key, set()).add(program.name)
            self._known.get(key, {}).pop(program.name, None)
        else:
            self._known.setdefault(key, {})[program.name] = (program, record_json)

    def best(self, key: str) -> Record | None:
        """Return the fastest record of the kernel with workload hash `key`, or None."""
        known = self._known.get(key)
        if not known:
            return None
        program, record_json = min(known.values(), key=lambda item: item[0].latency_s)
        return Record(program, record_json, len(known))

    def record(self, key: str, name: str) -> Record | None:
        """Return the record of the program `name` of the kernel `key`, or None."""
        known = self._known.get(key, {})
        return Record(*known[name], len(known)) if name in known else None

    def workloads(self) -> Iterator[tuple[str, Any]]:
        """Yield key and workload (in the database's JSON form) of every kernel that has a record."""
        for key, known in self._known.items():
            if known:
                yield key, self._workload_json[self._workload_line[key]]

    def series(self, key: str) -> list[float]:
        """Return the seconds of all programs measured for the kernel `key`, in the order they were first measured."""
        return [program.latency_s for program, _ in self._known.get(key, {}).values()]

    def programs(self, key: str) -> list[Program]:
        """Return all programs measured for the kernel `key`, the fastest first."""
        return sorted((program for program, _ in self._known.get(key, {}).values()), key=lambda item: item.latency_s)

    def settled(self, key: str) -> int:
        """Return up to how many trials a kernel the task of that `key` is tuned to the end; 0 = not."""
        return self._settled.get(f"{key} {self._purpose}", 0)

    def settle(self, key: str, trials: int) -> None:
        """Remember that with up to `trials` trials a kernel there is nothing left to try for that task."""
        if self.settled(key) < trials:
            self._settled[f"{key} {self._purpose}"] = trials
            append_line(self.folder / _SETTLED, json.dumps([f"{key} {self._purpose}", trials]))

    def failed(self, key: str) -> frozenset[str]:
        """Return the names of the programs of the kernel `key` that failed."""
        return frozenset(self._failed.get(key, ()))

    def commit(self, key: str, workload: Callable[[], Any], results: Sequence[tuple[Any, list[float]]]) -> None:
        """Append records (record JSON without seconds, seconds of each repeat; FAILED_S = failed) of the kernel `key`.

        `workload` makes its workload in the database's JSON form, which takes long and is only done the first time.
        """
        if key not in self._workload_line:
            workload_json = workload()
            append_line(self.folder / WORKLOADS, json.dumps(workload_json))
            self._workload_line[key] = len(self._workload_json)
            self._workload_json.append(workload_json)
        lines = []
        for record, seconds in results:
            trace, _none, target, arguments = record
            complete = [trace, seconds, target, arguments]
            lines.append(json.dumps([self._workload_line[key], complete]))
            program = program_of_trace(trace, latency_s=float(statistics.median(seconds)))
            assert program is not None
            self._remember(key, program, complete)
        if lines:
            append_line(self.folder / TUNING, "\n".join(lines))  # forced to disk once, not once a trial


def _settled_of(path: Path) -> dict[str, int]:
    """Return the lines of `path` that can be read; a task whose line is lost is looked at again."""
    found: dict[str, int] = {}
    for _, value in read_lines(path):
        if value is not None and isinstance(value[0], str) and isinstance(value[1], int):
            found[value[0]] = max(value[1], found.get(value[0], 0))
    return found
