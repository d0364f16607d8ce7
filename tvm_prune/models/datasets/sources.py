"""Files of a data set: found in a folder, read out of an archive in place, or downloaded with a checksum."""

import hashlib
import http.client
import tarfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm_prune.errors import DataError
from tvm_prune.files import user_cache, write_atomically

__all__ = ["Remote", "download", "from_tar", "standard_folder"]


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A file on its authors' site, with the MD5 checksum they publish."""

    url: str
    md5: str

    @property
    def file_name(self) -> str:
        """The last part of the address."""
        return self.url.rsplit("/", 1)[-1]


def standard_folder() -> Path:
    """Return where data sets are kept when the user names no folder."""
    return user_cache() / "datasets"


def download(remotes: Sequence[Remote], folder: Path) -> None:
    """Fetch the files that `folder` does not hold yet; each appears whole and checked, or not at all.

    Raises DataError when the site cannot be reached or sends something else.
    """
    for remote in remotes:
        path = folder / remote.file_name
        if path.exists():
            continue
        by_hand = f"Fetch it on a machine with a connection, put it into {folder} and start the same command again."
        try:
            with urllib.request.urlopen(remote.url, timeout=60) as response:
                content = response.read()
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            raise DataError(f"cannot download {remote.url} ({error}). {by_hand}") from error
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != remote.md5:
            raise DataError(
                f"{remote.url} has the MD5 checksum {found}, its authors publish {remote.md5}; nothing was kept. "
                f"{by_hand}"
            )
        write_atomically(path, content)


def from_tar(path: Path, members: Sequence[str]) -> dict[str, bytes]:
    """Return the contents of `members` of a tar archive by name; nothing is unpacked to the disk.

    Raises DataError for a damaged archive or an absent member.
    """
    found = {}
    try:
        with tarfile.open(path) as archive:
            for entry in archive:
                if entry.name in members and entry.isfile():
                    file = archive.extractfile(entry)
                    found[entry.name] = file.read() if file is not None else b""
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path} is damaged ({error}); remove it and fetch it again.") from error
    if absent := [name for name in members if name not in found]:
        raise DataError(f"{path} does not hold {', '.join(absent)}; remove it and fetch it again.")
    return found
