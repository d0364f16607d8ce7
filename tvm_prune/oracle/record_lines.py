"""The two files of a records folder as lines, and the lock of who may write them.

``database_workload.json`` holds one ``[hash, module]`` a line, ``database_tuning_record.json`` one ``[workload line,
[trace, seconds, target, arguments]]`` a line, as MetaSchedule's own tools write them.
"""

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import IO, Any

from tvm_prune.errors import RecordsError

__all__ = ["GONE", "TUNING", "WORKLOADS", "end_lines", "lock_folder", "read_lines", "target_key"]

WORKLOADS = "database_workload.json"
TUNING = "database_tuning_record.json"
# Stands where a workload that could not be read was: later ones are counted by their line.
GONE = "[null, null]"


def read_lines(path: Path) -> list[tuple[str, Any]]:
    """Return (text, value) of every line of `path`; value None for a line that is no JSON list of two."""
    if not path.exists() or not path.stat().st_size:
        return []
    found = []
    # Not splitlines(): it would cut garbage at other characters too, and workloads are counted by line.
    for text in path.read_bytes().decode(errors="replace").removesuffix("\n").split("\n"):
        value = None
        with contextlib.suppress(json.JSONDecodeError):
            value = json.loads(text)
        found.append((text, value if isinstance(value, list) and len(value) == 2 else None))
    return found


def end_lines(folder: Path) -> None:
    """End a last line that a kill cut: the next one would be glued to it."""
    for path in (folder / WORKLOADS, folder / TUNING):
        if path.exists() and path.stat().st_size and not path.read_bytes().endswith(b"\n"):
            with open(path, "ab") as file:
                file.write(b"\n")


def lock_folder(folder: Path) -> IO[str]:
    """Return the open lock of `folder`; closing it lets another process write.

    Raises RecordsError if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = open(folder / ".lock", "a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise RecordsError(
            f"the tuning records in {folder} are being written by process {holder}; "
            "wait for it, or pass another folder with --records"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def target_key(target: Any) -> tuple[Any, ...]:
    """Return what makes programs of two targets exchangeable, from a target in TVM's JSON form."""
    return tuple(target.get(name) for name in ("kind", "mcpu", "mtriple", "num-cores"))
