"""The unit of a records folder: what the canary took where and when the folder was begun (see canary.py).

A reading is set against the canary beside it and written down as if that had its usual speed. So the seconds of one
folder compare with each other, and those of two folders by what the canary took in each.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tvm_prune.errors import TargetError
from tvm_prune.files import write_atomically
from tvm_prune.oracle.record_lines import target_key
from tvm_prune.oracle.target import Target

__all__ = ["PARALLEL", "SERIAL", "read_units", "unit_name", "unit_of", "write_units"]

# The canary's programs on all threads and on one.
PARALLEL, SERIAL = "canary", "canary_serial"

_FILE = "units.json"
_log = logging.getLogger(__name__)


def read_units(folder: Path) -> dict[str, float]:
    """Return the seconds of one call of the canary's programs, by `unit_name`; empty where none were taken."""
    path = folder / _FILE
    if not path.exists():
        return {}
    try:
        return {str(name): float(seconds) for name, seconds in json.loads(path.read_text()).items()}
    except (ValueError, TypeError, AttributeError) as error:
        _log.warning("%s cannot be read (%s); the canary's usual speed is taken anew", path, error)
        return {}


def write_units(folder: Path, units: Mapping[str, float]) -> None:
    """Write what `read_units` returns."""
    write_atomically(folder / _FILE, json.dumps(dict(units)) + "\n")


def unit_name(target: Target, symbol: str) -> str:
    """Return the name of the unit of programs for `target` on all threads (`PARALLEL`) or on one (`SERIAL`)."""
    return f"{target} {symbol}"


def unit_of(units: Mapping[str, float], target: Any, *, parallel: bool) -> str | None:
    """Return the name of the unit that a record is in; None if `units` has none for it.

    `target` is the record's own, in TVM's JSON form.
    """
    kind, cpu, triple, threads = target_key(target)
    for name in units:
        text, _, symbol = name.rpartition(" ")
        try:
            found = Target.parse(text)
        except TargetError:
            continue
        alike = (found.kind, found.cpu, found.threads) == (kind, cpu or "", threads or 1)
        if alike and found.triple in ("", triple) and symbol == (PARALLEL if parallel else SERIAL):
            return name
    return None
