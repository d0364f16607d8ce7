"""The journal: what survives a kill, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.search.toy import header
from tvm_prune.errors import JournalError
from tvm_prune.search.journal import Journal, read_journal
from tvm_prune.search.trial import Proposal, State, Trial


def trial(number: int) -> Trial:
    return Trial(number=number, proposal=Proposal(parent=0, steps=()), state=State.TOO_SLOW, note=f"note {number}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a journal of three trials."""
    path = tmp_path / "journal.jsonl"
    with Journal.opened(path, header()) as journal:
        for number in range(3):
            journal.append(trial(number))
    return path


def test_what_was_appended_is_read_back(path: Path) -> None:
    assert read_journal(path) == (header(), (trial(0), trial(1), trial(2)))


@pytest.mark.parametrize("left", [1, 40, 100])
def test_a_truncated_last_line_costs_that_line_only(path: Path, left: int, caplog: pytest.LogCaptureFixture) -> None:
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    path.write_bytes(whole[: start + left])
    assert read_journal(path)[1] == (trial(0), trial(1))
    with Journal.opened(path, header()) as journal:
        assert journal.trials == (trial(0), trial(1))
        assert "last line of" in caplog.text
        journal.append(trial(2))
    assert path.read_bytes() == whole


def test_a_last_line_that_lost_its_middle_costs_that_line_only(path: Path) -> None:
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    path.write_bytes(whole[: start + 20] + b"\0" * 30 + whole[start + 50 :])
    with Journal.opened(path, header()) as journal:
        assert journal.trials == (trial(0), trial(1))


def test_a_truncated_header_starts_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"check": "0123')
    with Journal.opened(path, header()) as journal:
        assert journal.trials == ()
    assert read_journal(path) == (header(), ())


def test_a_changed_line_is_refused(path: Path) -> None:
    path.write_text(path.read_text().replace("note 1", "note 7"))
    with pytest.raises(JournalError, match=r"line 3 of .* is damaged .* cut it before that line"):
        read_journal(path)


def test_a_changed_last_line_is_refused(path: Path) -> None:
    path.write_text(path.read_text().replace("note 2", "note 7"))
    with pytest.raises(JournalError, match=r"line 4 of .* is damaged"), Journal.opened(path, header()):
        pass


def test_a_missing_line_is_refused(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], *lines[3:]]))
    with pytest.raises(JournalError, match=r"line 3 of .* holds trial 2 where 1 should be"):
        read_journal(path)


@pytest.mark.parametrize("text", ["notes of mine", "notes of mine\nand more\n", "[1]\n"])
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(text)
    with pytest.raises(JournalError, match="choose another --out"), Journal.opened(path, header()):
        pass
    assert path.read_text() == text


def test_another_run_is_refused_field_by_field(path: Path) -> None:
    other = replace(header(), seed=3, settings={**header().settings, "alpha": 0.5})
    with (
        pytest.raises(
            JournalError, match=r"seed was 0 and is now 3; settings.alpha was 0.97 and is now 0.5. Give the same"
        ),
        Journal.opened(path, other),
    ):
        pass


def test_another_format_is_refused(path: Path) -> None:
    with Journal.opened(path.with_name("other.jsonl"), replace(header(), format=9)):
        pass
    with pytest.raises(JournalError, match="has format 9, this version reads 2"):
        read_journal(path.with_name("other.jsonl"))


def test_a_header_with_unknown_keys_is_refused(tmp_path: Path) -> None:
    from tvm_prune.search import journal

    path = tmp_path / "journal.jsonl"
    path.write_text(journal._line("header", {"format": 2, "colour": "red"}) + "\n")
    with pytest.raises(JournalError, match=r"header of .* cannot be read .*colour"):
        read_journal(path)


def test_a_trial_of_another_version_is_refused(path: Path) -> None:
    from tvm_prune.search import journal

    with open(path, "a") as file:
        file.write(journal._line("trial", {"number": 3}) + "\n")
    with pytest.raises(JournalError, match=r"line 5 of .* cannot be read"):
        read_journal(path)


def test_no_journal_is_named(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="there is no journal at"):
        read_journal(tmp_path / "journal.jsonl")
    (tmp_path / "journal.jsonl").touch()
    with pytest.raises(JournalError, match="holds no complete line"):
        read_journal(tmp_path / "journal.jsonl")


def test_two_processes_cannot_share_a_folder(path: Path) -> None:
    with (
        Journal.opened(path, header()),
        pytest.raises(JournalError, match="another process is searching"),
        Journal.opened(path, header()),
    ):
        pass


def test_each_line_is_json_with_its_checksum(path: Path) -> None:
    for line in path.read_text().splitlines():
        assert len(json.loads(line)["check"]) == 16
