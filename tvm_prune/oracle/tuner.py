"""Tuning: enumerate the programs of every kernel without a record, build them in warm workers, measure them alone.

All libraries are built first, on every core; then the machine belongs to the measurements. That happens in waves: a
few programs of every kernel tell which of the kernels that compute the same thing may win, and only these are tried
further, as long as it helps. What was tried before is in the records and not tried again.
"""

import itertools
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tvm_prune.codec import encode
from tvm_prune.oracle.builders import Builders
from tvm_prune.oracle.canary import Canary
from tvm_prune.oracle.cost import Failure
from tvm_prune.oracle.objects import KernelObjects
from tvm_prune.oracle.records import Records
from tvm_prune.oracle.symbol import program_symbol
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tasks import Kernel, anatomy_of
from tvm_prune.oracle.worker import Worker, WorkerDied

__all__ = ["TuneProgress", "TuneSettings", "Tuner"]


@dataclass(frozen=True, kw_only=True)
class TuneSettings:
    """Programs tried for one kernel, seconds of one timed block, finalists timed again in alternating rounds.

    `trials_per_task` is the most for one kernel. The first wave tries `explore_trials` of each, every further one
    `wave_trials` of those that may still win: of kernels that compute the same thing, those within `promising` times
    the fastest (half of that margin after each wave), and of these the ones that the last wave made at least
    `least_gain` faster. A kernel whose record has fewer trials than these rules give it is tuned further: models are
    compared only at equal depth.
    """

    trials_per_task: int = 24
    explore_trials: int = 2
    wave_trials: int = 3
    promising: float = 1.25
    least_gain: float = 0.03
    block_s: float = 1e-3
    finalists: int = 3
    rounds: int = 5
    build_timeout_s: float = 120.0
    run_timeout_s: float = 30.0


@dataclass(frozen=True)
class TuneProgress:
    """How far tuning is: the stage (build or measure), kernels done and in all, trials so far, the kernel in hand."""

    stage: str
    done: int
    total: int
    trials: int
    task: str


@dataclass
class _Built:
    kernel: Kernel
    library: Path
    candidates: list[Any] = field(default_factory=list)


class Tuner:
    """Keeps the workers of one oracle and fills its records."""

    def __init__(
        self,
        target: Target,
        records: Records,
        settings: TuneSettings,
        *,
        builders: Builders,
        objects: KernelObjects,
        runner: Worker,
        canary: Canary | None = None,
        progress: Callable[[TuneProgress], None] | None = None,
    ) -> None:
        self.target = target
        self.records = records
        self.settings = settings
        self.builders = builders
        self.objects = objects
        self.runner = runner
        self.canary = canary
        self.progress = progress
        self.failures: dict[str, Failure] = {}
        self.trials = 0
        # Candidates that a space holds up to a limit, and how many were tried in this process, by kernel.
        self._offered: dict[tuple[str, int], int] = {}
        self._tried: dict[str, int] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="tvm_prune-tune-")
        self._number = itertools.count()

    def tune(self, groups: Sequence[Sequence[Kernel]]) -> None:
        """Tune the kernels of each group, which compute the same thing, that lack trials and did not fail before."""
        most = self.settings.trials_per_task
        limit = min(most, self.settings.explore_trials)
        margin = self.settings.promising - 1
        self._try([kernel for group in groups for kernel in group], limit)
        while limit < most:
            wave = [kernel for group in groups for kernel in self._promising(group, limit, margin)]
            limit = min(most, limit + self.settings.wave_trials)
            margin /= 2
            if not wave:
                break
            self._try(wave, limit)

    def _promising(self, group: Sequence[Kernel], trials: int, margin: float) -> list[Kernel]:
        """Return the kernels of a group that may win if they get more than `trials` trials."""
        series = {kernel.key: self.records.series(kernel.key)[:trials] for kernel in group}
        best_s = min((min(seconds) for seconds in series.values() if seconds), default=0.0)
        return [
            kernel
            for kernel in group
            if len(series[kernel.key]) == trials
            and min(series[kernel.key]) <= (1 + margin) * best_s
            and self._still_gains(series[kernel.key])
        ]

    def _still_gains(self, seconds: Sequence[float]) -> bool:
        """Whether the last wave made a kernel faster; `seconds` are those of its programs as they were first tried."""
        before = seconds[: -self.settings.wave_trials]
        return not before or min(seconds) <= (1 - self.settings.least_gain) * min(before)

    def _try(self, kernels: Sequence[Kernel], limit: int) -> None:
        """Bring every kernel to `limit` trials, if its space has so many."""
        wanted = {}
        for kernel in kernels:
            record = self.records.best(kernel.key)
            if kernel.key in self.failures or kernel.key in wanted:
                continue
            if record is None or self._has_more(kernel, record.trials, limit):
                wanted[kernel.key] = kernel
        if not wanted:
            return
        self.builders.start()
        self.runner.start()
        built = self._build_all(list(wanted.values()), limit)
        self._tried.update(dict.fromkeys(wanted, limit))
        for number, item in enumerate(built):
            self._report("measure", number, len(built), item.kernel)
            self._measure(item)
        self._report("measure", len(built), len(built), None)

    def close(self) -> None:
        """Delete the libraries that were built."""
        self._folder.cleanup()

    def _has_more(self, kernel: Kernel, trials: int, limit: int) -> bool:
        from tvm_prune.oracle.spaces import space_size

        if trials >= limit:
            return False
        if (kernel.key, limit) not in self._offered:
            self._offered[kernel.key, limit] = space_size(kernel.function, self.target, limit=limit)
        # A candidate that did not run is no trial: asking for it again would never end.
        return self._offered[kernel.key, limit] > max(trials, self._tried.get(kernel.key, 0))

    def _report(self, stage: str, done: int, total: int, kernel: Kernel | None) -> None:
        if self.progress is not None:
            self.progress(TuneProgress(stage, done, total, self.trials, kernel.shape if kernel else ""))

    def _build_all(self, kernels: list[Kernel], limit: int) -> list[_Built]:
        built: list[_Built] = []
        items = self.builders.each(lambda worker, kernel: self._build(worker, kernel, limit), kernels)
        for done, (kernel, item) in enumerate(zip(kernels, items, strict=True), start=1):
            self._report("build", done, len(kernels), kernel)
            if item is not None:
                built.append(item)
        return built

    def _build(self, worker: Worker, kernel: Kernel, limit: int) -> _Built | None:
        import tvm

        # A fresh name each time: the loader would answer a reused path with the old code.
        library = Path(self._folder.name) / f"task{next(self._number)}.so"
        arguments = {
            "module": tvm.ir.save_json(tvm.IRModule({"main": kernel.function})),
            "key": kernel.key,
            "target": encode(self.target),
            "limit": limit,
            "library": str(library),
            "objects": str(self.objects.folder),
            "only": None,
            # The fastest of what was tried stands for all of it, in the same turns as what is new.
            "tried": [program_symbol(kernel.key, trace) for trace in self.records.tried(kernel.key)[1:]],
        }
        timeout_s = self.settings.build_timeout_s
        try:
            return _Built(kernel, library, worker.request("build_task", arguments, timeout_s=timeout_s))
        except WorkerDied as error:
            text = str(error)
        # One candidate may have brought all down: build each alone and keep the good ones.
        try:
            count = worker.request("count_candidates", arguments, timeout_s=timeout_s)
        except WorkerDied:
            count = 0
        good = []
        for index in range(count):
            try:
                probe = {**arguments, "only": [index], "library": str(library.with_suffix(f".{index}.so"))}
                worker.request("build_task", probe, timeout_s=timeout_s / 4)
            except WorkerDied as error:
                text = str(error)
            else:
                good.append(index)
        if good:
            arguments["only"] = good
            try:
                return _Built(kernel, library, worker.request("build_task", arguments, timeout_s=timeout_s))
            except WorkerDied as error:
                text = str(error)
        self.failures[kernel.key] = Failure(stage="build", message=text)
        return None

    def _measure(self, item: _Built) -> None:
        """Time the candidates of one library; one that crashes or hangs is left out and the rest goes on."""
        remaining = [candidate["symbol"] for candidate in item.candidates]
        times: dict[str, list[float]] = {}
        message = "no candidate ran"
        buffers = [[[int(extent) for extent in param.shape], str(param.dtype)] for param in item.kernel.function.params]
        started: list[str] = []

        def note(event: Any) -> None:
            if "starting" in event:
                started.append(event["starting"])
            else:
                times[event["symbol"]] = event["times_s"]
                self.trials += 1

        while remaining:
            started.clear()
            request = {
                "library": str(item.library),
                "symbols": remaining,
                "buffers": buffers,
                "weight": None if anatomy_of(item.kernel).kind == "other" else 1,
                "block_s": self.settings.block_s,
                "finalists": self.settings.finalists,
                "rounds": self.settings.rounds,
                "canary": None if self.canary is None else self.canary.yardstick,
            }
            try:
                final = self.runner.request("time_kernels", request, timeout_s=self.settings.run_timeout_s, emit=note)
            except WorkerDied as error:
                if not started:
                    message = str(error)  # the library itself is at fault: asking again would not end
                    break
                in_flight = started[-1]
                message = f"{in_flight}: {error}"
                self.trials += in_flight not in times
                times.pop(in_flight, None)  # it ran before it crashed
                remaining = [name for name in remaining if name not in times and name != in_flight]
                continue
            times.update(final)
            break
        item.library.unlink(missing_ok=True)
        best = sorted(times, key=lambda symbol: statistics.median(times[symbol]))
        # The fastest program's object is linked into every module that runs it.
        self.objects.drop(candidate["symbol"] for candidate in item.candidates if candidate["symbol"] not in best[:1])
        if not times:
            self.failures[item.kernel.key] = Failure(stage="run", message=message)
            return
        record_of = {candidate["symbol"]: candidate["record"] for candidate in item.candidates}
        self.records.commit(item.kernel.workload_json(), [(record_of[name], times[name]) for name in best])
