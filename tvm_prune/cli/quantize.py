"""`tvm-prune quantize`: a network in integers."""

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

__all__ = ["quantize"]


def quantize(
    model: ModelArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for bundle/ and report.json.")],
    data: DataOption = "digits",
    data_dir: DataDirOption = None,
    download: DownloadOption = False,
    weights: WeightsOption = None,
    recipe: RecipeOption = None,
    pruned_weights: PrunedWeightsOption = None,
    scheme: Annotated[
        str, typer.Option("--scheme", help="int8, or mixed: layers that are faster in float32 stay there.")
    ] = "int8",
    images: Annotated[int, typer.Option("--images", min=1, help="Training images to calibrate on.")] = 512,
    observer: Annotated[str, typer.Option("--observer", help="minmax, percentile or mse.")] = "mse",
    keep_float: Annotated[
        list[str] | None, typer.Option("--keep-float", metavar="LAYER", help="A layer to leave in float32; repeat.")
    ] = None,
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
    """Quantize MODEL to int8, compile it into a bundle, and compare both with float32.

    Where integers are slower on the target, the bundle is of the float network. With --recipe float32 is the pruned
    network too.

    Example: tvm-prune quantize resnet20 --weights resnet20.safetensors --data digits --out int8
    """
    from tvm_prune.codec import decode
    from tvm_prune.compress.calibrate import Observer
    from tvm_prune.jobs.apply import load_pruned
    from tvm_prune.jobs.quantize import QuantizeScheme
    from tvm_prune.jobs.quantize import quantize as quantized
    from tvm_prune.jobs.tune import compressed

    chosen_scheme: QuantizeScheme = decode(QuantizeScheme, scheme)  # type: ignore[arg-type]  # to mypy no class
    chosen_observer: Observer = decode(Observer, observer)  # type: ignore[arg-type]  # to mypy no class
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
            dense = load_pruned(network, recipe, weights=pruned_weights) if recipe else compressed(network)
            found = quantized(
                dense,
                kept,
                oracle,
                out=out,
                name=network.name,
                scheme=chosen_scheme,
                images=images,
                observer=chosen_observer,
                keep_float=frozenset(keep_float or ()),
                watcher=screen,
            )
    if json:
        show_json(found)
        return
    columns = (Column(name=""), column("latency ms"), column("correct"), column("accuracy"))
    rows = (
        ("float32, compiled", number(found.fp32_ms, 4), str(found.fp32.correct), f"{found.fp32.fraction:.2%}"),
        ("int8, rounded in torch", "", str(found.rounded.correct), f"{found.rounded.fraction:.2%}"),
        ("int8, compiled", number(found.int8_ms, 4), str(found.compiled.correct), f"{found.compiled.fraction:.2%}"),
    )
    ratio = found.faster
    notes = (
        f"{ratio.median:.2f} times as fast ({ratio.median_low:.2f} to {ratio.median_high:.2f}), "
        f"{len(found.integer_layers)} layers in integers, in float32: {', '.join(found.float_layers) or 'none'}.",
        f"The compiled module and torch answer alike on {found.agreement:.2%} of {found.compiled.total} test images.",
        f"Written: {found.bundle} ({found.shipped}), {out}/report.json.",
    )
    title = f"{model} in integers, calibrated on {found.calibration_images} images"
    show([Sheet(title=title, columns=columns, rows=rows, notes=notes)])
