"""What is left of the accuracy when channels go, before any training: by criterion, without and with a refit.

    python -m benchmarks.refit --data-dir DIR --weights resnet20_cifar10.safetensors --json FILE

Uniform pruning of one trained network; accuracy on the validation split.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.document import Document, markdown_table
from benchmarks.trained import add_options, trained_model, wanted_data
from tvm_prune.compress.uniform import kept_width
from tvm_prune.jobs.workbench import workbench_of
from tvm_prune.models.datasets import DataSet
from tvm_prune.models.load import Model
from tvm_prune.search.options import prune_to
from tvm_prune.search.settings import preset

COLUMNS = {
    "criterion": "",
    "kept": "",
    "accuracy_dense": ".4f",
    "accuracy_pruned": ".4f",
    "accuracy_refitted": ".4f",
    "score_s": ".1f",
    "refit_s": ".1f",
}


def rows_of(model: Model, data: DataSet, criterion: str, ratios: list[float], images: int) -> list[dict[str, Any]]:
    """Return one row for each part of the channels kept."""
    settings = replace(preset("cpu"), criterion=criterion, refit_images=images)
    bench = workbench_of(model, data, settings)
    dense = bench.dense()
    began = time.perf_counter()
    groups = bench.groups(dense)
    score_s = time.perf_counter() - began
    accuracy = bench.evaluate(dense).fraction
    rows = []
    for ratio in ratios:
        steps = tuple(prune_to(group, kept_width(group.width, ratio, round_to=1)) for group in groups if group.prunable)
        pruned = bench.build(dense, steps)
        began = time.perf_counter()
        refitted = bench.refit(pruned, dense, steps, seed=settings.seed)
        refit_s = time.perf_counter() - began
        rows.append(
            {
                "criterion": criterion,
                "kept": ratio,
                "accuracy_dense": accuracy,
                "accuracy_pruned": bench.evaluate(pruned).fraction,
                "refit_s": refit_s,
                "accuracy_refitted": bench.evaluate(refitted).fraction,
                "score_s": score_s,
            }
        )
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--criteria", default="l1,l2,fpgm,taylor,obs,random")
    parser.add_argument("--ratios", default="0.875,0.75,0.5", help="parts of the channels of every group to keep")
    parser.add_argument("--images", type=int, default=512, help="training images that layers are fitted on")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    data = wanted_data(parser, arguments)
    model = trained_model(arguments, data)
    ratios = [float(part) for part in arguments.ratios.split(",")]
    rows = [
        row
        for criterion in arguments.criteria.split(",")
        for row in rows_of(model, data, criterion, ratios, arguments.images)
    ]
    if arguments.json is not None:
        Document.of(rows, summary={"images": arguments.images}).write(arguments.json)
    print(markdown_table(rows, COLUMNS))


if __name__ == "__main__":
    main()
