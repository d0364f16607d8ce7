"""What every benchmark writes: where, when, with what and how its rows were measured."""

import datetime
import importlib.metadata
import json
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm_prune.files import write_atomically
from tvm_prune.oracle.target import Target, usable_cores

__all__ = ["Document", "markdown_table"]

_PACKAGES = ("tvm-prune", "apache-tvm", "apache-tvm-ffi", "torch", "numpy", "onnxruntime")


@dataclass(frozen=True)
class Document:
    """The rows of one benchmark, with the machine, versions, date and command they come from."""

    rows: Sequence[Mapping[str, Any]]
    command: str
    summary: Mapping[str, Any]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], *, summary: Mapping[str, Any] | None = None) -> "Document":
        """Return the document of a run that just ended; the command is this process's own, paths cut to their names."""
        program = f"python -m {Path(sys.argv[0]).parent.name}.{Path(sys.argv[0]).stem}"
        words = [program, *(re.sub(r"(?<![^=])/\S*", lambda path: Path(path[0]).name, word) for word in sys.argv[1:])]
        return cls(rows=rows, command=" ".join(words), summary=summary or {})

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON types."""
        versions = {}
        for package in _PACKAGES:
            try:
                versions[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                continue
        return {
            "machine": machine(),
            "versions": {"python": platform.python_version(), **versions},
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "command": self.command,
            "summary": dict(self.summary),
            "rows": [dict(row) for row in self.rows],
        }

    def write(self, path: Path) -> None:
        """Write the document to `path`."""
        write_atomically(path, json.dumps(self.to_json(), indent=1) + "\n")


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor, cores, vector width."""
    target = Target.local()
    return {"cpu": target.cpu, "cores": usable_cores(), "vector_bits": target.vector_bits}


def markdown_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Return `rows` as a Markdown table; `columns` maps a key to a format such as ``.3f`` (empty = as it is)."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = []
        for key, form in columns.items():
            value = row.get(key)
            cells.append("-" if value is None else format(value, form) if form else str(value))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
