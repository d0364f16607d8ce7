"""Options that several sub-commands share, and how text becomes typed values. Nothing heavy is imported before use."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tvm_prune.errors import ConfigError

if TYPE_CHECKING:
    from tvm_prune.cli.screen import Screen
    from tvm_prune.models.datasets import DataSet
    from tvm_prune.models.load import Model
    from tvm_prune.oracle.target import Target
    from tvm_prune.search.settings import CPruneSettings

__all__ = [
    "BatchOption",
    "DataDirOption",
    "DataOption",
    "DownloadOption",
    "IgnoreOption",
    "InputShapeOption",
    "JsonOption",
    "ModelArgument",
    "NumClassesOption",
    "PresetOption",
    "PrunedWeightsOption",
    "RecipeOption",
    "RecordsOption",
    "SeedOption",
    "SetOption",
    "TargetOption",
    "ThreadsOption",
    "TrialsOption",
    "WeightsOption",
    "check_pruned",
    "note_random_weights",
    "open_data",
    "open_model",
    "open_target",
    "search_settings",
]

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A network of the zoo (resnet20, vgg16, mobilenetv2 ...), package.module:function, an .onnx file, or a "
        ".pt2 archive.",
        show_default=False,
    ),
]
WeightsOption = Annotated[
    Path | None, typer.Option("--weights", metavar="FILE", help="Weights of MODEL (safetensors).", show_default=False)
]
RecipeOption = Annotated[
    Path | None, typer.Option("--recipe", metavar="FILE", help="Prune MODEL by this recipe first.")
]
PrunedWeightsOption = Annotated[
    Path | None,
    typer.Option("--pruned-weights", metavar="FILE", help="Weights of the pruned model (a run's weights.safetensors)."),
]
DataOption = Annotated[
    str, typer.Option("--data", metavar="NAME", help="digits, fashion-mnist, cifar10, cifar100 or image-folder.")
]
DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", metavar="DIR", help="Folder that holds the data set.", show_default=False)
]
DownloadOption = Annotated[bool, typer.Option("--download", help="Fetch the data set into --data-dir if missing.")]
InputShapeOption = Annotated[
    list[str] | None,
    typer.Option("--input-shape", metavar="N,C,H,W", help="Shape of one input; repeat for more.", show_default=False),
]
NumClassesOption = Annotated[
    int | None,
    typer.Option("--num-classes", min=1, help="Classes of a zoo network; the data set's own where one is given."),
]
BatchOption = Annotated[int | None, typer.Option("--batch", min=1, help="Batch size that is compiled and measured.")]
TargetOption = Annotated[
    str, typer.Option("--target", metavar="TARGET", help="`local`, or for example `llvm --cpu=znver4 --threads=2`.")
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads of the compiled module; all cores by default.")
]
RecordsOption = Annotated[
    Path | None,
    typer.Option(
        "--records",
        metavar="DIR",
        help="Tuning records, reused and extended; by default OUT/records in cprune and plan --out, else "
        "tuning_logs/local.",
        show_default=False,
    ),
]
TrialsOption = Annotated[
    int | None,
    typer.Option(
        "--trials-per-task", min=1, help="Programs measured for a task; 24, in plan and cprune as the preset says."
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything that is drawn.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
PresetOption = Annotated[
    str,
    typer.Option("--preset", metavar="NAME", help="Settings to begin with: cpu, demo or paper (docs/pruning.md)."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; repeat for more.", show_default=False),
]
IgnoreOption = Annotated[
    list[str] | None,
    typer.Option("--ignore", metavar="LAYER", help="Layer, or glob, that keeps its channels.", show_default=False),
]


def note_random_weights(model: str, screen: "Screen", *given: Path | None) -> None:
    """Say so where a network of the zoo is used as it was initialised."""
    from tvm_prune.models.zoo import ZOO

    if model in ZOO and not any(given):
        screen.note(
            f"{model} has random weights; give --weights FILE (tvm-prune train {model} --out FILE makes such a file)"
        )


def _shapes(texts: list[str] | None) -> list[tuple[int, ...]] | None:
    if not texts:
        return None
    shapes = []
    for text in texts:
        try:
            shapes.append(tuple(int(part) for part in text.replace("x", ",").split(",")))
        except ValueError as error:
            raise ConfigError(
                f"--input-shape {text!r} is no list of sizes; write it as --input-shape 1,3,32,32"
            ) from error
    return shapes


def check_pruned(recipe: Path | None, pruned_weights: Path | None) -> None:
    """Raise ConfigError for weights of a pruned model without its recipe."""
    if pruned_weights is not None and recipe is None:
        raise ConfigError("--pruned-weights need the recipe they belong to: add --recipe RUN_DIR/recipe.json")


def open_data(name: str, *, data_dir: Path | None, seed: int, download: bool = False) -> "DataSet":
    """Return the data set with its splits drawn from `seed`."""
    from tvm_prune.models.datasets import load_data

    return load_data(name, data_dir=data_dir, seed=seed, download=download)


def open_model(
    ref: str,
    *,
    weights: Path | None,
    input_shape: list[str] | None,
    batch: int | None,
    num_classes: int | None,
    data: "DataSet | None" = None,
    seed: int = 0,
) -> "Model":
    """Return the model; classes and input shape of a zoo network follow the data set unless they are given."""
    from tvm_prune.models.load import load_model
    from tvm_prune.models.zoo import ZOO

    shapes = _shapes(input_shape)
    if shapes is None and data is not None and ref in ZOO:
        shapes = [(1, *data.input_shape)]
    if num_classes is None:
        num_classes = data.num_classes if data is not None else 10
    return load_model(ref, weights=weights, num_classes=num_classes, input_shapes=shapes, batch=batch, seed=seed)


def open_target(text: str, threads: int | None) -> "Target":
    """Return the target; `threads` overrides what the text says."""
    from tvm_prune.oracle.target import Target

    return Target.parse(text, threads=threads)


def search_settings(
    preset: str, assignments: list[str] | None, *, trials_per_task: int | None, seed: int
) -> "CPruneSettings":
    """Return the preset with the changes of the command line; an explicit ``--set`` wins over the options beside it."""
    from tvm_prune.search.settings import changed, parse_assignments
    from tvm_prune.search.settings import preset as named

    changes: dict[str, object] = {"seed": seed}
    if trials_per_task is not None:
        changes["trials_per_task"] = trials_per_task
    changes |= parse_assignments(assignments or [])
    return changed(named(preset), changes)
