"""The oracle of a command: opened with the common options, its progress shown on the screen."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tvm_prune.cli.screen import Screen
    from tvm_prune.oracle.compiler import CompilerOracle
    from tvm_prune.oracle.target import Target

__all__ = ["DEFAULT_RECORDS", "open_oracle", "warm_up"]

# Where the commands that have no run folder keep their records.
DEFAULT_RECORDS = Path("tuning_logs/local")


def warm_up() -> None:
    """Let the compiler's workers get ready while the model still loads; an oracle will be opened."""
    from tvm_prune.oracle.nursery import nursery

    nursery()


@contextmanager
def open_oracle(
    target: "Target", *, records: Path, trials_per_task: int | None, screen: "Screen"
) -> "Iterator[CompilerOracle]":
    """Start the compiler's worker processes and end them with the command."""
    from tvm_prune.oracle.compiler import CompilerOracle
    from tvm_prune.oracle.tune_settings import TuneProgress, TuneSettings

    def told(progress: TuneProgress) -> None:
        detail = f"tasks: {progress.stage} {progress.task}, {progress.trials} programs timed"
        screen.advance(progress.done, total=progress.total, detail=detail)

    tuning = TuneSettings() if trials_per_task is None else TuneSettings(trials_per_task=trials_per_task)
    screen.stage("start the compiler")
    with CompilerOracle(
        target,
        records_folder=records,
        tuning=tuning,
        progress=told,
        waiting=lambda who: screen.note(f"waiting for the machine: in use for {who}"),
    ) as oracle:
        yield oracle
