"""The only loop: asks a searcher, carries its proposals out, writes each outcome down before it is told.

A killed run starts again from its journal: the recorded trials are told again in order (a searcher is a deterministic
function of what it was told, which is checked), and the trial that was in flight is repeated from the same seed.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tvm_prune.errors import JournalError
from tvm_prune.oracle.base import CostOracle
from tvm_prune.search.budget import Account, Budget
from tvm_prune.search.journal import Header, Journal
from tvm_prune.search.outcome import JOURNAL, TRIALS, Outcome
from tvm_prune.search.runner import TrialRunner
from tvm_prune.search.shelf import Shelf
from tvm_prune.search.trial import Proposal, Searcher, Trial
from tvm_prune.search.workbench import Workbench

__all__ = ["Progress", "run"]

# Models built and held at once for one estimate; more would only cost memory.
_PRICED_AT_ONCE = 16

logger = logging.getLogger(__name__)


class Progress(Protocol):
    """Who watches a run."""

    def stage(self, text: str) -> None:
        """Take what is being done now, in a few words."""

    def trial(self, trial: Trial) -> None:
        """Take a finished trial, also those read back from the journal."""

    def eta(self, seconds: float | None) -> None:
        """Take the seconds left as far as the budget tells, None if it does not."""


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

    def say(text: str) -> None:
        logger.info("%s", text)
        if progress is not None:
            progress.stage(text)

    with Journal.opened(run_dir / JOURNAL, header) as journal:
        loop = _Loop(
            searcher=searcher,
            journal=journal,
            account=Account(budget),
            runner=TrialRunner(
                workbench=workbench,
                oracle=oracle,
                shelf=Shelf(workbench, run_dir / TRIALS),
                clock=clock,
                run_seed=header.seed,
                say=say,
            ),
            progress=progress,
        )
        try:
            return loop.run(run_dir)
        except KeyboardInterrupt:
            logger.warning(
                "stopped by hand; %d trials are kept in %s: start the same command again to go on",
                len(loop.trials),
                run_dir,
            )
            raise


@dataclass
class _Loop:
    searcher: Searcher
    journal: Journal
    account: Account
    runner: TrialRunner
    progress: Progress | None

    def __post_init__(self) -> None:
        self.trials: list[Trial] = []

    def run(self, run_dir: Path) -> Outcome:
        if self.journal.trials:
            logger.info("resuming %s after %d finished trials", run_dir, len(self.journal.trials))
            self._take(self.journal.trials[0])
        else:
            self._finish(self.runner.dense())
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
            self.runner.say(f"pricing {len(chunk)} candidates")
            # A kill inside a batch is priced again as a whole, so that shares of its time come out as they were.
            priced = self.runner.price(chunk, self.trials, first=first)
            done = [*known, *priced[len(known) :]]
        else:
            done = [self.runner.carry_out(chunk[0], self.trials, number=first)]
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
