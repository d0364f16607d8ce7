"""Object files that outlive their oracle, so that a second run of a network links what the first one compiled.

They lie in the user's own cache, not beside the records: records are handed around, and an object file is code. Each
file is the SHA-256 of an object and the object itself, so that a damaged one is compiled anew instead of linked. What
an object follows from besides its symbol (TVM, target, the code that compiles it) names the folder.
"""

import contextlib
import hashlib
import logging
import os
from pathlib import Path

import relay_passes
from tvm_prune.codec import dumps, encode
from tvm_prune.errors import DiskFullError
from tvm_prune.files import user_cache, write_atomically
from tvm_prune.oracle.launcher import SOURCE
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.toolchain import tvm_version

__all__ = ["VARIABLE", "ObjectCache", "cache_folder"]

# Another folder for the cache; empty = none is kept.
VARIABLE = "TVM_PRUNE_CACHE"
_DIGEST_BYTES = 32
# Some tens of thousands of kernels. Those unused for longest go first.
_MOST_BYTES = 512 * 2**20
_PASSES = ("overlap_tails", "stamp_calls", "vector_math", "wrapping")
_COMPILED_BY = (
    Path(__file__).with_name("build_worker.py"),
    # Records name an instruction; what it is made of stands here.
    Path(__file__).with_name("spaces") / "dot_sums.py",
    SOURCE,
    *(Path(relay_passes.__file__).with_name(f"{name}.py") for name in _PASSES),
)
_log = logging.getLogger(__name__)


def cache_folder() -> Path | None:
    """Return where object files are kept, None for nowhere: as `VARIABLE` says, else in the user's cache."""
    chosen = os.environ.get(VARIABLE)
    if chosen is not None:
        return Path(chosen) / "objects" if chosen else None
    return user_cache() / "objects"


class ObjectCache:
    """The kept objects of one target under `folder`; None keeps nothing. A folder that cannot be used is no error."""

    def __init__(self, target: Target, folder: Path | None, *, most_bytes: int = _MOST_BYTES) -> None:
        made_by = [hashlib.sha256(path.read_bytes()).hexdigest() for path in _COMPILED_BY]
        purpose = dumps([tvm_version(), encode(target), made_by])
        self._root = folder
        self._folder = None if folder is None else folder / hashlib.sha256(purpose.encode()).hexdigest()[:16]
        self._most_bytes = most_bytes
        self._grown = False

    def fetch(self, symbol: str, path: Path) -> bool:
        """Write the object of `symbol` to `path`; return whether it was there."""
        if self._folder is None:
            return False
        kept = self._folder / symbol
        try:
            content = kept.read_bytes()
            digest, code = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
            if hashlib.sha256(code).digest() != digest:
                _log.warning("%s is damaged; its kernel is compiled anew", kept)
                kept.unlink(missing_ok=True)
                return False
            os.utime(kept)
        except OSError:
            return False
        path.write_bytes(code)
        return True

    def keep(self, symbol: str, path: Path) -> None:
        """Keep the object at `path` unless it is there."""
        if self._folder is None or (self._folder / symbol).exists():
            return
        code = path.read_bytes()
        try:
            write_atomically(self._folder / symbol, hashlib.sha256(code).digest() + code)
        except (OSError, DiskFullError) as error:
            _log.info("object files cannot be kept in %s (%s); set %s to another folder", self._folder, error, VARIABLE)
            self._folder = None
        self._grown = True

    def close(self) -> None:
        """Delete the objects of all targets that were unused for longest, down to three quarters of what may be."""
        if self._root is None or not self._grown:
            return
        with contextlib.suppress(OSError):  # other processes tidy up as well
            files = [(path, path.stat()) for path in self._root.glob("*/*")]
            total = sum(stat.st_size for _, stat in files)
            if total <= self._most_bytes:
                return
            for path, stat in sorted(files, key=lambda item: item[1].st_mtime):
                path.unlink(missing_ok=True)
                total -= stat.st_size
                if total <= self._most_bytes * 3 / 4:
                    break
