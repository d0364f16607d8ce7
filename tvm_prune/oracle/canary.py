"""The canary: one small convolution with one fixed program. When it is slow, the machine is slow, not the model.

Kernels are tuned at different times, and what they cost is added up and compared. A machine that is half as fast for a
minute would make what was tuned in it look dear, so every reading is set against the canary's beside it. There are two
programs of it, on all threads and on one: who takes a core away for a minute holds up the first and not the second.
"""

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tvm_prune.errors import ToolchainError
from tvm_prune.oracle.launcher import compile_launcher
from tvm_prune.oracle.object_cache import ObjectCache
from tvm_prune.oracle.record_units import PARALLEL, SERIAL, read_units, unit_name, write_units
from tvm_prune.oracle.spaces import enumerate_candidates
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.worker import Worker, WorkerDied

__all__ = ["BUFFERS", "Canary", "build_canary"]

_HEIGHT, _CHANNELS = 16, 32
# [shape, dtype] of what a call takes: data, weights, result.
BUFFERS = [
    [[1, _HEIGHT, _HEIGHT, _CHANNELS], "float32"],
    [[3, 3, _CHANNELS, _CHANNELS], "float32"],
    [[1, _HEIGHT, _HEIGHT, _CHANNELS], "float32"],
]
# Its name among the kept object files.
_KEPT_AS = "canary.so"


class Canary:
    """The canary of one oracle: built when first needed; its usual speed is kept beside the records made by it."""

    def __init__(
        self, target: Target, library: Path, records_folder: Path, *, runner: Worker, cache: ObjectCache
    ) -> None:
        self._target = target
        self._library = library
        self._cache = cache
        self._records_folder = records_folder
        self._runner = runner

    @cached_property
    def kernel(self) -> dict[str, Any]:
        """What the run worker loads: library, symbol and buffers."""
        if not self._cache.fetch(_KEPT_AS, self._library):
            build_canary(self._target, self._library)
            self._cache.keep(_KEPT_AS, self._library)
        return {"library": str(self._library), "symbol": PARALLEL, "buffers": BUFFERS}

    @cached_property
    def yardstick(self) -> dict[str, Any]:
        """Library, buffers and `usual_s`: by symbol, the seconds of one call that readings are set against.

        Raises ToolchainError if it does not run.
        """
        known = read_units(self._records_folder)
        names = {symbol: unit_name(self._target, symbol) for symbol in (PARALLEL, SERIAL)}
        if not known.keys() >= set(names.values()):
            for symbol, name in names.items():
                try:
                    request = {**self.kernel, "symbol": symbol}
                    known[name] = float(self._runner.request("usual_seconds", request, timeout_s=60))
                except WorkerDied as error:
                    raise ToolchainError(
                        f"a small kernel does not run ({error}); tvm-prune doctor MODEL says more"
                    ) from error
            write_units(self._records_folder, known)
        usual_s = {symbol: known[name] for symbol, name in names.items()}
        return {"library": self.kernel["library"], "buffers": self.kernel["buffers"], "usual_s": usual_s}


def build_canary(target: Target, library: Path) -> None:
    """Compile both programs of the canary to `library`."""
    import tvm
    from tvm import te, topi

    data = te.placeholder((1, _HEIGHT, _HEIGHT, _CHANNELS), name="data")
    weight = te.placeholder((3, 3, _CHANNELS, _CHANNELS), name="weight")
    result = topi.nn.relu(topi.nn.conv2d_nhwc(data, weight, 1, 1, 1))
    function = te.create_prim_func([data, weight, result])
    bodies = {}
    for symbol, threads in ((PARALLEL, target.threads), (SERIAL, 1)):
        (candidate,) = enumerate_candidates(function, replace(target, threads=threads), limit=1)
        bodies[symbol] = candidate.schedule.mod["main"].with_attr("global_symbol", symbol)
    launcher = library.with_suffix(".threads.o")
    compile_launcher(target, launcher)
    tvm.compile(tvm.IRModule(bodies), target=target.to_tvm()).export_library(str(library), addons=[str(launcher)])
    launcher.unlink()
