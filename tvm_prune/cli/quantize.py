"""`tvm-prune quantize`: a network in few bits."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from tvm_prune.errors import ConfigError
from tvm_prune.report.sheet import Column, Sheet, column, number

if TYPE_CHECKING:
    from tvm_prune.jobs.number_formats import QuantizeSettings
    from tvm_prune.jobs.quantize import Quantized
    from tvm_prune.models.evaluate import Score

__all__ = ["quantize", "sheet_of"]


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
        str,
        typer.Option(
            "--scheme",
            metavar="FORMAT",
            help="int8; mixed: layers that are faster in float32 stay there; w4a8: bits of weights and activations; "
            "w4: weights only; fixed8.4: fixed point.",
        ),
    ] = "int8",
    images: Annotated[int, typer.Option("--images", min=1, help="Training images to calibrate on.")] = 512,
    observer: Annotated[str, typer.Option("--observer", help="minmax, percentile, mse or entropy.")] = "mse",
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", metavar="LAYER=FORMAT", help="The format of one layer; repeat.", show_default=False),
    ] = None,
    keep_float: Annotated[
        list[str] | None,
        typer.Option(
            "--keep-float", metavar="LAYER", help="Short for --layer LAYER=float32; repeat.", show_default=False
        ),
    ] = None,
    refine: Annotated[
        str,
        typer.Option(
            "--refine",
            metavar="NAMES",
            help="Round better without training: equalise, adaround, bias, or several of them with commas.",
            show_default=False,
        ),
    ] = "",
    train_epochs: Annotated[
        int, typer.Option("--train-epochs", min=0, help="Passes over the training split with rounding.")
    ] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting of that training; repeat for more."),
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
    """Quantize MODEL, compile it into a bundle, and compare both with float32.

    Where the quantized network is slower on the target, the bundle is of the float network. With --recipe float32 is
    the pruned network too.

    Example: tvm-prune quantize resnet20 --weights resnet20.safetensors --data digits --out int8

    Example: tvm-prune quantize resnet20 --weights resnet20.safetensors --scheme w4a8 --train-epochs 2 --out w4a8
    """
    from tvm_prune.compress.recipe import Recipe
    from tvm_prune.jobs.apply import load_pruned
    from tvm_prune.jobs.quantize import quantize as quantized
    from tvm_prune.jobs.tune import compressed

    layers = [*(layer or ()), *(f"{name}=float32" for name in keep_float or ())]
    settings = _settings(scheme, layers, observer, images, refine, train_epochs, set_, seed)
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
                settings=settings,
                name=network.name,
                recipe=Recipe.load(recipe) if recipe else None,
                watcher=screen,
            )
    if json:
        show_json(found)
        return
    show([sheet_of(found, title=f"{model} as {scheme}, calibrated on {images} images", scheme=scheme, out=out)])


def sheet_of(found: "Quantized", *, title: str, scheme: str, out: Path) -> Sheet:
    """Return what a network that was brought to `scheme` in the folder `out` has gained and lost."""
    columns = (Column(name=""), column("latency ms"), column("correct"), column("accuracy"), column("bytes"))
    rows = (
        ("float32, compiled", number(found.fp32_ms, 4), *_score(found.fp32), f"{found.fp32_bytes:,}"),
        (f"{scheme}, rounded in torch", "", *_score(found.rounded), ""),
        (f"{scheme}, compiled", number(found.quantized_ms, 4), *_score(found.compiled), f"{found.quantized_bytes:,}"),
    )
    ratio = found.faster
    notes = (
        f"{ratio.median:.2f} times as fast ({ratio.median_low:.2f} to {ratio.median_high:.2f}), "
        f"{_formats(found.precision)}, in float32: {', '.join(found.float_layers) or 'none'}.",
        f"The compiled module and torch answer alike on {found.agreement:.2%} of {found.compiled.total} test images.",
        f"Written: {found.bundle} ({found.shipped}), {out}/recipe.json, weights.safetensors, packed.safetensors, "
        "report.json.",
    )
    return Sheet(title=title, columns=columns, rows=rows, notes=notes)


def _settings(
    scheme: str,
    layers: list[str],
    observer: str,
    images: int,
    refine: str,
    epochs: int,
    changes: list[str] | None,
    seed: int,
) -> "QuantizeSettings":
    """Return the typed settings. Raises ConfigError or QuantizationError for what is no format, layer or setting."""
    from tvm_prune.codec import decode
    from tvm_prune.graph.scheme import Scheme
    from tvm_prune.jobs.number_formats import MIXED, QuantizeSettings, rounding_training
    from tvm_prune.search.settings import parse_assignments

    chosen = parse_assignments(layers)
    for name in (*chosen.values(), *([] if scheme == MIXED else [scheme])):
        Scheme.parse(str(name))
    if changes and not epochs:
        raise ConfigError("--set changes the training with rounding: add --train-epochs N")
    training = rounding_training(epochs, seed=seed, changes=parse_assignments(changes or [])) if epochs else None
    fields = {
        "scheme": scheme,
        "layers": chosen,
        "observer": observer,
        "images": images,
        "refine": [name.strip() for name in refine.split(",") if name.strip()],
        "training": training,
    }
    return decode(QuantizeSettings, fields)


def _score(score: "Score") -> tuple[str, str]:
    return str(score.correct), f"{score.fraction:.2%}"


def _formats(precision: dict[str, str]) -> str:
    return ", ".join(f"{count} layers in {name}" for name, count in Counter(precision.values()).most_common()) or "none"
