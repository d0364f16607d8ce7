"""`tvm-prune doctor`, `plan` and `tune`: look before anything is trained."""

from pathlib import Path
from typing import Annotated

import typer

from tvm_prune.cli.machine import DEFAULT_RECORDS, open_oracle, warm_up
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
    note_random_weights,
    open_data,
    open_model,
    open_target,
    search_settings,
)
from tvm_prune.cli.screen import Screen, show, show_json

__all__ = ["doctor", "plan", "tune"]


def doctor(
    model: ModelArgument,
    weights: WeightsOption = None,
    input_shape: InputShapeOption = None,
    num_classes: NumClassesOption = None,
    batch: BatchOption = None,
    target: TargetOption = "local",
    threads: ThreadsOption = None,
    records: RecordsOption = None,
    trials_per_task: TrialsOption = None,
    ignore: IgnoreOption = None,
    json: JsonOption = False,
) -> None:
    """Say what can be pruned, what stands in the way, which tasks there are and how long tuning takes.

    Exit code 2 if something stands in the way.

    Example: tvm-prune doctor resnet20
    """
    from tvm_prune.jobs.doctor import diagnose, diagnosis_sheets
    from tvm_prune.oracle.tune_settings import TuneSettings

    with Screen() as screen:
        screen.stage(f"load {model}")
        network = open_model(model, weights=weights, input_shape=input_shape, batch=batch, num_classes=num_classes)
        screen.stage(f"examine {model}")
        found = diagnose(
            network,
            open_target(target, threads),
            records=records or DEFAULT_RECORDS,
            trials_per_task=trials_per_task or TuneSettings().trials_per_task,
            ignored=ignore or (),
        )
    if json:
        show_json(found)
    else:
        show(diagnosis_sheets(found))
    if not found.ok:
        raise typer.Exit(2)


def tune(
    model: ModelArgument,
    weights: WeightsOption = None,
    input_shape: InputShapeOption = None,
    num_classes: NumClassesOption = None,
    batch: BatchOption = None,
    target: TargetOption = "local",
    threads: ThreadsOption = None,
    records: RecordsOption = None,
    trials_per_task: TrialsOption = None,
    json: JsonOption = False,
) -> None:
    """Tune every task that has no record and print the program table.

    Example: tvm-prune tune resnet20 --threads 2
    """
    from tvm_prune.jobs.tune import tune as tuned
    from tvm_prune.report.programs import program_sheet, program_view

    with Screen() as screen:
        warm_up()
        screen.stage(f"load {model}")
        network = open_model(model, weights=weights, input_shape=input_shape, batch=batch, num_classes=num_classes)
        where = records or DEFAULT_RECORDS
        with open_oracle(
            open_target(target, threads), records=where, trials_per_task=trials_per_task, screen=screen
        ) as oracle:
            screen.stage(f"tune {model}")
            view = program_view(tuned(network, oracle))
    if json:
        show_json(view)
    else:
        show([program_sheet(view, title=f"Tasks and programs of {model}")])


def plan(
    model: ModelArgument,
    data: DataOption = "digits",
    data_dir: DataDirOption = None,
    download: DownloadOption = False,
    weights: WeightsOption = None,
    input_shape: InputShapeOption = None,
    num_classes: NumClassesOption = None,
    batch: BatchOption = None,
    target: TargetOption = "local",
    threads: ThreadsOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="RUN_DIR", help="Run folder whose records are used.")
    ] = None,
    records: RecordsOption = None,
    preset: PresetOption = "cpu",
    settings: SetOption = None,
    trials_per_task: TrialsOption = None,
    ignore: IgnoreOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Show tasks, groups, and the least and greatest latency within reach, before anything is trained.

    Example: tvm-prune plan resnet20 --weights resnet20.safetensors --data digits --set speedup_goal=2.5
    """
    from tvm_prune.jobs.planned import make_plan, plan_sheets
    from tvm_prune.jobs.prune_run import CPruneJob

    chosen = search_settings(preset, settings, trials_per_task=trials_per_task, seed=seed)
    where = open_target(target, threads)
    with Screen() as screen:
        warm_up()
        note_random_weights(model, screen, weights)
        screen.stage(f"load {data}")
        images = open_data(data, data_dir=data_dir, seed=seed, download=download)
        network = open_model(
            model,
            weights=weights,
            input_shape=input_shape,
            batch=batch,
            num_classes=num_classes,
            data=images,
            seed=seed,
        )
        kept = records or (out / "records" if out else DEFAULT_RECORDS)
        with open_oracle(where, records=kept, trials_per_task=chosen.trials_per_task, screen=screen) as oracle:
            screen.stage(f"plan {model}")
            job = CPruneJob(settings=chosen, ignored_layers=tuple(ignore or ()), target=str(where))
            found = make_plan(network, images, oracle, job=job)
    if json:
        show_json(found)
    else:
        show(plan_sheets(found))
