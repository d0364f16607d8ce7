"""Recording and replaying: the same answers without the oracle, and a refusal for everything else."""

from pathlib import Path

import pytest

from tests.oracle.conformance import check, check_failure
from tests.oracle.test_fake import network
from tvm_prune.errors import ReplayError
from tvm_prune.graph.fingerprint import fingerprint
from tvm_prune.oracle.fake import LinearOracle
from tvm_prune.oracle.replay import RecordingOracle, ReplayOracle

HERE = {"target": "linear", "pipeline": "1"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the answers of a full conformance check."""
    path = tmp_path / "answers.jsonl"
    check(RecordingOracle(LinearOracle(), path, context=HERE), network(64), network(32), layers=["0", "1", "3"])
    return path


def test_a_replay_passes_what_its_recording_passed(path: Path) -> None:
    check(ReplayOracle(path, context=HERE), network(64), network(32), layers=["0", "1", "3"])


def test_answers_are_equal_to_the_last_digit(path: Path) -> None:
    model, replay, oracle = network(64), ReplayOracle(path, context=HERE), LinearOracle()
    assert replay.table(model) == oracle.table(model)
    assert replay.cost(model) == oracle.cost(model)
    assert replay.compare(model, network(32)) == oracle.compare(model, network(32))


def test_failures_are_kept_too(tmp_path: Path) -> None:
    broken, path = network(16), tmp_path / "answers.jsonl"
    inner = LinearOracle(failing=frozenset({fingerprint(broken)}))
    check_failure(RecordingOracle(inner, path, context=HERE), network(32), broken)
    check_failure(ReplayOracle(path, context=HERE), network(32), broken)


def test_what_was_never_measured_is_refused(path: Path) -> None:
    replay = ReplayOracle(path, context=HERE)
    with pytest.raises(ReplayError, match=r"holds no cost of [0-9a-f]{12}; measure"):
        replay.cost(network(48))
    with pytest.raises(ReplayError, match=r"holds no compare of [0-9a-f]{12} against [0-9a-f]{12}"):
        replay.compare(network(32), network(64))


def test_answers_of_another_target_are_refused(path: Path) -> None:
    other = {"target": "llvm", "pipeline": "1"}
    with pytest.raises(ReplayError, match="recorded elsewhere: target was 'linear', is 'llvm'"):
        ReplayOracle(path, context=other)
    with pytest.raises(ReplayError, match="recorded elsewhere"):
        RecordingOracle(LinearOracle(), path, context=other)


def test_a_recording_goes_on_where_it_stopped(path: Path) -> None:
    RecordingOracle(LinearOracle(), path, context=HERE).cost(network(48))
    replay = ReplayOracle(path, context=HERE)
    assert replay.cost(network(48)) == LinearOracle().cost(network(48))
    assert replay.cost(network(64)) == LinearOracle().cost(network(64))


def test_the_last_of_several_answers_counts(path: Path) -> None:
    slower = LinearOracle(overhead_s=1.0)
    RecordingOracle(slower, path, context=HERE).cost(network(64))
    assert ReplayOracle(path, context=HERE).cost(network(64)) == slower.cost(network(64))


def test_a_truncated_last_line_is_left_out(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])
    replay = ReplayOracle(path, context=HERE)
    assert replay.cost(network(64)) == LinearOracle().cost(network(64))
    with pytest.raises(ReplayError, match="holds no compare"):
        replay.compare(network(64), network(32))


def test_a_damaged_line_is_named(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], "{]\n", *lines[2:]]))
    with pytest.raises(ReplayError, match=r"line 2 of .* is not a kept answer"):
        ReplayOracle(path, context=HERE)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match=r"there is no .*nothing.jsonl; record a run first"):
        ReplayOracle(tmp_path / "nothing.jsonl", context=HERE)


def test_a_recording_passes_on_what_the_last_call_spent(tmp_path: Path) -> None:
    inner = LinearOracle()
    oracle = RecordingOracle(inner, tmp_path / "answers.jsonl", context=HERE)
    oracle.cost(network(32))
    assert oracle.seconds == inner.seconds
    assert oracle.measurements == inner.measurements == 2


def test_what_a_kill_left_of_a_line_is_cut_before_the_next_answer(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])
    RecordingOracle(LinearOracle(), path, context=HERE).cost(network(48))
    assert ReplayOracle(path, context=HERE).cost(network(48)) == LinearOracle().cost(network(48))


def test_a_file_that_was_never_begun_gets_its_context(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.touch()
    RecordingOracle(LinearOracle(), path, context=HERE).cost(network(48))
    assert ReplayOracle(path, context=HERE).cost(network(48)) == LinearOracle().cost(network(48))
