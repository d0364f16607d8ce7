"""`tvm-prune apply`, `export` and `run`: what becomes of a recipe and of a pruned model."""

from pathlib import Path
from typing import Annotated

import typer

from tvm_prune.cli.machine import DEFAULT_RECORDS, open_oracle, warm_up
from tvm_prune.cli.options import (
    BatchOption,
    InputShapeOption,
    JsonOption,
    ModelArgument,
    NumClassesOption,
    PrunedWeightsOption,
    RecipeOption,
    RecordsOption,
    TargetOption,
    ThreadsOption,
    TrialsOption,
    WeightsOption,
    check_pruned,
    note_random_weights,
    open_model,
    open_target,
)
from tvm_prune.cli.screen import Screen, show, show_json
from tvm_prune.errors import ModelError
from tvm_prune.report.sheet import Column, Sheet, column, number

__all__ = ["apply", "export", "run"]

TOP = 5


def apply(
    model: ModelArgument,
    recipe: Annotated[Path, typer.Option("--recipe", metavar="FILE", help="The recipe.json of a run.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Result: .safetensors, .pt2 or .onnx.")],
    weights: WeightsOption = None,
    pruned_weights: PrunedWeightsOption = None,
    input_shape: InputShapeOption = None,
    num_classes: NumClassesOption = None,
    batch: BatchOption = None,
    json: JsonOption = False,
) -> None:
    """Replay a recipe on MODEL and write the pruned network.

    Its weights are the kept channels of --weights, or --pruned-weights as they are.

    Example: tvm-prune apply resnet20 --recipe runs/demo/recipe.json --pruned-weights runs/demo/weights.safetensors
    --out small.onnx
    """
    from tvm_prune.graph.count import count
    from tvm_prune.jobs.apply import load_pruned
    from tvm_prune.jobs.export import write_file
    from tvm_prune.jobs.tune import compressed

    with Screen() as screen:
        note_random_weights(model, screen, weights, pruned_weights)
        screen.stage(f"load {model}")
        network = open_model(model, weights=weights, input_shape=input_shape, batch=batch, num_classes=num_classes)
        screen.stage("apply the recipe")
        made = load_pruned(network, recipe, weights=pruned_weights)
        write_file(made, out)
    before, after = (count(each.module, each.example_inputs) for each in (compressed(network), made))
    if json:
        show_json({"out": str(out), "before": before, "after": after})
        return
    rows = tuple(
        (name, number(figures.macs / 1e6, 4), number(figures.params / 1e3, 4), number(figures.bytes / 2**20))
        for name, figures in (("before", before), ("after", after))
    )
    columns = (Column(name=""), column("MMACs"), column("k parameters"), column("MiB"))
    show([Sheet(title=f"{model} by {recipe}", columns=columns, rows=rows, notes=(f"Written: {out}",))])


def export(
    model: ModelArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for bundle/, model.pt2 and model.onnx.")],
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
    json: JsonOption = False,
) -> None:
    """Compile MODEL into a bundle that runs without torch, and write it as .pt2 and ONNX.

    Example: tvm-prune export resnet20 --weights resnet20.safetensors --out shipped
    """
    from tvm_prune.jobs.apply import load_pruned
    from tvm_prune.jobs.export import export as exported
    from tvm_prune.jobs.tune import compressed

    check_pruned(recipe, pruned_weights)
    with Screen() as screen:
        warm_up()
        note_random_weights(model, screen, weights, pruned_weights)
        screen.stage(f"load {model}")
        network = open_model(model, weights=weights, input_shape=input_shape, batch=batch, num_classes=num_classes)
        made = load_pruned(network, recipe, weights=pruned_weights) if recipe else compressed(network)
        with open_oracle(
            open_target(target, threads),
            records=records or DEFAULT_RECORDS,
            trials_per_task=trials_per_task,
            screen=screen,
        ) as oracle:
            bundle = exported(made, oracle, out=out, name=network.name, watcher=screen)
    if json:
        show_json(bundle)
        return
    written = ["bundle"] if made.rounded_layers else ["bundle", "model.pt2", "model.onnx"]
    ports = [("input", port) for port in bundle.inputs] + [("output", port) for port in bundle.outputs]
    rows = tuple((kind, "x".join(map(str, port.shape)), port.dtype) for kind, port in ports)
    notes = (
        f"Largest absolute difference from torch: {bundle.parity_max_abs_err:.1e}.",
        f"Written: {', '.join(f'{out}/{name}' for name in written)}. Try: tvm-prune run {out}/bundle --input x.npy",
    )
    columns = (Column(name=""), Column(name="shape"), Column(name="dtype"))
    show([Sheet(title=f"Bundle of {model} for {bundle.target}", columns=columns, rows=rows, notes=notes)])


def run(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle folder of a run or an export.")],
    inputs: Annotated[
        list[Path], typer.Option("--input", metavar="FILE", help="One input as .npy; repeat for more, in order.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write the outputs here as output0.npy ...")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Run a compiled bundle on .npy inputs. Loads no torch.

    Example: tvm-prune run runs/demo/bundle --input x.npy
    """
    import io

    import numpy as np

    from tvm_prune.files import write_atomically
    from tvm_prune.oracle.bundle import run_bundle

    arrays = []
    for path in inputs:
        try:
            arrays.append(np.load(path, allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise ModelError(f"cannot read the input {path} ({error}); save it with numpy.save") from error
    outputs = run_bundle(bundle, arrays)
    for index, output in enumerate(outputs if out else ()):
        buffer = io.BytesIO()
        np.save(buffer, output)
        assert out is not None
        write_atomically(out / f"output{index}.npy", buffer.getvalue())
    if json:
        show_json([output.tolist() for output in outputs])
        return
    sheets = []
    for index, output in enumerate(outputs):
        flat = output.reshape(-1)
        best = np.argsort(-flat, kind="stable")[:TOP]
        shape = "x".join(map(str, output.shape))
        columns = (column("index"), column("value"))
        rows = tuple((str(int(place)), f"{float(flat[place]):.6g}") for place in best)
        sheets.append(Sheet(title=f"Output {index} ({shape}), largest values", columns=columns, rows=rows))
    show(sheets)
