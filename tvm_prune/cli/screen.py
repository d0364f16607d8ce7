"""What the command line shows: progress and messages on stderr, results on stdout."""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tvm_prune.codec import encode
from tvm_prune.report.sheet import Sheet
from tvm_prune.report.terminal import to_rich

__all__ = ["Screen", "configure_logging", "show", "show_json"]

PLAIN_INTERVAL_S = 10.0


class Screen:
    """A `Watcher` that draws one live line: stage, progress, what is being worked on, elapsed and remaining time.

    Where stderr is no terminal (a log file, a continuous integration run) it prints a plain line per stage and one
    every ten seconds. Use as a context manager.
    """

    def __init__(self, *, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console or Console(stderr=True)
        self._clock = clock
        self._stage = ""
        self._total: int | None = None
        self._printed = clock()
        self._live = self.console.is_terminal
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}", style="dim"),
            console=self.console,
            transient=True,
            disable=not self._live,
        )
        self._task = self._progress.add_task("start", total=None, detail="")

    def __enter__(self) -> "Screen":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def stage(self, text: str, *, total: int | None = None) -> None:
        """Begin a stage: its own clock and bar."""
        if text == self._stage and total == self._total:
            return
        self._stage, self._total = text, total
        self._progress.reset(self._task, total=total, description=escape(text), detail="")
        if not self._live:
            self._plain(text)

    def advance(self, done: int, *, total: int | None = None, detail: str = "") -> None:
        """Move the bar to `done`."""
        if total is not None and total != self._total:
            self._total = total
            self._progress.update(self._task, total=total)
        self._progress.update(self._task, completed=done, detail=escape(detail))
        if not self._live and self._clock() - self._printed >= PLAIN_INTERVAL_S:
            count = f"{done}/{self._total}" if self._total else f"{done}"
            self._plain(f"{self._stage}: {count} {detail}".rstrip())

    def note(self, text: str) -> None:
        """Print a line that stays."""
        self._plain(text)

    def _plain(self, text: str) -> None:
        self._printed = self._clock()
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def show(sheets: Iterable[Sheet]) -> None:
    """Print sheets on stdout; where that is no terminal, wide enough that no cell is folded."""
    console = Console() if sys.stdout.isatty() else Console(width=240)
    for sheet in sheets:
        console.print(to_rich(sheet))


def show_json(value: Any) -> None:
    """Print a value (dataclasses, containers of them) as JSON on stdout."""
    print(json.dumps(encode(value), indent=2))


def configure_logging(*, verbose: bool) -> None:
    """Send warnings, with `verbose` everything of this package, to stderr."""
    handler = RichHandler(console=Console(stderr=True), show_path=False, show_time=verbose)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler], force=True)
    logging.getLogger("tvm_prune").setLevel(logging.DEBUG if verbose else logging.WARNING)
