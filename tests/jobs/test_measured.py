"""The result is measured once: read back for the same models, measured again for others."""

from pathlib import Path

import pytest

from tests.search.toy import WIDTHS, ToyOracle, key, model_of
from tvm_prune.errors import ToolchainError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.jobs.measured import Measured, measure

DENSE = model_of({name: tuple(range(width)) for name, width in WIDTHS.items()})
SMALL = model_of({name: tuple(range(width // 2)) for name, width in WIDTHS.items()})


@pytest.fixture(autouse=True)
def by_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy cannot run: tell models apart by their widths."""
    monkeypatch.setattr("tvm_prune.jobs.measured.fingerprint", key)


def again(oracle: ToyOracle, path: Path, pruned: CompressedModel = SMALL, trials_per_task: int = 8) -> Measured:
    return measure(oracle, DENSE, pruned, trials_per_task=trials_per_task, path=path)


def test_the_same_models_are_not_measured_again(tmp_path: Path) -> None:
    oracle, path = ToyOracle(), tmp_path / "measured.json"
    first = again(oracle, path)
    assert again(oracle, path) == first
    assert oracle.calls == {"table": 2, "compare": 1}


def test_other_models_or_deeper_tuning_are_measured(tmp_path: Path) -> None:
    oracle, path = ToyOracle(), tmp_path / "measured.json"
    again(oracle, path)
    again(oracle, path, trials_per_task=16)
    again(oracle, path, pruned=DENSE)
    assert oracle.calls == {"table": 6, "compare": 3}


def test_a_damaged_file_is_measured_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    oracle, path = ToyOracle(), tmp_path / "measured.json"
    path.write_text("{")
    again(oracle, path)
    assert "the result is measured again" in caplog.text


def test_a_result_that_cannot_be_measured_any_more_is_an_error(tmp_path: Path) -> None:
    oracle = ToyOracle(failing=frozenset({key(SMALL)}))
    with pytest.raises(ToolchainError, match="start the same command again: only this is repeated"):
        again(oracle, tmp_path / "measured.json")
