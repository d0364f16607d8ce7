"""`tvm-prune train` and `tvm-prune evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

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
    SeedOption,
    SetOption,
    WeightsOption,
    check_pruned,
    note_random_weights,
    open_data,
    open_model,
)
from tvm_prune.cli.screen import Screen, show, show_json
from tvm_prune.report.sheet import Column, Sheet, column

__all__ = ["evaluate", "train"]


def train(
    model: ModelArgument,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the weights go (safetensors).")],
    data: DataOption = "digits",
    data_dir: DataDirOption = None,
    download: DownloadOption = False,
    weights: WeightsOption = None,
    recipe: RecipeOption = None,
    pruned_weights: PrunedWeightsOption = None,
    input_shape: InputShapeOption = None,
    num_classes: NumClassesOption = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over the training split.")] = 30,
    settings: SetOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Train a network and write its weights. A killed training goes on with the same command.

    Every field of TrainSettings can be set, for example --set lr=0.05 --set precision=bf16. With --recipe the pruned
    network is trained, for longer than a run has retrained it, and with --set distill_weight=0.9 it learns from MODEL
    with --weights, the network before pruning.

    Example: tvm-prune train resnet20 --data cifar10 --data-dir ~/data --epochs 30 --out resnet20_cifar10.safetensors

    Example: tvm-prune train resnet20 --weights resnet20_cifar10.safetensors --recipe runs/fast/recipe.json
    --pruned-weights runs/fast/weights.safetensors --data cifar10 --data-dir ~/data --epochs 100
    --set distill_weight=0.9 --out fast.safetensors
    """
    from tvm_prune.jobs.train import pruned_start, train_to_file, training
    from tvm_prune.search.settings import parse_assignments

    check_pruned(recipe, pruned_weights)
    teacher = None
    how = training(data, epochs=epochs, seed=seed, changes=parse_assignments(settings or []))
    with Screen() as screen:
        screen.stage(f"load {data}")
        images = open_data(data, data_dir=data_dir, seed=seed, download=download)
        network = open_model(
            model,
            weights=weights,
            input_shape=input_shape,
            batch=None,
            num_classes=num_classes,
            data=images,
            seed=seed,
        )
        if recipe is not None:
            teacher = network
            if how.distill_weight:
                note_random_weights(model, screen, weights)
            network = pruned_start(network, recipe, weights=pruned_weights)
        trained = train_to_file(network, images, how, out=out, teacher=teacher, watcher=screen)
    if json:
        show_json(trained)
        return
    rows = (
        ("validation", str(trained.val.correct), str(trained.val.total), f"{trained.val.fraction:.2%}"),
        ("test", str(trained.test.correct), str(trained.test.total), f"{trained.test.fraction:.2%}"),
    )
    note = f"{trained.path}: {trained.steps} optimizer steps in {trained.seconds:.0f} s."
    show([_scores(f"{model} on {data}", rows, note)])


def evaluate(
    model: ModelArgument,
    data: DataOption = "digits",
    data_dir: DataDirOption = None,
    download: DownloadOption = False,
    weights: WeightsOption = None,
    recipe: Annotated[
        Path | None,
        typer.Option("--recipe", metavar="FILE", help="Recipe that pruned MODEL; WEIGHTS are the pruned ones then."),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="val or test.")] = "test",
    input_shape: InputShapeOption = None,
    num_classes: NumClassesOption = None,
    batch: BatchOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Print a network's top-1 accuracy.

    Example: tvm-prune evaluate resnet20 --recipe runs/demo/recipe.json --weights runs/demo/weights.safetensors
    """
    from tvm_prune.jobs.apply import load_pruned
    from tvm_prune.models.evaluate import evaluate as score_of

    if split not in ("val", "test"):
        raise typer.BadParameter(f"{split!r} is neither val nor test", param_hint="--split")
    with Screen() as screen:
        note_random_weights(model, screen, weights)
        screen.stage(f"load {data}")
        images = open_data(data, data_dir=data_dir, seed=seed, download=download)
        network = open_model(
            model,
            weights=None if recipe else weights,
            input_shape=input_shape,
            batch=batch,
            num_classes=num_classes,
            data=images,
            seed=seed,
        )
        module = network.module if recipe is None else load_pruned(network, recipe, weights=weights).module
        screen.stage(f"evaluate {model} on the {split} split of {data}")
        score = score_of(module, images.val if split == "val" else images.test, images)
    if json:
        show_json(score)
        return
    row = (split, str(score.correct), str(score.total), f"{score.fraction:.2%}")
    show([_scores(f"{model} on {data}", (row,), "Top-1.")])


def _scores(title: str, rows: tuple[tuple[str, ...], ...], note: str) -> Sheet:
    columns = (Column(name="split"), column("correct"), column("images"), column("accuracy"))
    return Sheet(title=title, columns=columns, rows=rows, notes=(note,))
