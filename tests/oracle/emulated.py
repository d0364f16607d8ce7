"""Kernels for Arm, run on this machine under emulation: whether they are right, not how fast."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm_ffi.libinfo import include_paths

from tvm_prune.oracle.target import Target

__all__ = ["call_on_arm", "needs_arm", "program_for_arm"]

_COMPILER, _EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
_CODES = {"i": 0, "u": 1, "f": 2}

_MISSING = [name for name in (_COMPILER, _EMULATOR) if shutil.which(name) is None]
needs_arm = pytest.mark.skipif(
    bool(_MISSING), reason=f"not installed: {', '.join(_MISSING)} (Debian: qemu-user, gcc-aarch64-linux-gnu)"
)


def program_for_arm(function: Any, target: Target, folder: Path) -> Path:
    """Return a program that calls `function`, a PrimFunc of one thread, for `call_on_arm`; it is in `folder`."""
    module = tvm.IRModule({"kernel": function.with_attr("global_symbol", "kernel")})
    with tvm.transform.PassContext(config={"tirx.disable_assert": True}):
        compiled = tvm.compile(module, target=target.to_tvm())
    kernel, program = folder / "kernel.o", folder / "program"
    compiled.mod.write_to_file(str(kernel))
    includes = (f"-I{path}" for path in include_paths())
    caller = Path(__file__).with_name("call_kernel.c")
    subprocess.run([_COMPILER, "-static", "-O1", *includes, str(caller), str(kernel), "-o", str(program)], check=True)
    return program


def call_on_arm(program: Path, *arrays: np.ndarray) -> np.ndarray:
    """Return what the last of `arrays` holds after the kernel has been called with them."""
    given = [np.array([len(arrays)], "int64").tobytes()]
    for array in arrays:
        shape = [_CODES[array.dtype.kind], 8 * array.dtype.itemsize, array.ndim, *array.shape]
        given += [np.array(shape, "int64").tobytes(), np.ascontiguousarray(array).tobytes()]
    emulated = [_EMULATOR, "-cpu", "max", str(program)]
    done = subprocess.run(emulated, input=b"".join(given), stdout=subprocess.PIPE, check=True)
    return np.frombuffer(done.stdout, arrays[-1].dtype).reshape(arrays[-1].shape)
