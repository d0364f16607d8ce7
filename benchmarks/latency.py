"""Whole models against what a user already has: ONNX Runtime, torch eager and torch.compile.

    python -m benchmarks.latency --models resnet20,resnet18 --out runs/latency --json FILE

Each model is tuned (records in OUT/records are reused), exported once, and the same export is timed on every side:
ours against ONNX Runtime until neither is disturbed, then ours against both forms of torch. The two networks for 224
pixels come from packages (benchmarks/real_models.py says which). With `--int8` each model is also quantized on both
sides (benchmarks/integers.py) and timed beside ours in float32: all layers that can be, and those alone that pay.
"""

import argparse
import json
import sys
from typing import Any

from benchmarks.document import Document, markdown_table
from benchmarks.integers import FLOAT_LAYERS, export_integers
from benchmarks.side import INTEGER_KINDS, KINDS
from benchmarks.sides import Sides, add_arguments
from tvm_prune.jobs.export import export
from tvm_prune.jobs.tune import compressed, tune
from tvm_prune.models.load import load_model
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.table import ProgramTable
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tune_settings import TuneSettings

_MODELS = "resnet20,resnet18,vgg16,benchmarks.real_models:mobilenetv2_224,benchmarks.real_models:efficientnet_lite0"
# Their times move by more than 3 % by themselves: they are read beside ours, but once, and void nothing.
_TORCH = ("torch_eager", "torch_compile")
_TORCH_ROUNDS = 4
COLUMNS = {
    "model": "",
    "precision": "",
    "threads": "",
    "ours_ms": ".3f",
    "ort_ms": ".3f",
    "torch_eager_ms": ".3f",
    "torch_compile_ms": ".3f",
    "ratio_ort": ".3f",
    "ratio_ort_p10": ".3f",
    "ratio_ort_p90": ".3f",
    "ratio_torch_eager": ".2f",
    "ratio_torch_compile": ".2f",
    "sum_of_tasks_ms": ".3f",
    "explained": ".3f",
    "max_rel_err": ".1e",
    "undisturbed": "",
}
INT8_COLUMNS = {
    "model": "",
    "precision": "",
    "threads": "",
    "ours_ms": ".3f",
    "ours_fp32_ms": ".3f",
    "ort_int8_ms": ".3f",
    "ratio_fp32": ".3f",
    "ratio_ort_int8": ".3f",
    "ratio_ort_int8_p10": ".3f",
    "ratio_ort_int8_p90": ".3f",
    "undisturbed": "",
}


def _short(name: str) -> str:
    return name.rpartition(":")[2]


def _tuned(name: str, arguments: argparse.Namespace) -> ProgramTable:
    """Tune a model and export it to a folder of its name."""
    model, short = compressed(load_model(name)), _short(name)
    target = Target.local(threads=arguments.threads)
    tuning = TuneSettings(trials_per_task=arguments.trials)
    with CompilerOracle(target, records_folder=arguments.out / "records", tuning=tuning) as oracle:
        export(model, oracle, out=arguments.out / short, name=short)
        if arguments.int8:
            export_integers(model, oracle, folder=arguments.out / short, name=short)
        return tune(model, oracle)


def _row(place: int, name: str, table: ProgramTable, sides: Sides, arguments: argparse.Namespace) -> dict[str, Any]:
    reading = sides.read(place, rounds=arguments.rounds, readings=arguments.readings, kinds=("ours", "ort"))
    ratio, low, high = reading.ratio("ort", "ours")
    torch = sides.read(place, rounds=_TORCH_ROUNDS, readings=1, kinds=("ours", *_TORCH))
    return {
        "model": _short(name),
        "precision": "fp32",
        "threads": arguments.threads,
        **{f"{kind}_ms": reading.median_s(kind) * 1e3 for kind in ("ours", "ort")},
        **{f"{kind}_ms": torch.median_s(kind) * 1e3 for kind in _TORCH},
        **{f"ratio_{kind}": torch.ratio(kind, "ours")[0] for kind in _TORCH},
        "ratio_ort": ratio,
        "ratio_ort_p10": low,
        "ratio_ort_p90": high,
        "sum_of_tasks_ms": sum(row.total_s for row in table.rows) * 1e3,
        "explained": table.explained_s / table.whole.latency_s,
        "max_rel_err": sides.difference(place, kinds=tuple(KINDS)),
        "undisturbed": reading.undisturbed,
        "readings": reading.readings,
    }


def _integer_row(place: int, name: str, precision: str, sides: Sides, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the row of ``int8``, or of ``mixed``, with which layers that has left in float32."""
    own = f"ours_{precision}"
    reading = sides.read(place, rounds=arguments.rounds, readings=arguments.readings, kinds=("ours", own, "ort_int8"))
    ratios = {"ort_int8": reading.ratio("ort_int8", own), "fp32": reading.ratio("ours", own)}
    left = json.loads((arguments.out / _short(name) / "mixed" / FLOAT_LAYERS).read_text())
    return {
        "model": _short(name),
        "precision": precision,
        "threads": arguments.threads,
        "float_layers": left if precision == "mixed" else [],
        "ours_ms": reading.median_s(own) * 1e3,
        "ours_fp32_ms": reading.median_s("ours") * 1e3,
        "ort_int8_ms": reading.median_s("ort_int8") * 1e3,
        **{
            f"ratio_{kind}{suffix}": value
            for kind, values in ratios.items()
            for suffix, value in zip(("", "_p10", "_p90"), values, strict=True)
        },
        "undisturbed": reading.undisturbed,
        "readings": reading.readings,
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=_MODELS, help="names or package.module:function, with commas")
    parser.add_argument("--int8", action="store_true", help="compare int8 and mixed too")
    parser.add_argument("--only-int8", action="store_true", help="compare nothing else")
    add_arguments(parser, out="runs/latency", rounds=20, readings=5)
    arguments = parser.parse_args()
    arguments.int8 |= arguments.only_int8
    names = arguments.models.split(",")
    tables = []
    for name in names:
        print(f"{name}: tuning", file=sys.stderr)
        tables.append(_tuned(name, arguments))
    print("loading every model on every side", file=sys.stderr)
    rows = []
    kinds = [*(("ours",) if arguments.only_int8 else KINDS), *(INTEGER_KINDS if arguments.int8 else ())]
    with Sides(kinds, [arguments.out / _short(name) for name in names], threads=arguments.threads) as sides:
        for place, name in enumerate(names):
            print(f"{name}: timing", file=sys.stderr)
            if not arguments.only_int8:
                rows.append(_row(place, name, tables[place], sides, arguments))
            if arguments.int8:
                rows += [_integer_row(place, name, each, sides, arguments) for each in ("int8", "mixed")]
            if arguments.json is not None:
                Document.of(rows).write(arguments.json)
    for precisions, columns in ((("fp32",), COLUMNS), (("int8", "mixed"), INT8_COLUMNS)):
        if chosen := [row for row in rows if row["precision"] in precisions]:
            print(markdown_table(chosen, columns))


if __name__ == "__main__":
    main()
