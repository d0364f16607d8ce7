"""The oracle that compiles, tunes and measures on this machine."""

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tvm_prune.errors import ParityError, ToolchainError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.count import count
from tvm_prune.graph.fingerprint import fingerprint
from tvm_prune.graph.running import random_like
from tvm_prune.graph.stored_tensors import reference_module
from tvm_prune.lock import machine_lock
from tvm_prune.oracle.bench import Bench, BenchSettings
from tvm_prune.oracle.builders import Builders
from tvm_prune.oracle.canary import Canary
from tvm_prune.oracle.cost import Cost, Failure, Provenance, Ratio, Source
from tvm_prune.oracle.in_place import overhead_in_place, rows_in_place
from tvm_prune.oracle.loaded import BuildFailed, LoadedModules
from tvm_prune.oracle.module import STAMPED_ROUNDS, Compiled
from tvm_prune.oracle.object_cache import ObjectCache, cache_folder
from tvm_prune.oracle.objects import KernelObjects
from tvm_prune.oracle.parity import torch_outputs, worst_difference
from tvm_prune.oracle.prepare import Prepared, Preparer
from tvm_prune.oracle.pricing import Pricing
from tvm_prune.oracle.records import Record, Records
from tvm_prune.oracle.table import ProgramTable
from tvm_prune.oracle.target import Target, usable_cores
from tvm_prune.oracle.tasks import Kernel, TaskGraph
from tvm_prune.oracle.timing import median_and_spread, paired_ratio
from tvm_prune.oracle.toolchain import require_toolchain, tvm_version
from tvm_prune.oracle.trials import Trials
from tvm_prune.oracle.tune_settings import TuneProgress, TuneSettings
from tvm_prune.oracle.tuner import Group, Tuner
from tvm_prune.oracle.worker import Worker, WorkerDied

__all__ = ["CompilerOracle"]

# Readings of one comparison at most, while the median is not known well enough.
_MOST_READINGS = 4
# How wide the interval of a median may be, as a part of it, where no limit says what is well enough.
_PRECISION = 0.02


class CompilerOracle:
    """Compiles with TVM, tunes what has no record, and measures in a process of its own. Use as a context manager.

    `records_folder` holds the tuning records; `allow_untuned` lets a task without any working program run its default
    schedule (the cost says "untuned"), else that is an error. `seconds` (by stage) and `measurements` (programs and
    whole modules timed) are those of the last call.
    """

    def __init__(
        self,
        target: Target,
        *,
        records_folder: Path | str,
        tuning: TuneSettings | None = None,
        bench: BenchSettings | None = None,
        allow_untuned: bool = False,
        progress: Callable[[TuneProgress], None] | None = None,
        waiting: Callable[[str], None] | None = None,
    ) -> None:
        require_toolchain()
        self.target = target
        self.seconds: dict[str, float] = {}
        self._counted = 0
        self._waiting = waiting
        # The compiler of whole modules runs here; its own launches must not see another thread count.
        os.environ.setdefault("TVM_NUM_THREADS", str(target.threads))
        self.records = Records(Path(records_folder), target)
        self._runner = Worker("run", threads=target.threads)
        self._builders = Builders([Worker("build", threads=1) for _ in range(min(usable_cores(), 8))])
        self._folder = tempfile.TemporaryDirectory(prefix="tvm_prune-modules-")
        folder, cache = Path(self._folder.name), ObjectCache(target, cache_folder())
        self._objects = KernelObjects(target, folder / "objects", self._builders, cache)
        self._canary = Canary(target, folder / "canary.so", self.records.folder, runner=self._runner, cache=cache)
        trials = Trials(
            target,
            self.records,
            tuning or TuneSettings(),
            builders=self._builders,
            objects=self._objects,
            runner=self._runner,
            canary=self._canary,
            progress=progress,
        )
        self.tuner = Tuner(target, self.records, trials)
        self._preparer = Preparer(target, self.records, self.tuner, allow_untuned=allow_untuned, clock=self._clock)
        self._pricing = Pricing(self.records, target)
        self._bench = Bench(self._runner, bench or BenchSettings())
        self._modules = LoadedModules(
            target,
            folder,
            builders=self._builders,
            objects=self._objects,
            bench=self._bench,
            canary=self._canary,
            clock=self._clock,
        )
        self._tables: dict[str, ProgramTable] = {}
        self._builders.start()
        self._runner.start()

    def __enter__(self) -> "CompilerOracle":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes and delete what was built."""
        self._builders.stop()
        self._runner.stop()
        self.records.close()
        self.tuner.close()
        self._objects.close()
        self._folder.cleanup()

    @property
    def trials(self) -> int:
        """Programs measured so far."""
        return self.tuner.trials

    @property
    def measurements(self) -> int:
        """Programs and whole modules timed in the last call."""
        return self.tuner.trials + self._bench.measurements - self._counted

    # --- the contract -------------------------------------------------------------------------------------------------

    def estimate(self, models: Sequence[CompressedModel]) -> list[Cost | Failure]:
        """Price models by the sum of their tasks' programs; new tasks of all of them are tuned together."""
        with self._call():
            prepared = self._preparer.prepare(models)
        costs: list[Cost | Failure] = []
        for model, item in zip(models, prepared, strict=True):
            if isinstance(item, Failure):
                costs.append(item)
                continue
            latency_s = math.nan if item.source == "untuned" else item.sum_s
            costs.append(self._cost(model, latency_s, 0.0, "summed", repeats=0))
        return costs

    def predict(self, models: Sequence[CompressedModel]) -> list[Cost | Failure]:
        """Price models without tuning; where there are too few records to learn from, `estimate` them."""
        with self._call(), self._clock("predict"):
            if self._pricing.ready:
                return [self._predicted(model) for model in models]
        return self.estimate(models)

    def cost(self, model: CompressedModel) -> Cost | Failure:
        """Build and time the whole module."""
        with self._call():
            (item,) = self._preparer.prepare([model])
            if isinstance(item, Failure):
                return item
            try:
                name = self._modules.name(model, item)
                with self._clock("measure"):
                    times = self._bench.times([name])[name]
            except BuildFailed as error:
                return Failure(stage="build", message=str(error))
            except WorkerDied as error:
                return Failure(stage="run", message=str(error))
        median, spread = median_and_spread(times)
        return self._cost(model, median, spread, item.source, repeats=len(times))

    def table(self, model: CompressedModel) -> ProgramTable | Failure:
        """Return the program table: the kernels, and what lies between them, timed in place by stamps."""
        key = fingerprint(model)
        with self._call():
            if key in self._tables:
                return self._tables[key]
            (item,) = self._preparer.prepare([model])
            if isinstance(item, Failure):
                return item
            try:
                table = self._measure_table(model, item)
            except BuildFailed as error:
                return Failure(stage="build", message=str(error))
            except WorkerDied as error:
                return Failure(stage="run", message=str(error))
        self._tables[key] = table
        return table

    def compare(
        self, incumbent: CompressedModel, candidate: CompressedModel, *, limit: float | None = None
    ) -> Ratio | Failure:
        """Time both modules in alternating blocks of one process, up to four readings while `limit` is in doubt.

        Without `limit`, up to four while the interval of the median is wider than 2 %.
        """
        with self._call():
            before, after = self._preparer.prepare([incumbent, candidate])
            if isinstance(before, Failure):
                return before
            if isinstance(after, Failure):
                return after
            try:
                return self._compared(incumbent, candidate, (before, after), limit)
            except BuildFailed as error:
                return Failure(stage="build", message=str(error))
            except WorkerDied as error:
                return Failure(stage="run", message=str(error))

    # --- beyond the contract ------------------------------------------------------------------------------------------

    def tasks(self, model: CompressedModel) -> TaskGraph:
        """Return the tasks of `model` without tuning anything. Raises ModelError."""
        return self._preparer.tasks(model)

    def deepen(self, *, trials_per_task: int) -> None:
        """From now on try up to `trials_per_task` programs of every task, also of those tuned before with fewer.

        Models measured before are measured again, and a slow machine is waited for even where a rest was of no use:
        these are the figures of the report.
        """
        self._bench.settings = replace(self._bench.settings, persistent=True)
        self.tuner.settings = replace(self.tuner.settings, trials_per_task=trials_per_task)
        self._preparer.forget()
        self._tables.clear()
        self._modules.forget()

    def parity(self, model: CompressedModel, *, library: Path | None = None) -> float:
        """Return the largest absolute difference between the compiled module and torch on random inputs.

        Torch's module is `reference_module`. Raises ParityError as `worst_difference` does, and if the model cannot be
        built or run.
        """
        # Example inputs are often zeros, which hide wrong weights.
        inputs = random_like(model.example_inputs)
        with self._call():
            (item,) = self._preparer.prepare([model], with_weights=True)
            if isinstance(item, Failure):
                raise ParityError(f"the model cannot be compiled: {item.message}")
            try:
                path = library or self._modules.build(item, "plain")[0].library
            except BuildFailed as error:
                raise ParityError(f"the model cannot be compiled: {error}") from error
            name = self._bench.add(path, item.lowered.inputs, temporary=library is None)
            try:
                found = self._bench.run(name, [tensor.numpy() for tensor in inputs])
            except WorkerDied as error:
                raise ParityError(f"the compiled module does not run: {error}") from error
            finally:
                self._bench.remove(name)
        exact = torch_outputs(model.module, inputs) if model.stored else None
        return worst_difference(found, torch_outputs(reference_module(model), inputs), exact=exact)

    def export_library(self, model: CompressedModel, library: Path) -> Compiled:
        """Compile `model` with its present weights to `library`."""
        with self._call():
            (item,) = self._preparer.prepare([model], with_weights=True)
        if isinstance(item, Failure):
            raise ToolchainError(f"the model cannot be compiled: {item.message}")
        try:
            return self._modules.build(item, "plain", library=library)[0]
        except BuildFailed as error:
            raise ToolchainError(f"{error}; run 'tvm-prune doctor' to check compiler and linker") from error

    def fastest(self, groups: Sequence[Group]) -> list[tuple[Kernel, Record] | Failure]:
        """Tune kernels that belong to no model, those of a group computing the same; return the fastest of each."""
        with self._call(), self._clock("tune"):
            self.tuner.tune([groups])
        found: list[tuple[Kernel, Record] | Failure] = []
        for group in groups:
            known = [(kernel, self.records.best(kernel.key)) for kernel in group.kernels]
            working = [(kernel, record) for kernel, record in known if record is not None]
            unknown = Failure(stage="build", message="no program of it works")
            failure = self.tuner.failures.get(group.kernels[0].key, unknown)
            found.append(min(working, key=lambda item: item[1].program.latency_s, default=failure))
        return found

    def race(self, entries: Sequence[tuple[Kernel, Record]], *, rounds: int = 31) -> list[list[float]] | Failure:
        """Time programs of any kernels in turns in one process: the seconds of each, round by round."""
        with self._call(), self._clock("measure"):
            times = self.tuner.race(entries, rounds=rounds)
        if all(times):
            return times
        lame = next(kernel for (kernel, _), series in zip(entries, times, strict=True) if not series)
        return Failure(stage="run", message=f"{lame.shape or lame.key} did not run beside the others")

    # --- how ----------------------------------------------------------------------------------------------------------

    def _predicted(self, model: CompressedModel) -> Cost | Failure:
        drafts = self._preparer.drafts(model)
        if isinstance(drafts, Failure):
            return drafts
        price = min((self._pricing.price(draft.graph) for draft in drafts), key=lambda found: found.latency_s)
        return self._cost(model, price.latency_s, price.spread_s, price.source, repeats=0)

    @contextmanager
    def _clock(self, stage: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begin

    @contextmanager
    def _call(self) -> Iterator[None]:
        """One call of the contract: the machine is ours, the account starts at zero."""
        self.seconds = {}
        self._counted = self.tuner.trials + self._bench.measurements
        with machine_lock("measuring", waiting=self._waiting):
            yield

    def _cost(self, model: CompressedModel, latency_s: float, spread_s: float, source: Source, *, repeats: int) -> Cost:
        counts = count(model.module, model.example_inputs)
        return Cost(
            latency_s=latency_s,
            latency_spread_s=spread_s,
            macs=counts.macs,
            params=counts.params,
            bytes=counts.bytes,
            provenance=Provenance(
                source=source,
                device="local",
                target=str(self.target),
                tvm_version=tvm_version(),
                threads=self.target.threads,
                repeats=repeats,
                trials=self.trials,
            ),
        )

    def _compared(
        self,
        incumbent: CompressedModel,
        candidate: CompressedModel,
        prepared: tuple[Prepared, Prepared],
        limit: float | None,
    ) -> Ratio:
        first, second = (
            self._modules.name(model, item) for model, item in zip((incumbent, candidate), prepared, strict=True)
        )
        twin = first == second
        if twin:
            second = self._modules.add(prepared[1], self._modules.build(prepared[1], "plain")[0])
        before: list[float] = []
        after: list[float] = []
        try:
            with self._clock("measure"):
                for reading in range(_MOST_READINGS):
                    # A gate that a slow machine tells as well as a quick one need not wait for its usual speed.
                    patient = limit is None or reading > 0
                    times = self._bench.times([first, second], patient=patient)
                    before += times[first]
                    after += times[second]
                    ratio = paired_ratio(before, after, looks=_MOST_READINGS)
                    if ratio.known_within(_PRECISION) if limit is None else ratio.tells(limit):
                        break
        finally:
            if twin:
                self._bench.remove(second)
        return ratio

    def _measure_table(self, model: CompressedModel, item: Prepared) -> ProgramTable:
        whole, stamped, build = self._modules.stamped(model, item)
        try:
            with self._clock("measure"):
                times = self._bench.times(
                    [whole], stamped=stamped, stamp_words=build.stamp_words, stamp_runs=STAMPED_ROUNDS
                )
        finally:
            self._bench.remove(stamped)
        median, spread = median_and_spread(times[whole])
        rows = rows_in_place(item, build.calls, times[stamped], times[whole])
        overhead_s = overhead_in_place(times[stamped], times[whole])
        cost = self._cost(model, median, spread, item.source, repeats=len(times[whole]))
        return ProgramTable(rows=rows, overhead_s=overhead_s, whole=cost)
