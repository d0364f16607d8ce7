"""`tvm-prune precision`: a number format for every layer, for a goal."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from tvm_prune.cli.machine import DEFAULT_RECORDS, open_oracle, warm_up
from tvm_prune.cli.options import (
    BatchOption,
    DataDirOption,
    DataOption,
    DownloadOption,
    InputShapeOption,
    JsonOption,
    ModelArgument,
    NumClassesOption,
    PrunedWeightsOption,
    RecipeOption,
    RecordsOption,
    SeedOption,
    TargetOption,
    ThreadsOption,
    TrialsOption,
    WeightsOption,
    check_pruned,
    note_random_weights,
    open_data,
    open_model,
    open_target,
)
from tvm_prune.cli.screen import Screen, show, show_json
from tvm_prune.report.sheet import Column, Sheet, column, number

__all__ = ["precision"]


def precision(
    model: ModelArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for bundle/, search.json and the rest.")],
    latency_goal: Annotated[
        float | None, typer.Option("--latency-goal", metavar="MS", help="At most so many milliseconds.")
    ] = None,
    max_drop: Annotated[
        float | None, typer.Option("--max-drop", metavar="POINTS", help="Points of validation accuracy to lose.")
    ] = None,
    size_goal: Annotated[
        int | None, typer.Option("--size-goal", metavar="BYTES", help="At most so many bytes of weights.")
    ] = None,
    formats: Annotated[
        str, typer.Option("--formats", metavar="LIST", help="What to choose from beside float32, such as int8,w4a8.")
    ] = "int8",
    search: Annotated[
        str, typer.Option("--search", help="exact (integer programming), or greedy (for a latency goal).")
    ] = "exact",
    sensitivity_images: Annotated[
        int, typer.Option("--sensitivity-images", min=1, help="Validation images to measure sensitivities on.")
    ] = 512,
    images: Annotated[int, typer.Option("--images", min=1, help="Training images to calibrate on.")] = 512,
    observer: Annotated[str, typer.Option("--observer", help="minmax, percentile, mse or entropy.")] = "mse",
    data: DataOption = "digits",
    data_dir: DataDirOption = None,
    download: DownloadOption = False,
    weights: WeightsOption = None,
    recipe: RecipeOption = None,
    pruned_weights: PrunedWeightsOption = None,
    input_shape: InputShapeOption = None,
    num_classes: NumClassesOption = None,
    batch: BatchOption = None,
    target: TargetOption = "local",
    threads: ThreadsOption = None,
    records: RecordsOption = None,
    trials_per_task: TrialsOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Choose the number format of every layer of MODEL, and compile the network so.

    The sensitivity of each layer is measured once and kept in --out: the same command with another goal starts from it.

    Example: tvm-prune precision resnet20 --weights resnet20.safetensors --max-drop 0.5 --out mixed

    Example: tvm-prune precision resnet20 --weights resnet20.safetensors --latency-goal 0.2 --out mixed

    Example: tvm-prune precision resnet20 --weights resnet20.safetensors --formats int8,w4a8 --size-goal 200000
    --out mixed
    """
    from tvm_prune.codec import decode
    from tvm_prune.compress.recipe import Recipe
    from tvm_prune.jobs.apply import load_pruned
    from tvm_prune.jobs.precision import PrecisionSettings
    from tvm_prune.jobs.precision import precision as chosen

    fields = {
        "formats": [name.strip() for name in formats.split(",") if name.strip()],
        "latency_goal_ms": latency_goal,
        "size_goal": size_goal,
        "max_drop": max_drop,
        "search": search,
        "sensitivity_images": sensitivity_images,
        "calibration_images": images,
        "observer": observer,
    }
    settings = decode(PrecisionSettings, fields).checked()
    check_pruned(recipe, pruned_weights)
    with Screen() as screen:
        warm_up()
        note_random_weights(model, screen, weights, pruned_weights)
        screen.stage(f"load {data}")
        kept = open_data(data, data_dir=data_dir, seed=seed, download=download)
        network = open_model(
            model,
            weights=weights,
            input_shape=input_shape,
            batch=batch,
            num_classes=num_classes,
            data=kept,
            seed=seed,
        )
        with open_oracle(
            open_target(target, threads),
            records=records or DEFAULT_RECORDS,
            trials_per_task=trials_per_task,
            screen=screen,
        ) as oracle:
            found = chosen(
                load_pruned(network, recipe, weights=pruned_weights) if recipe else network,
                kept,
                oracle,
                out=out,
                settings=settings,
                name=network.name,
                recipe=Recipe.load(recipe) if recipe else None,
                watcher=screen,
            )
    if json:
        show_json(found)
        return
    table, made = found.table, found.quantized
    harms = {(each.layer, each.format): each.kl for each in found.sensitivities}
    columns = (Column(name="layer"), Column(name="format"), column("float32 adds us"), column("harm, nats"))
    rows = tuple(
        (
            layer,
            name,
            number(1e6 * table.added_s[layer], 2) if layer in table.added_s else "",
            f"{harms.get((layer, name), 0.0):.2g}",
        )
        for layer, name in found.formats.items()
    )
    counts = ", ".join(f"{count} layers {name}" for name, count in Counter(found.formats.values()).most_common())
    ratio = made.faster
    notes = (
        f"{counts}. By the table {1e3 * found.expected_s:.4g} ms (integers {1e3 * table.integers_s:.4g}, float32 "
        f"{1e3 * table.floats_s:.4g}).",
        f"Measured: {made.quantized_ms:.4g} ms against {made.fp32_ms:.4g} in float32, {ratio.median:.2f} times as fast "
        f"({ratio.median_low:.2f} to {ratio.median_high:.2f}).",
        f"Validation: {found.validation}, float32 {found.float_validation}.",
        f"Test, compiled: {made.compiled}, float32 {made.fp32}; {made.agreement:.2%} answered as torch does.",
        f"Written: {made.bundle} ({made.shipped}), {out}/search.json, sensitivity.png, recipe.json, "
        "weights.safetensors.",
    )
    show([Sheet(title=f"Number formats of {model}", columns=columns, rows=rows, notes=notes)])
