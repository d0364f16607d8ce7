"""One lock for the whole machine: nobody trains while somebody measures."""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["machine_lock"]

_held = False


@contextlib.contextmanager
def machine_lock(
    purpose: str, *, waiting: Callable[[str], None] | None = None, path: Path | None = None
) -> Iterator[None]:
    """Hold the machine for `purpose` (measuring, training); `waiting` is told who has it while this call waits.

    Reentrant within a process. The lock dies with the process that holds it.
    """
    global _held
    if _held:
        yield
        return
    path = path or Path(tempfile.gettempdir()) / f"tvm_prune-{os.getuid()}.lock"
    with open(path, "a+") as file:
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told and waiting is not None:
                    file.seek(0)
                    waiting(file.read().strip() or "another process")
                    told = True
                time.sleep(0.2)
        file.truncate(0)
        file.write(f"{purpose} (process {os.getpid()})")
        file.flush()
        _held = True
        try:
            yield
        finally:
            _held = False
            file.truncate(0)
            fcntl.flock(file, fcntl.LOCK_UN)
