"""The canary's usual speed is taken once and kept beside the records that are in its units."""

import json
import logging
from pathlib import Path
from typing import Any, cast

import pytest

from tests.oracle.kernels import TARGET
from tvm_prune.errors import ToolchainError
from tvm_prune.oracle import canary as canary_module
from tvm_prune.oracle.canary import Canary
from tvm_prune.oracle.object_cache import ObjectCache
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.worker import Worker, WorkerDied


class Runner:
    """Answers with one usual speed after the other, None = crashes."""

    def __init__(self, *seconds: float | None) -> None:
        self.seconds = list(seconds)

    def request(self, function: str, arguments: Any, *, timeout_s: float) -> float:
        assert function == "usual_seconds"
        assert Path(arguments["library"]).exists()
        found = self.seconds.pop(0)
        if found is None:
            raise WorkerDied("crashed with status -4")
        return found


def canary(folder: Path, runner: Runner, target: Target = TARGET) -> Canary:
    cache = ObjectCache(target, folder / "cache")
    return Canary(target, folder / "canary.so", folder, runner=cast(Worker, runner), cache=cache)


def test_its_usual_speed_is_taken_once_for_a_folder_of_records(tmp_path: Path) -> None:
    runner = Runner(2e-5, 3e-5, 4e-5, 4e-5)
    both = {"canary": 2e-5, "canary_serial": 3e-5}
    assert canary(tmp_path, runner).yardstick["usual_s"] == both
    assert canary(tmp_path, runner).yardstick["usual_s"] == both
    one = canary(tmp_path, runner, Target(threads=1)).yardstick["usual_s"]
    assert one == {"canary": 4e-5, "canary_serial": 4e-5}


def test_it_is_compiled_once_for_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Path(canary(tmp_path, Runner()).kernel["library"])
    compiled = first.read_bytes()
    first.unlink()
    monkeypatch.setattr(canary_module, "build_canary", None)
    assert Path(canary(tmp_path, Runner()).kernel["library"]).read_bytes() == compiled


def test_a_file_that_cannot_be_read_is_written_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "units.json").write_text('{"llvm')
    with caplog.at_level(logging.WARNING):
        assert canary(tmp_path, Runner(2e-5, 3e-5)).yardstick["usual_s"] == {"canary": 2e-5, "canary_serial": 3e-5}
    assert "units.json cannot be read" in caplog.text
    kept = json.loads((tmp_path / "units.json").read_text())
    assert kept == {f"{TARGET} canary": 2e-5, f"{TARGET} canary_serial": 3e-5}


def test_a_machine_it_does_not_run_on_is_a_broken_set_up(tmp_path: Path) -> None:
    with pytest.raises(
        ToolchainError, match=r"a small kernel does not run \(crashed with status -4\); tvm-prune doctor"
    ):
        _ = canary(tmp_path, Runner(None)).yardstick
