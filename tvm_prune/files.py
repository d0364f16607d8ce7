"""Files that survive a kill: whole or not at all, one line at a time, and a full disk said plainly."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tvm_prune.errors import DiskFullError

__all__ = ["append_line", "disk_full_is_named", "user_cache", "write_atomically"]


def user_cache() -> Path:
    """Return the folder for what can be made or fetched again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tvm_prune"


@contextlib.contextmanager
def disk_full_is_named(path: Path) -> Iterator[None]:
    """Turn the operating system's "no space left" into a DiskFullError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFullError(
            f"no space left while writing {path}; what was written before is complete. "
            f"Free some space on {path.parent} and start the same command again: it resumes."
        ) from error


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    with disk_full_is_named(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise


def append_line(path: Path, line: str) -> None:
    """Append one line to `path` in a single write and force it to disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with disk_full_is_named(path), open(path, "ab") as file:
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
