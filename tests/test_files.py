"""Files that survive a kill, and a full disk said plainly."""

import errno
import os
from pathlib import Path

import pytest

from tvm_prune.errors import DiskFullError
from tvm_prune.files import append_line, disk_full_is_named, write_atomically


def test_a_file_is_written_whole_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    write_atomically(path, "one")
    write_atomically(path, b"two")
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")

    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DiskFullError, match="start the same command again: it resumes"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_lines_are_appended_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "log" / "lines"
    append_line(path, "one")
    append_line(path, "zwei \u00e4")
    assert path.read_text() == "one\nzwei \u00e4\n"


def test_other_errors_of_the_operating_system_pass_through(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), disk_full_is_named(tmp_path):
        raise PermissionError(errno.EACCES, "denied")
    with pytest.raises(DiskFullError), disk_full_is_named(tmp_path / "x"):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
