"""One 3x3 convolution at every channel count, against ONNX Runtime: is any count slower than the next larger one?

    python -m benchmarks.staircase --json FILE

A model is a chain of eight such convolutions (16x16 image, C -> C), so that calling it costs each side little beside
what it computes; microseconds are those of one convolution. A count and the next larger one take turns in a reading
of their own: rows read minutes apart say nothing about a few percent.
"""

import argparse
import statistics
import sys
from typing import Any

import torch
from torch import nn

from benchmarks.document import Document, markdown_table
from benchmarks.sides import Sides, add_arguments
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.jobs.export import export
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tune_settings import TuneSettings

_CHAIN = 8
_SIZE = 16


def _chain(channels: int) -> CompressedModel:
    torch.manual_seed(0)
    layers = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(_CHAIN)]
    return CompressedModel(
        module=nn.Sequential(*layers).eval(), example_inputs=(torch.zeros(1, channels, _SIZE, _SIZE),)
    )


def _row(place: int, channels: int, sides: Sides, arguments: argparse.Namespace, *, last: bool) -> dict[str, Any]:
    often = {"rounds": arguments.rounds, "readings": arguments.readings}
    reading = sides.read(place, **often)
    ratio, low, high = reading.ratio("ort", "ours")
    row = {
        "c": channels,
        "ours_us": reading.median_s("ours") * 1e6 / _CHAIN,
        "ort_us": reading.median_s("ort") * 1e6 / _CHAIN,
        "ratio_ort": ratio,
        "ratio_ort_p10": low,
        "ratio_ort_p90": high,
        "max_rel_err": sides.difference(place),
        "undisturbed": reading.undisturbed,
        "over_next": None,
        "over_next_p10": None,
        "over_next_p90": None,
        "over_next_undisturbed": None,
    }
    if not last:
        pair = sides.read_models("ours", [place, place + 1], **often)
        ratio, low, high = pair.ratio(str(place), str(place + 1))
        row |= {"over_next": ratio, "over_next_p10": low, "over_next_p90": high}
        row["over_next_undisturbed"] = pair.undisturbed
    return row


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the worst ratio of a count to the next larger one, the worst against ONNX Runtime, and odd counts'."""
    steps = [(row["over_next"], row["c"]) for row in rows if row["over_next"] is not None]
    odd = [row["ratio_ort"] for row in rows if row["c"] % 2]
    return {
        "worst_over_next": max(steps, default=None),
        "counts_over_next_by_3_percent": sorted(count for ratio, count in steps if ratio > 1.03),
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
        # Together, as a search tunes its candidates: counts near each other try each other's programs.
        oracle.estimate([_chain(channels) for channels in counts])
        for channels in counts:
            print(f"{channels} channels", file=sys.stderr)
            export(_chain(channels), oracle, out=arguments.out / str(channels), name=f"conv{channels}")
    folders = [arguments.out / str(channels) for channels in counts]
    with Sides(["ours", "ort"], folders, threads=arguments.threads) as sides:
        rows = []
        for place, channels in enumerate(counts):
            rows.append(_row(place, channels, sides, arguments, last=channels == counts[-1]))
            print(rows[-1], file=sys.stderr)
    if arguments.json is not None:
        Document.of(rows, summary=_summary(rows)).write(arguments.json)
    columns = {"c": "", "ours_us": ".1f", "ort_us": ".1f", "ratio_ort": ".2f", "undisturbed": "", "over_next": ".3f"}
    print(markdown_table(rows, columns))
    print(_summary(rows))


if __name__ == "__main__":
    main()
