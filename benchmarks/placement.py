"""Where a virtual machine's cores are, and what that does to two threads: the reason why readings come in groups.

    python -m benchmarks.placement --minutes 3 --json FILE

ResNet-20 in float32 and int8, compiled for two threads, runs on two cores with one thread and with two, in turns.
Before and after each turn a line of memory goes from core to core and back (benchmarks/round_trip.cc): 50 ns says that
both are threads of one real core, 100 that they share a cache, 500 that they do not. A host moves its guests' cores
without telling them. Turns in whose course that changed are left out; what remains is grouped by the round trip.
"""

import argparse
import ctypes
import itertools
import os
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.document import Document, markdown_table
from benchmarks.integers import export_integers
from benchmarks.sides import Side
from tvm_prune.jobs.export import export
from tvm_prune.jobs.tune import compressed
from tvm_prune.lock import machine_lock
from tvm_prune.models.load import load_model
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.timing import percentile
from tvm_prune.oracle.tune_settings import TuneSettings

_THREADS = 2
# What lies farther apart than this factor are two placements.
_GAP = 1.4
_KINDS = ("ours", "ours_int8")
COLUMNS = {
    "round_trip_ns": ".0f",
    "turns": "",
    "precision": "",
    "one_thread_us": ".0f",
    "two_threads_us": ".0f",
    "faster": ".2f",
    "faster_p10": ".2f",
    "faster_p90": ".2f",
    "int8_faster_one_thread": ".2f",
    "int8_faster_two_threads": ".2f",
}

Turn = dict[tuple[str, int], float]


def _round_trip(folder: Path) -> Any:
    from tvm.support.cc import create_shared

    library = folder / "round_trip.so"
    source = Path(__file__).with_name("round_trip.cc")
    create_shared(str(library), [str(source)], options=["-O2", "-pthread"])
    function = ctypes.CDLL(str(library.resolve())).round_trip_ns
    function.restype = ctypes.c_double
    return function


def _grouped(turns: Sequence[tuple[float, Turn]]) -> list[list[tuple[float, Turn]]]:
    """Return the turns sorted by their round trip, cut where the next is much longer."""
    ordered = sorted(turns, key=lambda turn: turn[0])
    groups = [ordered[:1]] if ordered else []
    for before, after in itertools.pairwise(ordered):
        if after[0] > _GAP * before[0]:
            groups.append([])
        groups[-1].append(after)
    return groups


def _rows(group: Sequence[tuple[float, Turn]]) -> list[dict[str, Any]]:
    turns = [turn for _, turn in group]

    def ratio(first: tuple[str, int], second: tuple[str, int]) -> float:
        return statistics.median(turn[first] / turn[second] for turn in turns)

    rows = []
    for kind in _KINDS:
        gains = [turn[kind, 1] / turn[kind, _THREADS] for turn in turns]
        rows.append(
            {
                "model": "resnet20",
                "round_trip_ns": statistics.median(trip for trip, _ in group),
                "turns": len(turns),
                "precision": "int8" if kind == "ours_int8" else "fp32",
                "one_thread_us": statistics.median(turn[kind, 1] for turn in turns) * 1e6,
                "two_threads_us": statistics.median(turn[kind, _THREADS] for turn in turns) * 1e6,
                "faster": statistics.median(gains),
                "faster_p10": percentile(gains, 10),
                "faster_p90": percentile(gains, 90),
                "int8_faster_one_thread": ratio(("ours", 1), ("ours_int8", 1)),
                "int8_faster_two_threads": ratio(("ours", _THREADS), ("ours_int8", _THREADS)),
            }
        )
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--trials", type=int, default=24, help="programs tried for each kernel")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of ResNet-20; they do not change the times")
    parser.add_argument("--out", type=Path, default=Path("runs/placement"))
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:_THREADS]
    os.sched_setaffinity(0, cores)  # and so are the sides'
    model = compressed(load_model("resnet20", weights=arguments.weights))
    tuning = TuneSettings(trials_per_task=arguments.trials)
    target = Target.local(threads=_THREADS)
    with CompilerOracle(target, records_folder=arguments.out / "records", tuning=tuning) as oracle:
        export(model, oracle, out=arguments.out / "resnet20", name="resnet20")
        export_integers(model, oracle, folder=arguments.out / "resnet20", name="resnet20")
    round_trip = _round_trip(arguments.out)
    turns: list[tuple[float, Turn]] = []
    with ExitStack() as stack:
        sides = {
            (kind, threads): stack.enter_context(Side(kind, [arguments.out / "resnet20"], threads=threads))
            for kind in _KINDS
            for threads in (1, _THREADS)
        }
        stack.enter_context(machine_lock("measuring"))
        end = time.monotonic() + 60 * arguments.minutes
        while time.monotonic() < end:
            before = round_trip(*cores)
            turn = {key: side.block(0) for key, side in sides.items()}
            after = round_trip(*cores)
            if max(before, after) < _GAP * min(before, after):
                turns.append(((before + after) / 2, turn))
    rows = [row for group in _grouped(turns) for row in _rows(group)]
    if arguments.json is not None:
        Document.of(rows).write(arguments.json)
    print(markdown_table(rows, COLUMNS))


if __name__ == "__main__":
    main()
