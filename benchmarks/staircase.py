"""One 3x3 convolution at every channel count, against ONNX Runtime: is any count slower than the next larger one?

    python -m benchmarks.staircase --json FILE

A model is a chain of eight such convolutions (16x16 image, C -> C), so that calling it costs each side little beside
what it computes; microseconds are those of one convolution.
"""

import argparse
import statistics
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from benchmarks.document import Document, markdown_table
from benchmarks.sides import Sides, add_arguments
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.jobs.export import export
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tuner import TuneSettings

_CHAIN = 8
_SIZE = 16


def _chain(channels: int) -> CompressedModel:
    torch.manual_seed(0)
    layers = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(_CHAIN)]
    return CompressedModel(
        module=nn.Sequential(*layers).eval(), example_inputs=(torch.zeros(1, channels, _SIZE, _SIZE),)
    )


def _row(place: int, channels: int, sides: Sides, arguments: argparse.Namespace) -> dict[str, Any]:
    reading = sides.read(place, rounds=arguments.rounds, readings=arguments.readings)
    ratio, low, high = reading.ratio("ort", "ours")
    return {
        "c": channels,
        "ours_us": reading.median_s("ours") * 1e6 / _CHAIN,
        "ort_us": reading.median_s("ort") * 1e6 / _CHAIN,
        "ratio_ort": ratio,
        "ratio_ort_p10": low,
        "ratio_ort_p90": high,
        "max_rel_err": sides.difference(place),
        "undisturbed": reading.undisturbed,
    }


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the worst rise to a smaller count, the worst ratio, and the median ratio of odd counts."""
    steps = {small["c"]: small["ours_us"] / large["ours_us"] for small, large in pairwise(rows)}
    odd = [row["ratio_ort"] for row in rows if row["c"] % 2]
    return {
        "worst_over_next_larger": max(steps.items(), key=lambda item: item[1], default=None),
        "worst_ratio_ort": min((row["ratio_ort"], row["c"]) for row in rows),
        "median_ratio_ort_odd": statistics.median(odd) if odd else None,
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs=2, default=(8, 64), metavar=("FROM", "TO"))
    add_arguments(parser, out="runs/staircase", rounds=7, readings=3)
    arguments = parser.parse_args()
    counts = range(arguments.counts[0], arguments.counts[1] + 1)
    tuning = TuneSettings(trials_per_task=arguments.trials)
    target = Target.local(threads=arguments.threads)
    with CompilerOracle(target, records_folder=arguments.out / "records", tuning=tuning) as oracle:
        for channels in counts:
            export(_chain(channels), oracle, out=arguments.out / str(channels), name=f"conv{channels}")
    folders = [arguments.out / str(channels) for channels in counts]
    with Sides(["ours", "ort"], folders, threads=arguments.threads) as sides:
        rows = [_row(place, channels, sides, arguments) for place, channels in enumerate(counts)]
    if arguments.json is not None:
        Document.of(rows, summary=_summary(rows)).write(arguments.json)
    print(markdown_table(rows, {"c": "", "ours_us": ".1f", "ort_us": ".1f", "ratio_ort": ".2f", "undisturbed": ""}))
    print(_summary(rows))


if __name__ == "__main__":
    main()
