"""Exported models timed against each other: alternating blocks, each side in its own process, ratios round by round."""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tvm_prune.lock import machine_lock
from tvm_prune.oracle.timing import percentile

__all__ = ["Reading", "Sides", "add_arguments"]

# Calls of one block at least, and its seconds.
_CALLS = 100
_BLOCK_S = 0.05
# Between two blocks: threads of the side before spin for work a while before they sleep.
_REST_S = 0.05
# A side that takes so much more or less beside the others than alone was disturbed: the reading is void.
_AGREEMENT = 0.03


class _Side:
    """A process with loaded models (see benchmarks/side.py)."""

    def __init__(self, kind: str, folders: Sequence[Path], *, threads: int) -> None:
        self.kind = kind
        command = [sys.executable, "-m", "benchmarks.side", kind, str(threads), *map(str, folders)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.outputs: list[list[float]] = self._answer()["outputs"]
        self._calls: dict[int, int] = {}

    def __enter__(self) -> "_Side":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def block(self, model: int) -> float:
        """Return the seconds of one call of a model, the mean of a block, after a rest."""
        if model not in self._calls:
            self._seconds(model, 3)
            self._calls[model] = max(_CALLS, round(_BLOCK_S / self._seconds(model, 10)))
        time.sleep(_REST_S)
        return self._seconds(model, self._calls[model])

    def _seconds(self, model: int, calls: int) -> float:
        assert self._process.stdin is not None
        print(json.dumps({"model": model, "calls": calls}), file=self._process.stdin, flush=True)
        return float(self._answer()["seconds"])

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the side {self.kind} ended with status {self._process.wait()}; its words are above")
        return json.loads(line)


@dataclass(frozen=True)
class Reading:
    """Seconds of one call by side or model, round by round; whether each ran as it does alone; readings taken."""

    seconds: Mapping[str, Sequence[float]]
    undisturbed: bool
    readings: int

    def median_s(self, kind: str) -> float:
        """Return the median of one series in seconds."""
        return statistics.median(self.seconds[kind])

    def ratio(self, kind: str, over: str) -> tuple[float, float, float]:
        """Return the median, the 10th and the 90th percentile of `kind` / `over`, round by round."""
        ratios = [mine / theirs for mine, theirs in zip(self.seconds[kind], self.seconds[over], strict=True)]
        return statistics.median(ratios), percentile(ratios, 10), percentile(ratios, 90)


class Sides:
    """The processes of a comparison, one for each kind of side, each with every model. Use as a context manager."""

    def __init__(self, kinds: Sequence[str], folders: Sequence[Path], *, threads: int) -> None:
        with ExitStack() as stack:
            self._sides = [stack.enter_context(_Side(kind, folders, threads=threads)) for kind in kinds]
            self._stack = stack.pop_all()

    def __enter__(self) -> "Sides":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def difference(self, model: int, *, kinds: Sequence[str] | None = None) -> float:
        """Return how far any side's outputs, or those of `kinds`, are from the first's, relative to their largest."""
        chosen = [side for side in self._sides if kinds is None or side.kind in kinds]
        first, *others = [np.asarray(side.outputs[model]) for side in chosen]
        return max(float(np.abs(other - first).max() / np.abs(first).max()) for other in others)

    def read(self, model: int, *, rounds: int, readings: int, kinds: Sequence[str] | None = None) -> Reading:
        """Time one model on every side, or on those of some `kinds`, which name the series."""
        turns = {side.kind: (side, model) for side in self._sides if kinds is None or side.kind in kinds}
        return self._read(turns, rounds=rounds, readings=readings)

    def read_models(self, kind: str, models: Sequence[int], *, rounds: int, readings: int) -> Reading:
        """Time several models on one side; the series are named by the models' places."""
        (side,) = [side for side in self._sides if side.kind == kind]
        return self._read({str(model): (side, model) for model in models}, rounds=rounds, readings=readings)

    @staticmethod
    def _read(turns: Mapping[str, tuple[_Side, int]], *, rounds: int, readings: int) -> Reading:
        """Time what takes turns.

        Each has two blocks a round: the first comes after another's, the second after its own, as if it ran alone. A
        reading in which the first take more than 3 % more or less than the second is repeated, up to `readings` times;
        the last one stands and says so. The machine's own changes of speed touch both alike.
        """
        taken, undisturbed = 0, False
        while taken < readings and not undisturbed:
            taken += 1
            seconds: dict[str, list[float]] = {name: [] for name in turns}
            alone: dict[str, list[float]] = {name: [] for name in turns}
            with machine_lock("measuring"):
                for _ in range(rounds):
                    for name, (side, model) in turns.items():
                        seconds[name].append(side.block(model))
                        alone[name].append(side.block(model))
            undisturbed = all(
                abs(statistics.median(one / other for one, other in zip(seconds[name], alone[name], strict=True)) - 1)
                <= _AGREEMENT
                for name in turns
            )
        return Reading(seconds, undisturbed, taken)


def add_arguments(parser: argparse.ArgumentParser, *, out: str, rounds: int, readings: int) -> None:
    """Add what every comparison of sides is asked for; the values are the defaults."""
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--trials", type=int, default=24, help="programs tried for each kernel")
    parser.add_argument("--rounds", type=int, default=rounds, help="blocks of each side")
    parser.add_argument("--readings", type=int, default=readings, help="attempts at an undisturbed reading")
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--json", type=Path, metavar="FILE")
