"""`tvm-prune cprune` and `tvm-prune report`."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tvm_prune.cli.machine import open_oracle, warm_up
from tvm_prune.cli.options import (
    BatchOption,
    DataDirOption,
    DataOption,
    DownloadOption,
    IgnoreOption,
    InputShapeOption,
    JsonOption,
    ModelArgument,
    NumClassesOption,
    PresetOption,
    RecordsOption,
    SeedOption,
    SetOption,
    TargetOption,
    ThreadsOption,
    TrialsOption,
    WeightsOption,
    open_data,
    open_model,
    open_target,
    search_settings,
)
from tvm_prune.cli.quantize import sheet_of
from tvm_prune.cli.screen import Screen, show, show_json
from tvm_prune.errors import ConfigError

if TYPE_CHECKING:
    from tvm_prune.jobs.folder import RunFolder
    from tvm_prune.jobs.quantize import Quantized
    from tvm_prune.models.datasets import DataSet
    from tvm_prune.models.load import Model
    from tvm_prune.oracle.compiler import CompilerOracle
    from tvm_prune.search.fidelity import FidelityQuality
    from tvm_prune.search.uniform import UniformSettings

__all__ = ["cprune", "report"]

INTERRUPTED = 130


def cprune(
    model: ModelArgument,
    out: Annotated[Path, typer.Option("--out", metavar="RUN_DIR", help="Run folder; a started run is resumed.")],
    data: DataOption = "digits",
    data_dir: DataDirOption = None,
    download: DownloadOption = False,
    inputs: Annotated[
        Path | None,
        typer.Option(
            "--inputs",
            metavar="FILE.npy",
            help="Inputs without labels, in place of --data: an answer is right where MODEL as it is gives the same.",
        ),
    ] = None,
    weights: WeightsOption = None,
    train_epochs: Annotated[
        int, typer.Option("--train-epochs", min=1, help="Epochs of training MODEL first, where --weights is not given.")
    ] = 30,
    input_shape: InputShapeOption = None,
    num_classes: NumClassesOption = None,
    batch: BatchOption = None,
    target: TargetOption = "local",
    threads: ThreadsOption = None,
    records: RecordsOption = None,
    preset: PresetOption = "cpu",
    settings: SetOption = None,
    trials_per_task: TrialsOption = None,
    scheme: Annotated[
        str | None,
        typer.Option(
            "--scheme",
            metavar="FORMAT",
            help="Search by what networks take in a number format (int8); quantize the result into RUN_DIR/FORMAT.",
            show_default=False,
        ),
    ] = None,
    ignore: IgnoreOption = None,
    uniform: Annotated[
        str,
        typer.Option("--uniform", metavar="RATIOS", help="Ratios of the uniform baseline kept, `none` leaves it out."),
    ] = "0.75,0.5,0.375,0.25",
    roundings: Annotated[
        str,
        typer.Option("--uniform-rounding", metavar="COUNTS", help="Multiples its counts are rounded up to."),
    ] = "8",
    max_seconds: Annotated[
        float | None, typer.Option("--max-seconds", min=0, help="Budget of the search in seconds.")
    ] = None,
    max_trials: Annotated[
        int | None, typer.Option("--max-trials", min=0, help="Budget of the search in candidates built.")
    ] = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Prune MODEL by what its compiled programs cost, then retrain, compile, measure and report.

    Without --weights MODEL is trained first (not with --inputs). Stopped at any time, the same command goes on;
    decisions made stay.

    Example: tvm-prune cprune resnet20 --data digits --preset demo --out runs/demo

    Example: tvm-prune cprune resnet20 --data digits --preset demo --scheme int8 --out runs/int8
    """
    from tvm_prune.jobs.cprune import CPruneJob
    from tvm_prune.jobs.cprune import cprune as pruned
    from tvm_prune.jobs.dense import dense_weights
    from tvm_prune.jobs.folder import RunFolder
    from tvm_prune.models.zoo import ZOO
    from tvm_prune.report.document import report_sheets
    from tvm_prune.search.budget import Budget

    if scheme is not None:
        _check_scheme(scheme, inputs)
    chosen = search_settings(preset, settings, trials_per_task=trials_per_task, seed=seed)
    baseline = _uniform(uniform, roundings)
    where = open_target(target, threads)
    folder = RunFolder(out)
    try:
        with Screen() as screen:
            warm_up()
            screen.stage(f"load {inputs or data}")
            images = open_data(data, data_dir=data_dir, seed=seed, download=download) if inputs is None else None
            network = open_model(
                model,
                weights=weights,
                input_shape=input_shape,
                batch=batch,
                num_classes=num_classes,
                data=images,
                seed=seed,
            )
            measure: DataSet | FidelityQuality
            if images is None:
                measure = _answers(network, inputs, trained=weights is not None or model not in ZOO)
            else:
                measure = images
                if weights is None:
                    network = dense_weights(network, images, folder, epochs=train_epochs, seed=seed, watcher=screen)
            with open_oracle(
                where, records=records or folder.records, trials_per_task=chosen.trials_per_task, screen=screen
            ) as oracle:
                job = CPruneJob(
                    settings=chosen,
                    uniform=baseline,
                    budget=Budget(seconds=max_seconds, trials=max_trials),
                    ignored_layers=tuple(ignore or ()),
                    scheme=scheme,
                )
                result = pruned(network, measure, oracle, out=out, job=job, watcher=screen)
                if scheme is not None:
                    assert images is not None
                    found = _quantized(network, images, oracle, folder=folder, scheme=scheme, screen=screen)
    except KeyboardInterrupt as error:
        print(f"\nStopped; {out} keeps every decision. To go on: {_same_command()}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from error
    if json:
        show_json(result.summary if scheme is None else {"pruned": result.summary, "quantized": found})
        return
    show(report_sheets(result.report)[:4])
    for note in result.report.notes:
        print(note)
    print(f"Everything is in {out}: report.md, summary.json, bundle/, recipe.json, weights.safetensors.")
    if scheme is not None:
        title = f"The pruned {model} in float32 and as {scheme}"
        show([sheet_of(found, title=title, scheme=scheme, out=folder.path / scheme)])


def _check_scheme(scheme: str, inputs: Path | None) -> None:
    from tvm_prune.graph.scheme import Scheme

    if not Scheme.parse(scheme).in_integers:
        raise ConfigError(
            f"--scheme {scheme} does not change what a network takes, so there is nothing to search by; prune first, "
            "then type tvm-prune quantize --recipe"
        )
    if inputs is not None:
        raise ConfigError("--scheme calibrates on a training split: give --data in place of --inputs")


def _quantized(
    network: "Model", images: "DataSet", oracle: "CompilerOracle", *, folder: "RunFolder", scheme: str, screen: Screen
) -> "Quantized":
    """Bring what was found to `scheme`, into a folder of that name."""
    from tvm_prune.compress.recipe import Recipe
    from tvm_prune.jobs.apply import load_pruned
    from tvm_prune.jobs.number_formats import QuantizeSettings
    from tvm_prune.jobs.quantize import quantize

    return quantize(
        load_pruned(network, folder.recipe, weights=folder.weights),
        images,
        oracle,
        out=folder.path / scheme,
        settings=QuantizeSettings(scheme=scheme),
        name=network.name,
        recipe=Recipe.load(folder.recipe),
        watcher=screen,
    )


def _answers(network: "Model", inputs: Path | None, *, trained: bool) -> "FidelityQuality":
    """Return the agreement with `network` as it is, on the inputs of a file."""
    from tvm_prune.models.inputs import read_inputs
    from tvm_prune.search.fidelity import FidelityQuality

    assert inputs is not None
    if not trained:
        raise ConfigError("agreement with a network that was never trained says nothing; give its --weights.")
    if len(network.example_inputs) != 1:
        raise ConfigError(
            f"--inputs is for networks of one input, this one takes {len(network.example_inputs)}; call "
            "tvm_prune.cprune with functions of your own (UserQuality)."
        )
    return FidelityQuality(network.module, read_inputs(inputs, network.example_inputs[0]))


def _uniform(ratios: str, roundings: str) -> "UniformSettings | None":
    from tvm_prune.search.uniform import UniformSettings

    if ratios == "none":
        return None
    try:
        return UniformSettings(
            ratios=tuple(float(part) for part in ratios.split(",")),
            roundings=tuple(int(part) for part in roundings.split(",")),
        )
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"cannot read --uniform {ratios!r} --uniform-rounding {roundings!r}; write lists such as 0.75,0.5 and 1,8"
        ) from error


def _same_command() -> str:
    return shlex.join(["tvm-prune", *sys.argv[1:]])


def report(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a finished run.")],
    json: JsonOption = False,
) -> None:
    """Print a run's report again and draw report.md and its plots anew.

    Example: tvm-prune report runs/demo
    """
    from tvm_prune.jobs.folder import RunFolder
    from tvm_prune.jobs.report import draw_report, load_report
    from tvm_prune.report.document import report_sheets

    folder = RunFolder(run_dir)
    found = load_report(folder)
    if json:
        show_json(found)
        return
    show(report_sheets(found))
    for note in found.notes:
        print(note)
    print(f"Written: {draw_report(found, folder)}")
