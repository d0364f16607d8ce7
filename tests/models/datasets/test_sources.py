"""Downloads are whole and checked or absent; archives are read without unpacking."""

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from tvm_prune.errors import DataError
from tvm_prune.models.datasets.sources import Remote, download, from_tar, standard_folder


def _remote(path: Path, content: bytes, md5: str | None = None) -> Remote:
    path.write_bytes(content)
    return Remote(url=path.as_uri(), md5=md5 or hashlib.md5(content).hexdigest())


def test_a_file_is_fetched_once_and_checked(tmp_path: Path) -> None:
    remote = _remote(tmp_path / "a.bin", b"pixels")
    folder = tmp_path / "new" / "folder"
    download([remote], folder)
    assert (folder / "a.bin").read_bytes() == b"pixels"
    (tmp_path / "a.bin").unlink()
    download([remote], folder)
    assert [path.name for path in folder.iterdir()] == ["a.bin"]


def test_a_wrong_checksum_keeps_nothing(tmp_path: Path) -> None:
    remote = _remote(tmp_path / "a.bin", b"pixels", md5="0" * 32)
    with pytest.raises(DataError, match=r"has the MD5 checksum .*, its authors publish 0{32}; nothing was kept"):
        download([remote], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_no_connection_says_what_to_do_by_hand(tmp_path: Path) -> None:
    remote = Remote(url="http://localhost:1/a.bin", md5="0" * 32)
    with pytest.raises(DataError, match=rf"cannot download http://localhost:1/a\.bin .* put it into {tmp_path}"):
        download([remote], tmp_path)


def _tar(path: Path, **files: bytes) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def test_members_are_read_and_nothing_is_unpacked(tmp_path: Path) -> None:
    _tar(tmp_path / "x.tar.gz", a=b"1", b=b"2")
    assert from_tar(tmp_path / "x.tar.gz", ["b"]) == {"b": b"2"}
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar.gz"]


def test_an_absent_member_is_named(tmp_path: Path) -> None:
    _tar(tmp_path / "x.tar.gz", a=b"1")
    with pytest.raises(DataError, match="does not hold b; remove it"):
        from_tar(tmp_path / "x.tar.gz", ["a", "b"])


def test_a_truncated_archive_is_named(tmp_path: Path) -> None:
    _tar(tmp_path / "x.tar.gz", a=bytes(range(256)) * 50)
    (tmp_path / "x.tar.gz").write_bytes((tmp_path / "x.tar.gz").read_bytes()[:60])
    with pytest.raises(DataError, match="is damaged"):
        from_tar(tmp_path / "x.tar.gz", ["a"])


def test_the_standard_folder_follows_the_cache_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert standard_folder() == tmp_path / "tvm_prune" / "datasets"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert standard_folder() == Path.home() / ".cache" / "tvm_prune" / "datasets"
