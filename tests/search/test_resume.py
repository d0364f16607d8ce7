"""A run stopped at any point and started again is the run that was never stopped."""

import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.search.toy import SETTINGS, ToyOracle, ToyWorkbench, search
from tvm_prune.files import append_line

QUICK = replace(SETTINGS, max_iterations=2)


class KilledError(BaseException):
    """Stands for a kill: no handler of the program catches it."""


class Tripwire:
    """Counts events and stops the world at event `at`."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        if self.count == self.at:
            raise KilledError


def watched(run_dir: Path, wire: Tripwire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Search with an event at every call into workbench and oracle, and around every line of the journal."""

    def appended(path: Path, line: str) -> None:
        wire()
        append_line(path, line)
        wire()

    with monkeypatch.context() as patch:
        patch.setattr("tvm_prune.search.journal.append_line", appended)
        search(run_dir, settings=QUICK, workbench=ToyWorkbench(event=wire), oracle=ToyOracle(event=wire))


def contents(run_dir: Path) -> dict[str, bytes]:
    files = [path for path in run_dir.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {str(path.relative_to(run_dir)): path.read_bytes() for path in files}


def test_a_stop_at_every_single_event_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)
    wire = Tripwire()
    watched(tmp_path / "whole", wire, monkeypatch)
    whole = contents(tmp_path / "whole")
    assert wire.count > 50
    for at in range(1, wire.count + 1):
        run_dir = tmp_path / str(at)
        with pytest.raises(KilledError):
            watched(run_dir, Tripwire(at), monkeypatch)
        watched(run_dir, Tripwire(), monkeypatch)
        assert contents(run_dir) == whole, f"stopped at event {at}"


def test_a_journal_cut_at_any_byte_of_its_last_lines_changes_nothing(tmp_path: Path) -> None:
    search(tmp_path / "whole", settings=QUICK)
    whole = (tmp_path / "whole" / "journal.jsonl").read_bytes()
    picked = random.Random(0)
    for number in range(12):
        run_dir = tmp_path / str(number)
        run_dir.mkdir()
        (tmp_path / "whole" / "trials").rename(run_dir / "trials")
        (run_dir / "journal.jsonl").write_bytes(whole[: picked.randrange(len(whole))])
        search(run_dir, settings=QUICK)
        assert (run_dir / "journal.jsonl").read_bytes() == whole
        (run_dir / "trials").rename(tmp_path / "whole" / "trials")


@pytest.mark.slow
def test_a_process_killed_at_random_points_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    search(tmp_path / "whole")
    whole = contents(tmp_path / "whole")
    command = [sys.executable, "-m", "tests.search.toy", str(tmp_path / "killed")]
    picked = random.Random(1)
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(picked.uniform(0.05, 0.6))
            process.kill()
    before = (tmp_path / "killed" / "journal.jsonl").read_bytes()
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.endswith("done\n")
    found = contents(tmp_path / "killed")
    assert {name: data for name, data in found.items() if not Path(name).name.startswith(".")} == whole
    complete = before[: before.rindex(b"\n") + 1]
    assert whole["journal.jsonl"].startswith(complete), "decisions before the last kill stand"
