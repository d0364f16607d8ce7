"""The stages of a CPrune run: search, retrain, measure, baseline, test, deliver, report. Each resumes by itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tvm_prune.codec import STRICT, encode
from tvm_prune.compress.recipe import BaseModel, Recipe
from tvm_prune.errors import ModelError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.fingerprint import fingerprint
from tvm_prune.jobs.baseline import UniformPoint, run_baseline, uniform_points
from tvm_prune.jobs.final import Final, retrain
from tvm_prune.jobs.folder import RunFolder, Stages, package_versions
from tvm_prune.jobs.formats import save_onnx, save_pt2
from tvm_prune.jobs.measured import Measured, measure
from tvm_prune.jobs.outcome_report import Facts, report_of
from tvm_prune.jobs.report import draw_report, save_report
from tvm_prune.jobs.tune import compressed
from tvm_prune.jobs.watcher import LoopProgress, Watcher
from tvm_prune.jobs.workbench import identity_of, name_of, workbench_of
from tvm_prune.models.datasets import DataSet
from tvm_prune.models.load import Model
from tvm_prune.models.train import Progress
from tvm_prune.models.weights import save_weights
from tvm_prune.oracle.base import CostOracle, Deepening
from tvm_prune.report.document import RunReport
from tvm_prune.report.summary import Summary, write_summary
from tvm_prune.search.budget import Budget
from tvm_prune.search.cprune import CPrune
from tvm_prune.search.journal import Header
from tvm_prune.search.loop import run
from tvm_prune.search.outcome import JOURNAL, Outcome
from tvm_prune.search.plan import check_goals
from tvm_prune.search.quality import Quality, UserQuality
from tvm_prune.search.settings import CPruneSettings
from tvm_prune.search.uniform import UniformSettings
from tvm_prune.search.workbench import TorchWorkbench

__all__ = ["Bundler", "CPruneJob", "PruneRun", "Pruned"]

_IN_FORMAT = (
    "Latencies are of networks in {0}; bundle/ holds the float network (tvm-prune quantize --recipe changes that)."
)
# Compiles a model into a bundle folder; returns the largest absolute difference of its outputs from torch's.
Bundler = Callable[[CompressedModel, Path], float]

_SAME_FUNCTION = (
    "The accuracies are those of the function that also steered the search, so they flatter; give UserQuality a test "
    "function of other images for an honest figure."
)


@dataclass(frozen=True, kw_only=True)
class CPruneJob:
    """What to do: the search's settings, the baseline, the budget of the search, layers that keep their channels.

    `uniform` None leaves the baseline out; its training steps are not used, it gets as many as the pruned model had in
    all. With a `scheme` (graph/scheme.py) the search goes by what networks take in that number format, and so do the
    report's latencies; networks stay float, in training and as delivered, until they are quantized. `target` is the
    oracle's, in words, for the journal and the summary; a CompilerOracle says it itself.
    """

    settings: CPruneSettings = field(default_factory=CPruneSettings)
    uniform: UniformSettings | None = field(default_factory=UniformSettings)
    budget: Budget = field(default_factory=Budget)
    ignored_layers: tuple[str, ...] = ()
    scheme: str | None = None
    target: str = "local"
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """The pruned model, the values of its report, the baseline's networks, the folder that holds everything on disk.

    `measured` holds what the summary's latencies come from.
    """

    model: CompressedModel
    measured: Measured
    report: RunReport
    uniform: tuple[UniformPoint, ...]
    folder: RunFolder

    @property
    def summary(self) -> Summary:
        """The outcome in figures."""
        return self.report.summary


@dataclass(frozen=True, kw_only=True)
class PruneRun:
    """One run: its inputs, and the stages from the search to the report."""

    model: Model
    data: DataSet | Quality
    oracle: CostOracle
    job: CPruneJob
    folder: RunFolder
    watcher: Watcher

    def carry_out(self, bundle: Bundler) -> Pruned:
        """Do everything that is not done yet; `bundle` compiles the result into its folder."""
        settings, stages = self.job.settings, Stages(self.folder.stages)
        if isinstance(self.data, UserQuality):
            settings.require_epochs()
        workbench = self._workbench()
        outcome = self._search(workbench)
        dense_accuracy = outcome.dense.accuracy
        assert dense_accuracy is not None
        requirement = settings.requirement(dense_accuracy.fraction)
        long_steps = settings.long_steps(workbench.steps_per_epoch)
        with stages.timed("retrain"):
            final = retrain(
                outcome,
                workbench,
                steps=long_steps,
                lr=settings.final_lr,
                requirement=requirement,
                folder=self.folder.final,
                watcher=self.watcher,
            )
        with stages.timed("measure the result"):
            measured = self._measure(workbench.dense(), final.model)
        steps = _training_steps(outcome, final.number, long_steps)
        uniform = self._baseline(steps=steps)
        # Every decision is taken: from here on the test split may be looked at.
        with stages.timed("test"):
            self.watcher.stage("evaluate on the test split")
            tested = workbench.test(workbench.dense()), workbench.test(final.model)
            points = uniform_points(uniform, self._workbench(short_like_final=True)) if uniform else ()
        with stages.timed("deliver"):
            error, undelivered = self._deliver(final, outcome, bundle)
        searched = outcome.seconds + (uniform.seconds if uniform else 0.0)
        report = report_of(
            measured,
            tested,
            points=points,
            outcome=outcome,
            facts=Facts(
                model=self.model.name,
                data=name_of(self.data),
                target=self.job.target,
                requirement=requirement,
                parity_max_abs_err=error,
                seconds=searched + sum(stages.seconds().values()),
                notes=(
                    *([_IN_FORMAT.format(self.job.scheme)] if self.job.scheme else []),
                    *final.notes,
                    *([f"Uniform baseline: {uniform.stop_reason}."] if uniform else []),
                    *([] if workbench.has_test else [_SAME_FUNCTION]),
                    *undelivered,
                ),
            ),
        )
        write_summary(report.summary, self.folder.summary)
        save_report(report, self.folder)
        draw_report(report, self.folder)
        return Pruned(model=final.model, measured=measured, report=report, uniform=points, folder=self.folder)

    def _workbench(self, *, short_like_final: bool = False) -> TorchWorkbench:
        return workbench_of(
            self.model,
            self.data,
            self.job.settings,
            ignored_layers=self.job.ignored_layers,
            short_like_final=short_like_final,
            progress=self._trained,
        )

    def _trained(self, progress: Progress) -> None:
        self.watcher.advance(progress.step, total=progress.steps, detail=f"training steps, loss {progress.loss:.3f}")

    def _header(self, method: str, settings: Mapping[str, object], workbench: TorchWorkbench) -> Header:
        return Header(
            method=method,
            settings={**settings, "ignored_layers": list(self.job.ignored_layers)},
            seed=self.job.settings.seed,
            model=workbench.identity,
            data=identity_of(self.data),
            target=self.job.target,
            packages=package_versions(),
        )

    def _search(self, workbench: TorchWorkbench) -> Outcome:
        settings = self.job.settings
        if not (self.folder.path / JOURNAL).exists():
            self.watcher.stage("check that the goals can be reached")
            check_goals(workbench, self.oracle, settings)
        return run(
            CPrune(settings, steps_per_epoch=workbench.steps_per_epoch),
            workbench,
            self.oracle,
            header=self._header("cprune", settings.of_search(), workbench),
            budget=self.job.budget,
            run_dir=self.folder.path,
            progress=LoopProgress(self.watcher, "cprune"),
        )

    def _baseline(self, *, steps: int) -> Outcome | None:
        if self.job.uniform is None:
            return None
        settings = self.job.settings
        uniform = replace(self.job.uniform, finetune_steps=steps, criterion=settings.criterion, seed=settings.seed)
        workbench = self._workbench(short_like_final=True)
        header = self._header("uniform", {**encode(uniform), "lr": settings.final_lr, "trials": self._depth}, workbench)
        return run_baseline(
            uniform,
            workbench,
            self.oracle,
            header=header,
            folder=self.folder.uniform(header.settings),
            progress=LoopProgress(self.watcher, "uniform baseline"),
        )

    @property
    def _depth(self) -> int:
        """Programs tried for each task of what is reported."""
        return max(self.job.settings.trials_per_task, self.job.settings.final_trials_per_task)

    def _measure(self, dense: CompressedModel, pruned: CompressedModel) -> Measured:
        self.watcher.stage("tune and measure the result")
        if self._depth > self.job.settings.trials_per_task and isinstance(self.oracle, Deepening):
            # The dense model and, after this, the baseline are tuned as deep.
            self.oracle.deepen(trials_per_task=self._depth)
        return measure(self.oracle, dense, pruned, trials_per_task=self._depth, path=self.folder.measured)

    def _deliver(self, final: Final, outcome: Outcome, bundle: Bundler) -> tuple[float, tuple[str, ...]]:
        """Write the result; return its largest difference from torch, and notes on the forms that it cannot take."""
        self.watcher.stage("write the compiled bundle, weights, recipe, .pt2 and ONNX")
        save_weights(final.model.module, self.folder.weights)
        print_of_dense = fingerprint(compressed(self.model))
        base = BaseModel(source=self.model.source, fingerprint=print_of_dense, file_sha256=self.model.file_sha256)
        Recipe(base=base, steps=outcome.steps(final.number)).save(self.folder.recipe)
        error = bundle(final.model, self.folder.bundle)
        notes = []
        for save, path in ((save_pt2, self.folder.pt2), (save_onnx, self.folder.onnx)):
            try:
                save(final.model, path)
            except ModelError as refused:
                notes.append(f"{path.name} was not written: {refused}")
                self.watcher.note(notes[-1])
        return error, tuple(notes)


def _training_steps(outcome: Outcome, number: int, long_steps: int) -> int:
    """Return all optimizer steps that trial `number` had, the last retraining included."""
    total = long_steps
    while number:
        proposal = outcome.trials[number].proposal
        assert proposal is not None
        total += proposal.finetune_steps
        number = proposal.parent
    return total
