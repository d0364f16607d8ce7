"""Pruning and integers together: a trained network, CPrune's result, and both in int8, against the tuned dense one.

    python -m benchmarks.pruned_integers --model vgg16 --weights FILE --data-dir DIR --json FILE --out runs/pruned

`faster` is the latency of the dense float32 network over the row's, paired blocks of the two compiled modules;
`accuracy` is that of the test split, of the compiled module where the network computes with integers. The search ends
after `--max-seconds`; what is found is trained for `--set final_epochs=N` (settings of CPrune), and with
`--train-epochs` once more with rounding. With `--prices int8` the search goes by what networks take in int8, else by
what they take in float32. Resumes like any run. `--recipe` and `--pruned-weights` name a network that was pruned
before, and nothing is searched.
"""

import argparse
from pathlib import Path
from typing import Any

from benchmarks.document import Document, markdown_table
from benchmarks.trained import add_options, trained_model, wanted_data
from tvm_prune.cli.screen import Screen
from tvm_prune.compress.recipe import Recipe
from tvm_prune.errors import ModelError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.jobs.apply import load_pruned
from tvm_prune.jobs.cprune import CPruneJob, cprune
from tvm_prune.jobs.number_formats import QuantizeSettings, rounding_training
from tvm_prune.jobs.quantize import quantize
from tvm_prune.jobs.tune import compressed
from tvm_prune.models.evaluate import evaluate
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.cost import Failure
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tune_settings import TuneSettings
from tvm_prune.search.budget import Budget
from tvm_prune.search.settings import changed, parse_assignments, preset

COLUMNS = {
    "model": "",
    "network": "",
    "threads": "",
    "latency_ms": ".4f",
    "faster": ".2f",
    "faster_low": ".2f",
    "faster_high": ".2f",
    "accuracy": ".4f",
    "drop_pp": ".2f",
    "macs": "",
    "params": "",
}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--out", type=Path, default=Path("runs/pruned-integers"))
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the search")
    parser.add_argument("--max-seconds", type=float, default=240.0, help="end the search after so many seconds")
    parser.add_argument("--prices", default="float32", choices=("float32", "int8"), help="what the search goes by")
    parser.add_argument("--train-epochs", type=int, default=0, help="passes over the training split with rounding")
    parser.add_argument("--recipe", type=Path, metavar="FILE", help="of a network pruned before")
    parser.add_argument("--pruned-weights", type=Path, metavar="FILE", help="its weights")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    settings = changed(preset(arguments.preset), parse_assignments(arguments.set))
    data = wanted_data(parser, arguments)
    model = trained_model(arguments, data)
    dense = compressed(model)
    target, out = Target.local(threads=arguments.threads), arguments.out
    tuning = TuneSettings(trials_per_task=settings.trials_per_task)
    rows: list[dict[str, Any]] = []
    with Screen() as screen, CompilerOracle(target, records_folder=out / "records", tuning=tuning) as oracle:
        recipe, weights = arguments.recipe, arguments.pruned_weights
        if recipe is None:
            job = CPruneJob(
                settings=settings,
                uniform=None,
                budget=Budget(seconds=arguments.max_seconds),
                scheme=None if arguments.prices == "float32" else arguments.prices,
            )
            folder = cprune(model, data, oracle, out=out / "cprune", job=job, watcher=screen).folder
            recipe, weights = folder.recipe, folder.weights
        pruned = load_pruned(model, recipe, weights=weights)
        training = rounding_training(arguments.train_epochs) if arguments.train_epochs else None
        made: dict[str, CompressedModel] = {"dense": dense, "pruned": pruned}
        accuracy = {name: evaluate(network.module, data.test, data) for name, network in made.items()}
        for name, start, steps in (("dense", dense, None), ("pruned", pruned, Recipe.load(recipe))):
            folder = out / f"{name}-int8"
            found = quantize(
                model if steps is None else start,
                data,
                oracle,
                out=folder,
                settings=QuantizeSettings(training=training),
                name=model.name,
                recipe=steps,
                watcher=screen,
            )
            key = f"{name}, int8"
            accuracy[key] = found.compiled
            made[key] = load_pruned(model, folder / "recipe.json", weights=folder / "weights.safetensors")
        for name, network in made.items():
            ratio, cost = oracle.compare(network, dense), oracle.cost(network)
            if isinstance(ratio, Failure) or isinstance(cost, Failure):
                raise ModelError(f"the network {name!r} cannot be measured: {ratio} {cost}")
            rows.append(
                {
                    "model": model.name,
                    "data": data.name,
                    "network": name,
                    "threads": arguments.threads,
                    "latency_ms": ratio.incumbent_s * 1e3,
                    "faster": ratio.median,
                    "faster_low": ratio.low,
                    "faster_high": ratio.high,
                    "accuracy": accuracy[name].fraction,
                    "drop_pp": 100 * (accuracy["dense"].fraction - accuracy[name].fraction),
                    "macs": cost.macs,
                    "params": cost.params,
                }
            )
            if arguments.json is not None:
                Document.of(rows).write(arguments.json)
    print(markdown_table(rows, COLUMNS))


if __name__ == "__main__":
    main()
