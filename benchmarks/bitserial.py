"""Convolutions of 1 to 7 bits by planes of bits, beside the same in int8 and float32: where do fewer bits run faster?

    python -m benchmarks.bitserial --json FILE

Each row is one convolution (C -> C channels) at one precision. Its fastest programs in planes of bits (packing the
activations included), in int8 and in float32 are timed in turns in one process, and packing alone beside them; ratios
are paired round by round. `--target "llvm --cpu=haswell --threads=2 --vector-bits=256"` tells what a processor without
a dot product instruction and without a count of ones in vectors would say, where this machine runs its code.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.document import Document, markdown_table
from tvm_prune.oracle.bit_conv import BitConv
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.cost import Failure
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tune_settings import TuneSettings
from tvm_prune.search.bit_verdict import BitVerdict, bit_verdict

_SHAPES = "32x16,16x32,8x64,16x64,16x128,8x256,4x512,14x512p"
_BITS = "1x1,1x2,2x2,2x3,3x3,2x7,4x4,7x7"
COLUMNS = {
    "shape": "",
    "w_bits": "",
    "a_bits": "",
    "us": ".1f",
    "pack_us": ".2f",
    "int8_us": ".1f",
    "fp32_us": ".1f",
    "over_int8": ".2f",
    "over_int8_low": ".2f",
    "over_int8_high": ".2f",
    "over_fp32": ".2f",
    "pays": "",
}


def _conv(shape: str, bits: str) -> BitConv:
    """Return the convolution that SIDExCHANNELS (p behind it: pointwise, else 3x3) and WEIGHTSxACTIVATIONS name."""
    side, channels = (int(number) for number in shape.removesuffix("p").split("x"))
    w_bits, a_bits = (int(number) for number in bits.split("x"))
    window = 1 if shape.endswith("p") else 3
    return BitConv(
        height=side,
        width=side,
        in_channels=channels,
        out_channels=channels,
        kernel=(window, window),
        padding=window // 2,
        w_bits=w_bits,
        a_bits=a_bits,
    )


def _row(verdict: BitVerdict) -> dict[str, Any]:
    conv = verdict.conv
    series = {"": verdict.bit_serial, "pack_": verdict.packing, "int8_": verdict.int8, "fp32_": verdict.float32}
    return {
        "shape": f"{conv.height}x{conv.width}x{conv.in_channels}, {conv.kernel[0]}x{conv.kernel[1]}",
        "w_bits": conv.w_bits,
        "a_bits": conv.a_bits,
        **{f"{name}us": timed.median_s * 1e6 for name, timed in series.items()},
        **{f"{name}spread_us": timed.spread_s * 1e6 for name, timed in series.items()},
        **{f"{name}program": timed.program for name, timed in series.items()},
        "word_bits": verdict.words.bits,
        "over_int8": verdict.over_int8.median,
        "over_int8_low": verdict.over_int8.median_low,
        "over_int8_high": verdict.over_int8.median_high,
        "over_fp32": verdict.over_float.median,
        "over_fp32_low": verdict.over_float.median_low,
        "over_fp32_high": verdict.over_float.median_high,
        "pays": verdict.pays,
    }


def _summary(rows: list[dict[str, Any]], target: Target) -> dict[str, Any]:
    """Return the target, and of each precision on how many shapes its planes are the fastest of the three."""
    precisions = dict.fromkeys(f"{row['w_bits']}x{row['a_bits']}" for row in rows)
    of = {name: [row["pays"] for row in rows if f"{row['w_bits']}x{row['a_bits']}" == name] for name in precisions}
    return {"target": str(target), "pays": {name: f"{sum(found)} of {len(found)}" for name, found in of.items()}}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="local")
    parser.add_argument("--shapes", default=_SHAPES, help="SIDExCHANNELS, a p behind one of a pointwise convolution")
    parser.add_argument("--bits", default=_BITS, help="bits of weights x bits of activations, with commas")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--trials", type=int, default=24, help="programs tried for each kernel")
    parser.add_argument("--rounds", type=int, default=31, help="blocks of each program")
    parser.add_argument("--out", type=Path, default=Path("runs/bitserial"))
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    convs = [_conv(shape, bits) for shape in arguments.shapes.split(",") for bits in arguments.bits.split(",")]
    target = Target.parse(arguments.target, threads=arguments.threads)
    tuning = TuneSettings(trials_per_task=arguments.trials)
    rows: list[dict[str, Any]] = []
    with CompilerOracle(target, records_folder=arguments.out / "records", tuning=tuning) as oracle:
        for conv in convs:
            verdict = bit_verdict(conv, oracle, rounds=arguments.rounds)
            if isinstance(verdict, Failure):
                raise SystemExit(f"{conv} fails at the stage {verdict.stage!r}: {verdict.message}")
            rows.append(_row(verdict))
            print(f"{conv}: {rows[-1]}", file=sys.stderr)
            if arguments.json is not None:
                Document.of(rows, summary=_summary(rows, target)).write(arguments.json)
    print(markdown_table(rows, COLUMNS))
    print(_summary(rows, target))


if __name__ == "__main__":
    main()
