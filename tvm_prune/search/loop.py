"""The only loop: asks a searcher, carries its proposals out, writes each outcome down before it is told.

A killed run starts again from its journal: the recorded trials are told again in order (a searcher is a deterministic
function of what it was told, which is checked), and the trial that was in flight is repeated from the same seed.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from tvm_prune.compress.step import Step
from tvm_prune.errors import JournalError, ToolchainError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.oracle.base import CostOracle
from tvm_prune.oracle.cost import Cost, Failure, Ratio
from tvm_prune.search.budget import Account, Budget
from tvm_prune.search.journal import Header, Journal
from tvm_prune.search.shelf import Shelf, lineage
from tvm_prune.search.trial import Proposal, Searcher, State, Trial, trial_seed
from tvm_prune.search.workbench import Workbench

__all__ = ["JOURNAL", "TRIALS", "Metered", "Outcome", "Progress", "run"]

JOURNAL = "journal.jsonl"
TRIALS = "trials"
# Models built and held at once for one estimate; more would only cost memory.
_PRICED_AT_ONCE = 16

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")


class Progress(Protocol):
    """Who watches a run."""

    def stage(self, text: str) -> None:
        """Take what is being done now, in a few words."""

    def trial(self, trial: Trial) -> None:
        """Take a finished trial, also those read back from the journal."""

    def eta(self, seconds: float | None) -> None:
        """Take the seconds left as far as the budget tells, None if it does not."""


@runtime_checkable
class Metered(Protocol):
    """An oracle that says what its last call spent."""

    seconds: dict[str, float]
    measurements: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run came to: all its trials, why it stopped, and whether the searcher (not the budget) ended it."""

    trials: tuple[Trial, ...]
    stop_reason: str
    finished: bool
    run_dir: Path

    @property
    def dense(self) -> Trial:
        """Trial 0."""
        return self.trials[0]

    @property
    def accepted(self) -> tuple[Trial, ...]:
        """The accepted trials in order, the dense one first."""
        return tuple(trial for trial in self.trials if trial.state is State.ACCEPTED)

    @property
    def measurements(self) -> int:
        """Programs timed in all trials."""
        return sum(trial.measurements for trial in self.trials)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds inside all trials."""
        return sum(sum(trial.seconds.values()) for trial in self.trials)

    def steps(self, number: int) -> tuple[Step, ...]:
        """Return the steps from the dense model to trial `number`."""
        return lineage(self.trials, number)

    def model(self, number: int, workbench: Workbench) -> CompressedModel:
        """Return the model of an accepted trial, rebuilt from the run folder."""
        return Shelf(workbench, self.run_dir / TRIALS).get(number, self.trials)


def run(
    searcher: Searcher,
    workbench: Workbench,
    oracle: CostOracle,
    *,
    header: Header,
    budget: Budget,
    run_dir: Path,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Run `searcher` to its end or to the end of `budget`; resume if `run_dir` holds the journal of the same run.

    Trial 0 is the dense model. Raises JournalError for a foreign or damaged journal, ToolchainError if the dense model
    cannot be compiled, and lets KeyboardInterrupt through with the folder ready to resume.
    """
    with Journal.opened(run_dir / JOURNAL, header) as journal:
        loop = _Loop(
            searcher=searcher,
            bench=_Bench(workbench=workbench, oracle=oracle, shelf=Shelf(workbench, run_dir / TRIALS), clock=clock),
            journal=journal,
            account=Account(budget),
            seed=header.seed,
            progress=progress,
        )
        try:
            return loop.run(run_dir)
        except KeyboardInterrupt:
            logger.warning(
                "stopped by hand; %d trials are kept in %s: start the same command again to go on", len(loop.trials), run_dir
            )
            raise


class _Stopwatch:
    """Seconds by stage of one trial; what no stage claims is "other"."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started = clock()
        self._stages: dict[str, float] = {}
        self.measurements = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = self._clock()
        yield
        self._add(name, self._clock() - started)

    def ask(self, oracle: CostOracle, call: Callable[[], Answer]) -> Answer:
        """Make one call of `oracle`; its own account of the time goes in, the rest counts as measuring."""
        started = self._clock()
        answer = call()
        rest = self._clock() - started
        if isinstance(oracle, Metered):
            for name, seconds in oracle.seconds.items():
                self._add(name, seconds)
                rest -= seconds
            self.measurements += oracle.measurements
        self._add("measure", max(0.0, rest))
        return answer

    def seconds(self, *, share: int = 1) -> dict[str, float]:
        """Return the stages so far, divided by `share`, to the microsecond."""
        stages = dict(self._stages)
        stages["other"] = max(0.0, self._clock() - self._started - sum(stages.values()))
        return {name: rounded for name, spent in stages.items() if (rounded := round(spent / share, 6)) > 0}

    def _add(self, name: str, seconds: float) -> None:
        self._stages[name] = self._stages.get(name, 0.0) + seconds


@dataclass
class _Bench:
    """Carries single trials out; knows nothing of searchers and journals."""

    workbench: Workbench
    oracle: CostOracle
    shelf: Shelf
    clock: Callable[[], float]

    def dense(self, *, seed: int, say: Callable[[str], None]) -> Trial:
        watch = _Stopwatch(self.clock)
        model = self.workbench.dense()
        say("tuning the dense model")
        table = watch.ask(self.oracle, lambda: self.oracle.table(model))
        if isinstance(table, Failure):
            raise ToolchainError(
                f"the dense model cannot be compiled ({table.stage}: {table.message}); tvm-prune doctor MODEL says more"
            )
        say("evaluating the dense model")
        with watch.stage("evaluate"):
            accuracy = self.workbench.evaluate(model)
        with watch.stage("prune"):
            groups = self.workbench.groups(model)
        return Trial(
            number=0,
            proposal=None,
            state=State.ACCEPTED,
            cost=table.whole,
            accuracy=accuracy,
            table=table,
            groups=groups,
            seed=seed,
            seconds=watch.seconds(),
            measurements=watch.measurements,
        )

    def price(self, proposals: Sequence[Proposal], trials: Sequence[Trial], *, first: int, run_seed: int) -> list[Trial]:
        """Return one trial per proposal; time and measurements of the batch are shared equally."""
        watch = _Stopwatch(self.clock)
        with watch.stage("prune"):
            models = [
                self.workbench.build(self.shelf.get(proposal.parent, trials), proposal.steps) for proposal in proposals
            ]
        answers = watch.ask(self.oracle, lambda: self.oracle.estimate(models))
        seconds = watch.seconds(share=len(proposals))
        each, left = divmod(watch.measurements, len(proposals))
        return [
            Trial(
                number=first + index,
                proposal=proposal,
                state=State.FAILED if isinstance(answer, Failure) else State.PRICED,
                cost=None if isinstance(answer, Failure) else answer,
                note=_failure_text(answer) if isinstance(answer, Failure) else "",
                seed=trial_seed(run_seed, first + index),
                seconds=seconds,
                measurements=each + (index < left),
            )
            for index, (proposal, answer) in enumerate(zip(proposals, answers, strict=True))
        ]

    def carry_out(
        self, proposal: Proposal, trials: Sequence[Trial], *, number: int, seed: int, say: Callable[[str], None]
    ) -> Trial:
        """Return the trial of one full proposal: build, tune, compare, gate, train, evaluate, gate, accept."""
        watch = _Stopwatch(self.clock)
        parent = self.shelf.get(proposal.parent, trials)
        with watch.stage("prune"):
            candidate = self.workbench.build(parent, proposal.steps)

        trial = Trial(number=number, proposal=proposal, state=State.FAILED, seed=seed)

        def closed(trial: Trial, state: State, note: str = "") -> Trial:
            return replace(
                trial, state=state, note=note, seconds=watch.seconds(), measurements=watch.measurements
            )

        say(f"trial {number}: tuning the changed tasks")
        predicted = watch.ask(self.oracle, lambda: self.oracle.estimate([candidate]))[0]
        if isinstance(predicted, Failure):
            return closed(trial, State.FAILED, _failure_text(predicted))
        say(f"trial {number}: comparing with trial {proposal.parent}")
        ratio = watch.ask(self.oracle, lambda: self.oracle.compare(parent, candidate))
        if isinstance(ratio, Failure):
            return closed(trial, State.FAILED, _failure_text(ratio))
        trial = replace(trial, ratio=ratio, cost=_measured(predicted, ratio))
        if proposal.max_ratio is not None and not ratio.clears(proposal.max_ratio):
            return closed(trial, State.TOO_SLOW, f"ratio {ratio.median:.4f} up to {ratio.high:.4f}, needs {proposal.max_ratio:g}")
        if proposal.finetune_steps:
            say(f"trial {number}: training for {proposal.finetune_steps} steps")
            with watch.stage("finetune"):
                candidate = self.workbench.finetune(candidate, steps=proposal.finetune_steps, seed=seed)
        say(f"trial {number}: evaluating")
        with watch.stage("evaluate"):
            accuracy = self.workbench.evaluate(candidate)
        trial = replace(trial, accuracy=accuracy)
        if proposal.min_accuracy is not None and accuracy.fraction < proposal.min_accuracy:
            return closed(
                trial, State.INACCURATE, f"accuracy {accuracy.fraction:.4f}, needs {proposal.min_accuracy:.4f}"
            )
        table = watch.ask(self.oracle, lambda: self.oracle.table(candidate))
        if isinstance(table, Failure):
            return closed(trial, State.FAILED, _failure_text(table))
        with watch.stage("prune"):
            groups = self.workbench.groups(candidate)
        self.shelf.put(number, candidate, (*lineage(trials, proposal.parent), *proposal.steps))
        return closed(replace(trial, cost=table.whole, table=table, groups=groups), State.ACCEPTED)


@dataclass
class _Loop:
    searcher: Searcher
    bench: _Bench
    journal: Journal
    account: Account
    seed: int
    progress: Progress | None

    def __post_init__(self) -> None:
        self.trials: list[Trial] = []

    def run(self, run_dir: Path) -> Outcome:
        if self.journal.trials:
            logger.info("resuming %s after %d finished trials", run_dir, len(self.journal.trials))
            self._take(self.journal.trials[0])
        else:
            self._finish(self.bench.dense(seed=trial_seed(self.seed, 0), say=self._say))
        while proposals := self.searcher.ask():
            for chunk in _chunks(proposals):
                if len(self.trials) >= len(self.journal.trials) and (spent := self.account.exhausted()):
                    return self._outcome(run_dir, spent, finished=False)
                self._do(chunk)
        if len(self.trials) < len(self.journal.trials):
            raise self._foreign(f"the search ends after trial {len(self.trials) - 1}")
        return self._outcome(run_dir, self.searcher.stop_reason, finished=True)

    def _do(self, chunk: Sequence[Proposal]) -> None:
        """Replay or carry out proposals that go together: several prices, or one full trial."""
        first = len(self.trials)
        known = self.journal.trials[first : first + len(chunk)]
        for proposal, trial in zip(chunk, known, strict=False):
            if trial.proposal != proposal:
                raise self._foreign(f"trial {trial.number} would now be another one")
        if len(known) == len(chunk):
            done = list(known)
        elif chunk[0].price_only:
            self._say(f"pricing {len(chunk)} candidates")
            # A kill inside a batch is priced again as a whole, so that shares of its time come out as they were.
            priced = self.bench.price(chunk, self.trials, first=first, run_seed=self.seed)
            done = [*known, *priced[len(known) :]]
        else:
            seed = trial_seed(self.seed, first)
            done = [self.bench.carry_out(chunk[0], self.trials, number=first, seed=seed, say=self._say)]
        for trial in done:
            if trial.number < len(self.journal.trials):
                self._take(trial)
            else:
                self._finish(trial)

    def _finish(self, trial: Trial) -> None:
        self.journal.append(trial)
        self._take(trial)

    def _take(self, trial: Trial) -> None:
        self.trials.append(trial)
        self.account.add(trial)
        self.searcher.tell(trial)
        if self.progress is not None:
            self.progress.trial(trial)
            self.progress.eta(self.account.remaining_s())

    def _say(self, text: str) -> None:
        logger.info("%s", text)
        if self.progress is not None:
            self.progress.stage(text)

    def _outcome(self, run_dir: Path, stop_reason: str, *, finished: bool) -> Outcome:
        return Outcome(trials=tuple(self.trials), stop_reason=stop_reason, finished=finished, run_dir=run_dir)

    def _foreign(self, what: str) -> JournalError:
        return JournalError(
            f"{self.journal.path} was written by another version of the searcher: {what}. Go on with the version that "
            f"wrote it, or choose another --out"
        )


def _chunks(proposals: Sequence[Proposal]) -> Iterator[Sequence[Proposal]]:
    """Yield prices in lots of a fixed size and everything else one by one, in order."""
    lot: list[Proposal] = []
    for proposal in proposals:
        if lot and (not proposal.price_only or len(lot) == _PRICED_AT_ONCE):
            yield lot
            lot = []
        if proposal.price_only:
            lot.append(proposal)
        else:
            yield [proposal]
    if lot:
        yield lot


def _failure_text(failure: Failure) -> str:
    return f"{failure.stage}: {failure.message}"


def _measured(predicted: Cost, ratio: Ratio) -> Cost:
    """Return the cost of a compared candidate: counts from the estimate, latency from the paired blocks."""
    return replace(
        predicted,
        latency_s=ratio.candidate_s,
        latency_spread_s=(ratio.high - ratio.low) / 2 * ratio.incumbent_s,
        provenance=replace(predicted.provenance, source="measured", repeats=ratio.blocks),
    )
