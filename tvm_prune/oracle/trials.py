"""Trials: the programs of kernels built in warm workers, checked against each other, measured alone and recorded.

Everything of one call is built first, on every core; then the machine belongs to the measurements. What computes the
same task is linked to one library and takes turns: a machine that changes its speed within seconds would else decide
which of two kernels is the faster one.
"""

import itertools
import logging
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm_prune.codec import encode
from tvm_prune.errors import ToolchainError
from tvm_prune.oracle.builders import Builders
from tvm_prune.oracle.canary import Canary
from tvm_prune.oracle.cost import Failure
from tvm_prune.oracle.objects import KernelObjects, KernelSource
from tvm_prune.oracle.records import FAILED_S, Record, Records
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tasks import Kernel, anatomy_of
from tvm_prune.oracle.tune_settings import TuneProgress, TuneSettings
from tvm_prune.oracle.worker import Worker, WorkerDied

__all__ = ["Order", "Trials"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """Programs of one kernel to try: the first `count` of `names` that can be scheduled."""

    kernel: Kernel
    names: tuple[str, ...]
    count: int


@dataclass(frozen=True)
class _Built:
    """A program that was compiled: what a build worker calls it, whether it uses all threads, its record."""

    kernel: Kernel
    symbol: str
    parallel: bool
    record: Any


@dataclass(frozen=True)
class _Casualties:
    """Programs that crashed or hung, by symbol, and what the last of them said."""

    symbols: list[str]
    message: str


def _buffers(kernel: Kernel) -> list[Any]:
    return [[[int(extent) for extent in param.shape], str(param.dtype)] for param in kernel.function.params]


def _weight(kernel: Kernel) -> int | None:
    return 1 if anatomy_of(kernel).channels else None


class Trials:
    """The workers of one oracle as tuning uses them. `failures` are kernels of which no program works, by key."""

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
        self.settings = settings
        self.failures: dict[str, Failure] = {}
        self.count = 0
        self.progress = progress
        self._target = target
        self._records = records
        self._builders = builders
        self._objects = objects
        self._runner = runner
        self._canary = canary
        # Names of programs that cannot be scheduled or compiled, by kernel: no record can be made of them.
        self._refused: dict[str, set[str]] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="tvm_prune-tune-")
        self._number = itertools.count()

    def close(self) -> None:
        """Delete the libraries that were built."""
        self._folder.cleanup()

    def failed(self, key: str) -> frozenset[str]:
        """Return the names of the programs of the kernel `key` that do not work."""
        return self._records.failed(key) | self._refused.get(key, frozenset())

    def run(self, batches: Sequence[Sequence[Order]]) -> None:
        """Try what is ordered; the programs of a batch and the fastest known ones of its kernels are timed in turns."""
        orders = [order for batch in batches for order in batch]
        if not orders:
            return
        self._builders.start()
        self._runner.start()
        built: dict[str, list[_Built]] = {}
        for done, (order, found) in enumerate(zip(orders, self._builders.each(self._build, orders), strict=True), 1):
            self._report("build", done, len(orders), order.kernel)
            built[order.kernel.key] = found
        together = [[item for order in batch for item in built[order.kernel.key]] for batch in batches]
        together = [batch for batch in together if batch]
        for number, (batch, library) in enumerate(zip(together, self._linked(together), strict=True)):
            self._report("measure", number, len(together), batch[0].kernel)
            self._measure(batch, library)
            library.unlink()
        self._report("measure", len(together), len(together), None)

    def compare(
        self, contests: Sequence[Sequence[tuple[Kernel, Record]]], *, rounds: int | None = None
    ) -> list[list[list[float]]]:
        """Time the programs of a contest beside each other; these times go on record in place of those before.

        Returns for each program of each contest its seconds round by round, none for one that did not run. `rounds` are
        those of the settings unless given.

        Programs are tried one after another, on a machine that may change its speed in between: which of two that are
        nearly as fast is the faster one only shows here.
        """
        entries = [
            [(KernelSource(kernel, record, "plain", results=1, stamp_words=0), record) for kernel, record in contest]
            for contest in contests
        ]
        batches = [
            [
                _Built(source.kernel, source.symbol, record.program.parallel > 1, record.record_json)
                for source, record in entry
            ]
            for entry in entries
        ]
        answers: list[list[list[float]]] = [[[] for _ in batch] for batch in batches]
        if not batches:
            return answers
        self._builders.start()
        self._runner.start()
        try:
            self._objects.provide([source for entry in entries for source, _ in entry])
        except WorkerDied as error:
            _log.warning("kernels that are nearly as fast as each other were not timed together: %s", error)
            return answers
        every = {item.symbol: item for batch in batches for item in batch}
        (library,) = self._linked([list(every.values())])
        for number, batch in enumerate(batches):
            self._report("compare", number, len(batches), batch[0].kernel)
            times: dict[str, list[float]] = {}
            self._timed(library, batch, times, finalists=len(batch), rounds=rounds or self.settings.contest_rounds)
            answers[number] = [times.get(item.symbol, []) for item in batch]
            for item in batch:
                if item.symbol in times:
                    result = (item.record, times[item.symbol])
                    self._records.commit(item.kernel.key, item.kernel.workload_json, [result])
        library.unlink()
        self._report("compare", len(batches), len(batches), None)
        return answers

    def _linked(self, batches: Sequence[Sequence[_Built]]) -> list[Path]:
        """Link each batch to a library of its own. Raises ToolchainError."""
        try:
            return list(self._builders.each(self._link, [[item.symbol for item in batch] for batch in batches]))
        except WorkerDied as error:
            raise ToolchainError(f"compiled programs cannot be linked ({error}); tvm-prune doctor says more") from error

    def _link(self, worker: Worker, symbols: Sequence[str]) -> Path:
        # A fresh name each time: the loader would answer a reused path with the old code.
        library = Path(self._folder.name) / f"programs{next(self._number)}.so"
        request = {"library": str(library), "objects": self._objects.linked(symbols)}
        worker.request("link", request, timeout_s=self.settings.build_timeout_s)
        return library

    def _report(self, stage: str, done: int, total: int, kernel: Kernel | None) -> None:
        if self.progress is not None:
            self.progress(TuneProgress(stage, done, total, self.count, kernel.shape if kernel else ""))

    # --- building -----------------------------------------------------------------------------------------------------

    def _request(self, kernel: Kernel, names: Sequence[str], count: int) -> dict[str, Any]:
        import tvm

        return {
            "module": tvm.ir.save_json(tvm.IRModule({"main": kernel.function})),
            "key": kernel.key,
            "target": encode(self._target),
            "names": list(names),
            "count": count,
            "objects": str(self._objects.folder),
        }

    def _build(self, worker: Worker, order: Order) -> list[_Built]:
        kernel, best = order.kernel, self._records.best(order.kernel.key)
        # The fastest of what was tried stands for all of it, in the same turns as what is new.
        names = order.names if best is None else (best.program.name, *order.names)
        count = order.count + (best is not None)
        timeout_s = self.settings.build_timeout_s
        text = "no program of this kernel can be scheduled"
        try:
            built = self._answered(worker, kernel, names, count, timeout_s=timeout_s)
        except WorkerDied as error:
            text = str(error)
            # One program may have brought all down: each is built alone, and the good ones stay.
            built = []
            for name in names[:count]:
                try:
                    built += self._answered(worker, kernel, [name], 1, timeout_s=timeout_s / 4)
                except WorkerDied as error:
                    text = str(error)
                    self._refused.setdefault(kernel.key, set()).add(name)
        if not built:
            self._fail(kernel, "build", text)
        return built

    def _answered(
        self, worker: Worker, kernel: Kernel, names: Sequence[str], count: int, *, timeout_s: float
    ) -> list[_Built]:
        """Return what a worker built; what cannot be scheduled is not asked for again. Raises WorkerDied."""
        answer = worker.request("build_task", self._request(kernel, names, count), timeout_s=timeout_s)
        self._refused.setdefault(kernel.key, set()).update(answer["refused"])
        return [_Built(kernel, item["symbol"], item["parallel"], item["record"]) for item in answer["built"]]

    def _fail(self, kernel: Kernel, stage: Any, message: str) -> None:
        if self._records.best(kernel.key) is None:
            self.failures[kernel.key] = Failure(stage=stage, message=message)

    # --- measuring ----------------------------------------------------------------------------------------------------

    def _measure(self, batch: Sequence[_Built], library: Path) -> None:
        """Time the programs of one library; one that crashes, hangs or computes other numbers is put down as failed."""
        times: dict[str, list[float]] = {}
        settings = self.settings
        casualties = self._timed(
            library,
            batch,
            times,
            finalists=settings.finalists,
            rounds=settings.rounds,
        )
        self.count += len(times) + sum(symbol not in times for symbol in casualties.symbols)
        for kernel in {item.kernel.key: item.kernel for item in batch}.values():
            items = [item for item in batch if item.kernel.key == kernel.key]
            self._put_down(kernel, items, library, times, casualties)

    def _put_down(
        self,
        kernel: Kernel,
        items: Sequence[_Built],
        library: Path,
        times: Mapping[str, list[float]],
        casualties: _Casualties,
    ) -> None:
        """Record how the programs of one kernel did."""
        settings = self.settings
        record_of = {item.symbol: item.record for item in items}
        timed = [symbol for symbol in record_of if symbol in times]
        failed = [symbol for symbol in record_of if symbol in casualties.symbols]
        wrong = self._wrong(kernel, library, timed)
        best = sorted(set(timed).difference(wrong), key=lambda symbol: statistics.median(times[symbol]))
        # The fastest programs' objects are linked for a contest, and into every module that runs one.
        self._objects.drop(symbol for symbol in record_of if symbol not in best[: settings.contest_programs])
        results = [(record_of[symbol], times[symbol]) for symbol in best]
        results += [(record_of[symbol], [FAILED_S]) for symbol in (*failed, *wrong)]
        if results:
            self._records.commit(kernel.key, kernel.workload_json, results)
        if not best:
            text = "computes other numbers than the kernel it stands for" if wrong else casualties.message
            self._fail(kernel, "run", text)

    def _timed(
        self,
        library: Path,
        programs: Sequence[_Built],
        times: dict[str, list[float]],
        *,
        finalists: int,
        rounds: int,
    ) -> _Casualties:
        """Fill `times` of the programs in `library`, by symbol; return those that crashed or hung."""
        remaining = list(programs)
        failed: list[str] = []
        message = "no program ran"
        started: list[str] = []

        def note(event: Any) -> None:
            if "starting" in event:
                started.append(event["starting"])
            else:
                times[event["symbol"]] = event["times_s"]

        while remaining:
            started.clear()
            request = {
                "library": str(library),
                "kernels": [
                    {
                        "symbol": item.symbol,
                        "buffers": _buffers(item.kernel),
                        "weight": _weight(item.kernel),
                        "parallel": item.parallel,
                    }
                    for item in remaining
                ],
                "block_s": self.settings.block_s,
                "finalists": finalists,
                "rounds": rounds,
                "canary": None if self._canary is None else self._canary.yardstick,
            }
            try:
                times.update(
                    self._runner.request("time_kernels", request, timeout_s=self.settings.run_timeout_s, emit=note)
                )
                break
            except WorkerDied as error:
                if not started:
                    message = str(error)  # the library itself is at fault: asking again would not end
                    break
                in_flight = started[-1]
                message = f"{in_flight}: {error}"
                times.pop(in_flight, None)  # it ran before it crashed
                failed.append(in_flight)
                remaining = [item for item in remaining if item.symbol not in (*times, in_flight)]
        return _Casualties(failed, message)

    def _wrong(self, kernel: Kernel, library: Path, symbols: Sequence[str]) -> list[str]:
        """Return those of `symbols` that compute something else than the kernel.

        Programs are scheduled in different ways, so where all agree none is wrong. Where they do not, and for a single
        one, the kernel's default schedule tells.
        """
        if not symbols:
            return []
        request = {"library": str(library), "symbols": list(symbols), "buffers": _buffers(kernel), "reference": None}
        timeout_s = self.settings.run_timeout_s
        try:
            if len(symbols) > 1 and not self._runner.request("disagreeing", request, timeout_s=timeout_s):
                return []
            (reference,) = self._builders.each(self._reference, [kernel])
            try:
                request["reference"] = str(reference)
                return list(self._runner.request("disagreeing", request, timeout_s=timeout_s))
            finally:
                reference.unlink()
        except WorkerDied:
            return list(symbols)  # what cannot be checked is not trusted

    def _reference(self, worker: Worker, kernel: Kernel) -> Path:
        """Build the kernel's default schedule as ``reference``; return the library. Raises WorkerDied."""
        library = Path(self._folder.name) / f"reference{next(self._number)}.so"
        request = {**self._request(kernel, (), 0), "library": str(library)}
        worker.request("build_reference", request, timeout_s=self.settings.build_timeout_s)
        return library
