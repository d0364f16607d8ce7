"""Kernels are timed with their weights as far from the core as in a network, where others have passed since.

A kernel that is called again and again on the same buffers finds its weight in the nearest cache. So calls take copies
of it in turn, and a loop in C makes these calls: one from Python would cost as much as a small kernel.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm.support.cc import create_shared

__all__ = ["random_buffer", "rotate", "rotations"]

# Weights that are smaller stay near whatever passes.
_HOT_BYTES = 16 * 1024

_LOOP = """
#include <tvm/ffi/c_api.h>

// rotate(calls, kernel, n, a_1 ... a_n, b_1 ... b_n, ...) calls kernel(a_1 ... a_n), kernel(b_1 ... b_n) and so on, so
// many times in all; the next time it goes on with the list behind the last one, whoever has used that before.
extern "C" int __tvm_ffi_rotate(void*, const TVMFFIAny* args, int32_t num_args, TVMFFIAny* result) {
  static int64_t turn = 0;
  TVMFFIObjectHandle kernel = args[1].v_obj;
  const int32_t n = static_cast<int32_t>(args[2].v_int64);
  const int64_t lists = (num_args - 3) / n;
  for (int64_t call = 0; call < args[0].v_int64; ++call) {
    const TVMFFIAny* list = args + 3 + (turn++ % lists) * n;
    int status = TVMFFIFunctionGetCellPtr(kernel)->safe_call(kernel, list, n, result);
    if (status != 0) return status;
  }
  return 0;
}
"""


def rotate(folder: Path) -> Any:
    """Return the library whose function ``rotate`` is the loop; compiled once for `folder`.

    A timer calls what it times once before: the loop goes on where that call ended, so no copy is near because of it.
    """
    library = folder / "rotate.so"
    if not library.exists():
        from tvm_ffi.libinfo import find_dlpack_include_path, find_include_path

        source = folder / f"rotate{os.getpid()}.cc"
        source.write_text(_LOOP)
        unfinished = source.with_suffix(".so")
        options = ["-O2", f"-I{find_include_path()}", f"-I{find_dlpack_include_path()}"]
        create_shared(str(unfinished), [str(source)], options=options)
        os.replace(unfinished, library)
        source.unlink()
    return tvm.runtime.load_module(str(library))


def rotations(kernels: Any) -> dict[str, list[list[Any]]]:
    """Return by each kernel's symbol the lists of buffers its calls take in turn; those of the same shapes share them.

    `kernels` are {symbol, buffers ([shape, dtype] each), weight (the number of the buffer that is far, null = none)}.
    """
    made: dict[str, list[list[Any]]] = {}
    found = {}
    for kernel in kernels:
        key = json.dumps([kernel["buffers"], kernel["weight"]])
        if key not in made:
            made[key] = _rotation([random_buffer(shape, dtype) for shape, dtype in kernel["buffers"]], kernel["weight"])
        found[kernel["symbol"]] = made[key]
    return found


def random_buffer(shape: Sequence[int], dtype: str) -> Any:
    """Return a tensor of the same random values for every call."""
    generator = np.random.default_rng(0)
    if dtype.startswith("float"):
        array = generator.standard_normal(shape).astype(dtype)
    elif dtype in ("int8", "uint8", "uint16", "uint32", "uint64"):
        # Activations and weights of integer networks, words of bits; wider signed integers may be indices.
        bounds = np.iinfo(dtype)
        array = generator.integers(bounds.min, bounds.max, shape, dtype, endpoint=True)
    else:
        array = generator.integers(0, 2, shape).astype(dtype)
    return tvm.runtime.tensor(array)


def _rotation(buffers: list[Any], weight: int | None) -> list[list[Any]]:
    """Return the lists of buffers that calls take in turn, alike but for their own copy of the weight.

    Copies of a small weight pass the caches that a core has for itself, as the weights of a small network do; those of
    a large one pass the last cache, as a large network's do.
    """
    if weight is None:
        return [buffers]
    array = buffers[weight].numpy()
    if array.nbytes < _HOT_BYTES:
        return [buffers]
    own, last = _cache_bytes()
    passed = min(4 * own, last) if array.nbytes < last / 16 else 3 * last
    copies = [tvm.runtime.tensor(array) for _ in range(max(2, int(passed / array.nbytes)))]
    return [[*buffers[:weight], copy, *buffers[weight + 1 :]] for copy in copies]


def _cache_bytes() -> tuple[int, int]:
    """Return the sizes of this machine's last cache but one and of its last; 1 and 16 MiB where it does not tell."""
    found = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"))
    texts = [path.read_text().strip() for path in found][-2:] if len(found) > 1 else ["1M", "16M"]
    own, last = (int(text[:-1]) * {"K": 2**10, "M": 2**20}[text[-1]] for text in texts)
    return own, last
