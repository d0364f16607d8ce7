"""The measuring process and what is loaded in it: whole modules under names, beside them a canary."""

import base64
import contextlib
import itertools
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tvm_prune.oracle.timing import best_rounds, keep, percentile, steady_rounds, usual
from tvm_prune.oracle.worker import Worker, WorkerDied

__all__ = ["Bench", "BenchSettings", "pack", "unpack"]


def pack(array: np.ndarray) -> dict[str, Any]:
    """Return an array as JSON types for a worker."""
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"data": data, "dtype": str(array.dtype), "shape": list(array.shape)}


def unpack(packed: Any) -> np.ndarray:
    """Return the array that a worker packed."""
    data = base64.b64decode(packed["data"])
    return np.frombuffer(data, dtype=packed["dtype"]).reshape(packed["shape"])


# The runtime never lets go of a library's code and weights: after so many loads the worker starts afresh.
_MOST_LOADS = 100
# Readings of one measurement at most while the machine is slower than usual.
_MOST_ATTEMPTS = 4
# A rest that leaves the canary above this part of what it took before was of no use.
_RELIEF = 0.95


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """Alternating blocks of one reading, seconds of a block and of the rest before it, silence that ends a worker.

    `recovery_s` is the rest that a slow machine is given, longer at each attempt; who is `persistent` goes on giving it
    where it was of no use.
    """

    blocks: int = 25
    block_s: float = 0.02
    rest_s: float = 0.002
    recovery_s: float = 0.5
    persistent: bool = False
    timeout_s: float = 60.0


class Bench:
    """Times modules in the run worker. A crash loses what was loaded: it is loaded again when next used."""

    def __init__(self, runner: Worker, settings: BenchSettings) -> None:
        self.runner = runner
        self.settings = settings
        self.measurements = 0
        self._sources: dict[str, dict[str, Any]] = {}
        self._owned: dict[str, Path] = {}
        self._loaded: set[str] = set()
        self._loads = 0
        # The quick quarter of the canary in each of the last readings.
        self._canary_s: deque[float] = deque(maxlen=40)
        self._numbers = itertools.count()
        self._process: Any = None

    def add(self, library: Path, inputs: Sequence[np.ndarray], *, temporary: bool = False) -> str:
        """Register a module; return its name. `remove` also deletes the library if it is `temporary`."""
        name = f"module{next(self._numbers)}"
        if temporary:
            self._owned[name] = library
        self._sources[name] = {"library": str(library), "name": name, "inputs": [pack(array) for array in inputs]}
        return name

    def set_canary(self, kernel: dict[str, Any]) -> None:
        """Use a kernel (library, symbol, buffers) as the fixed program that shows how fast the machine is just now."""
        self._sources["canary"] = {"name": "canary", **kernel}

    def remove(self, name: str) -> None:
        """Forget a module."""
        self._sources.pop(name, None)
        if name in self._owned:
            self._owned.pop(name).unlink(missing_ok=True)
        if name in self._loaded and self._process is self.runner.process:
            self._loaded.discard(name)
            with contextlib.suppress(WorkerDied):  # then it is gone all the same
                self.runner.request("unload", {"name": name}, timeout_s=self.settings.timeout_s)

    def run(self, name: str, inputs: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
        """Return the module's outputs on `inputs` (None = those it was added with). Raises WorkerDied."""
        self._refresh()
        self._load(name)
        packed = None if inputs is None else [pack(array) for array in inputs]
        answer = self.runner.request("run", {"name": name, "inputs": packed}, timeout_s=self.settings.timeout_s)
        return [unpack(value) for value in answer]

    def times(
        self,
        names: Sequence[str],
        *,
        stamped: str | None = None,
        stamp_words: int = 0,
        stamp_runs: int = 0,
        patient: bool = True,
    ) -> dict[str, list[Any]]:
        """Return seconds of one call for every name and round; rounds in which the canary was slow are left out.

        Where that leaves less than half a reading, the machine is given a rest and read again, a few times. If it does
        not come back to its usual speed, if a rest was of no use (unless persistent), or if not `patient`, the best
        half of what there is must do. With `stamped`, that name's series holds {calls, between} for
        each round: the seconds of each kernel call of one run, and of all that lies between them. Raises WorkerDied.
        """
        self._refresh()
        everything = [*names, *(["canary"] if "canary" in self._sources else [])]
        for name in (*everything, *([stamped] if stamped is not None else [])):
            self._load(name)
        request = {
            "names": everything,
            "blocks": self.settings.blocks,
            "block_s": self.settings.block_s,
            "rest_s": self.settings.rest_s,
            "stamped": stamped,
            "stamp_words": stamp_words,
            "stamp_runs": stamp_runs,
        }
        found: dict[str, list[Any]] = {}
        enough = (self.settings.blocks + 1) // 2
        now_s = math.inf
        for attempt in range(_MOST_ATTEMPTS if patient else 1):
            time.sleep(attempt * self.settings.recovery_s)
            answer = self.runner.request("time_modules", request, timeout_s=self.settings.timeout_s)
            self.measurements += 1
            for name, values in answer.items():
                found.setdefault(name, []).extend(values)
            if "canary" not in answer:
                return found
            before_s, now_s = now_s, percentile(answer["canary"], 25)
            self._canary_s.append(now_s)
            steady = steady_rounds(found["canary"], usual(self._canary_s))
            useless = now_s > _RELIEF * before_s and not self.settings.persistent
            if len(steady) >= enough or useless:
                break
        rounds = steady if len(steady) >= enough else best_rounds(found["canary"], enough)
        found.pop("canary")
        return keep(found, rounds)

    def _refresh(self) -> None:
        if self._loads >= _MOST_LOADS:
            self.runner.stop()

    def _load(self, name: str) -> None:
        self.runner.start()
        if self._process is not self.runner.process:
            self._process = self.runner.process
            self._loaded.clear()
            self._loads = 0
        if name not in self._loaded:
            try:
                self.runner.request("load", self._sources[name], timeout_s=self.settings.timeout_s)
            except WorkerDied as error:
                raise WorkerDied(f"loading {self._sources[name]['library']}: {error}") from error
            self._loaded.add(name)
            self._loads += 1
