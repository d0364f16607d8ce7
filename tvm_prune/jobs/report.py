"""Keep a report's values with the run, and draw them again."""

import json
from pathlib import Path

from tvm_prune.codec import decode, dumps
from tvm_prune.errors import ConfigError
from tvm_prune.files import write_atomically
from tvm_prune.jobs.folder import RunFolder
from tvm_prune.report.document import RunReport, write_report

__all__ = ["draw_report", "load_report", "save_report"]


def save_report(report: RunReport, folder: RunFolder) -> None:
    """Write report.json, whole or not at all."""
    write_atomically(folder.report_data, dumps(report) + "\n")


def load_report(folder: RunFolder) -> RunReport:
    """Return the values of a finished run. Raises ConfigError if the run is not finished or the file is damaged."""
    path = folder.report_data
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no {path}: the run has not finished; start its command again (it resumes), or give the "
            "folder of a finished run"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is not JSON ({error}); start the run's command again: it writes the file anew"
        ) from error
    return decode(RunReport, data)


def draw_report(report: RunReport, folder: RunFolder) -> Path:
    """Write report.md and the plots into the run folder; return the path of report.md."""
    return write_report(report, folder.path)
