"""The threads of a compiled library: an object file that is linked into each and replaces TVM's thread pool."""

import os
import subprocess
import uuid
from pathlib import Path

from tvm_prune.errors import ToolchainError
from tvm_prune.oracle.target import Target

__all__ = ["SOURCE", "compile_launcher"]

SOURCE = Path(__file__).with_name("launcher.cc")


def compile_launcher(target: Target, path: Path) -> None:
    """Compile launcher.cc for the threads of `target` to the object file `path`, with the compiler that links too.

    Raises ToolchainError with the compiler's words.
    """
    from tvm.support.cc import get_cc

    # Whole or not at all.
    unfinished = path.with_name(f".{uuid.uuid4().hex}.o")
    options = ["-c", "-O2", "-fPIC", "-pthread", f"-DTHREADS={target.threads}"]
    found = subprocess.run(
        [get_cc(), *options, str(SOURCE), "-o", str(unfinished)], capture_output=True, text=True, check=False
    )
    if found.returncode != 0:
        raise ToolchainError(
            f"the threads of compiled libraries cannot be compiled ({found.stderr.strip()}); a C++ compiler with its "
            "headers is needed (Debian: apt-get install g++)"
        )
    os.replace(unfinished, path)
