"""One trial from proposal to outcome; knows nothing of searchers and journals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from tvm_prune.errors import ToolchainError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.oracle.base import CostOracle
from tvm_prune.oracle.cost import Cost, Failure, Ratio
from tvm_prune.search.shelf import Shelf, lineage
from tvm_prune.search.stopwatch import Stopwatch
from tvm_prune.search.trial import Accuracy, Proposal, State, Trial, trial_seed
from tvm_prune.search.workbench import Workbench

__all__ = ["TrialRunner"]


@dataclass(frozen=True, kw_only=True)
class TrialRunner:
    """Builds, prices, compares, trains and scores. `say` is told in a few words what goes on."""

    workbench: Workbench
    oracle: CostOracle
    shelf: Shelf
    clock: Callable[[], float]
    run_seed: int
    say: Callable[[str], None]

    def dense(self) -> Trial:
        """Return trial 0: the dense model tuned, measured and scored. Raises ToolchainError if it does not compile."""
        watch = Stopwatch(self.clock)
        model = self.workbench.dense()
        self.say("tuning the dense model")
        table = watch.ask(self.oracle, lambda: self.oracle.table(model))
        if isinstance(table, Failure):
            raise ToolchainError(
                f"the dense model cannot be compiled ({table.stage}: {table.message}); tvm-prune doctor MODEL says more"
            )
        self.say("evaluating the dense model")
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
            seed=trial_seed(self.run_seed, 0),
            seconds=watch.seconds(),
            measurements=watch.measurements,
        )

    def price(self, proposals: Sequence[Proposal], trials: Sequence[Trial], *, first: int) -> list[Trial]:
        """Return one trial per proposal; time and measurements of the batch are shared equally.

        What comes with a forecast is only probed, and not even built where no probe is asked for.
        """
        watch = Stopwatch(self.clock)
        with watch.stage("prune"):
            models = [
                self.workbench.build(self.shelf.get(proposal.parent, trials), proposal.steps)
                if proposal.probe or proposal.forecast_s is None
                else None
                for proposal in proposals
            ]
        with watch.stage("probe"):
            distances = [
                self.workbench.probe(model, self.shelf.get(proposal.parent, trials), proposal.steps)
                if proposal.probe and model is not None
                else None
                for proposal, model in zip(proposals, models, strict=True)
            ]
        answers = self._answers(proposals, models, watch)
        seconds = watch.seconds(share=len(proposals))
        each, left = divmod(watch.measurements, len(proposals))
        return [
            Trial(
                number=first + index,
                proposal=proposal,
                state=State.FAILED if isinstance(answer, Failure) else State.PRICED,
                cost=_in_place(answer, trials[proposal.parent]) if isinstance(answer, Cost) else None,
                distance=distance,
                note=_failure_text(answer) if isinstance(answer, Failure) else "",
                seed=trial_seed(self.run_seed, first + index),
                seconds=seconds,
                measurements=each + (index < left),
            )
            for index, (proposal, answer, distance) in enumerate(zip(proposals, answers, distances, strict=True))
        ]

    def _answers(
        self, proposals: Sequence[Proposal], models: Sequence[CompressedModel | None], watch: Stopwatch
    ) -> list[Cost | Failure | None]:
        """Return what the oracle says of each proposal that brings no forecast of its own."""
        found: dict[int, Cost | Failure] = {}
        for predicted in (False, True):
            ask = self.oracle.predict if predicted else self.oracle.estimate
            asked = {
                place: model
                for place, (proposal, model) in enumerate(zip(proposals, models, strict=True))
                if proposal.forecast_s is None and proposal.predicted == predicted and model is not None
            }
            if asked:
                told = watch.ask(self.oracle, partial(ask, list(asked.values())))
                found.update(zip(asked, told, strict=True))
        return [found.get(place) for place in range(len(proposals))]

    def carry_out(self, proposal: Proposal, trials: Sequence[Trial], *, number: int) -> Trial:
        """Return the trial of one full proposal: build, tune, compare, gate, refit, train, evaluate, gate, accept."""
        watch = Stopwatch(self.clock)
        seed = trial_seed(self.run_seed, number)
        parent = self.shelf.get(proposal.parent, trials)
        with watch.stage("prune"):
            candidate = self.workbench.build(parent, proposal.steps)

        trial = Trial(number=number, proposal=proposal, state=State.FAILED, seed=seed)

        def closed(trial: Trial, state: State, note: str = "") -> Trial:
            return replace(trial, state=state, note=note, seconds=watch.seconds(), measurements=watch.measurements)

        self.say(f"trial {number}: tuning the changed tasks")
        predicted = watch.ask(self.oracle, lambda: self.oracle.estimate([candidate]))[0]
        if isinstance(predicted, Failure):
            return closed(trial, State.FAILED, _failure_text(predicted))
        self.say(f"trial {number}: comparing with trial {proposal.parent}")
        ratio = watch.ask(self.oracle, lambda: self.oracle.compare(parent, candidate, limit=proposal.max_ratio))
        if isinstance(ratio, Failure):
            return closed(trial, State.FAILED, _failure_text(ratio))
        trial = replace(trial, ratio=ratio, cost=_measured(predicted, ratio))
        if proposal.max_ratio is not None and not ratio.clears(proposal.max_ratio):
            return closed(
                trial,
                State.TOO_SLOW,
                f"ratio {ratio.median:.4f} up to {ratio.median_high:.4f}, needs {proposal.max_ratio:g}",
            )
        self.say(f"trial {number}: fitting the layers anew")
        with watch.stage("refit"):
            refitted = self.workbench.refit(candidate, parent, proposal.steps, seed=seed)
        candidate, accuracy = self._trained(refitted, trial, watch, fitted=refitted is not candidate)
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

    def _trained(
        self, model: CompressedModel, trial: Trial, watch: Stopwatch, *, fitted: bool
    ) -> tuple[CompressedModel, Accuracy]:
        """Return `model` after the short-term training of `trial`, with its accuracy.

        A `fitted` model is worth something without gradients: a training that makes it worse is undone.
        """
        assert trial.proposal is not None
        steps = trial.proposal.finetune_steps
        before = self._accuracy(model, trial, watch) if fitted or not steps else None
        if not steps:
            assert before is not None
            return model, before
        self.say(f"trial {trial.number}: training for {steps} steps")
        with watch.stage("finetune"):
            trained = self.workbench.finetune(model, steps=steps, seed=trial.seed)
        accuracy = self._accuracy(trained, trial, watch)
        if before is not None and before.fraction > accuracy.fraction:
            return model, before
        return trained, accuracy

    def _accuracy(self, model: CompressedModel, trial: Trial, watch: Stopwatch) -> Accuracy:
        self.say(f"trial {trial.number}: evaluating")
        with watch.stage("evaluate"):
            return self.workbench.evaluate(model)


def _in_place(estimate: Cost, parent: Trial) -> Cost:
    """Return a price as of the parent's module: by its table in the journal, so that a resume prices alike."""
    return estimate if parent.table is None else parent.table.in_place(estimate)


def _failure_text(failure: Failure) -> str:
    return f"{failure.stage}: {failure.message}"


def _measured(predicted: Cost, ratio: Ratio) -> Cost:
    """Return the cost of a compared candidate: counts from the estimate, latency from the paired blocks."""
    return replace(
        predicted,
        latency_s=ratio.candidate_s,
        latency_spread_s=(ratio.high - ratio.low) * ratio.incumbent_s,
        provenance=replace(predicted.provenance, source="measured", repeats=ratio.blocks),
    )
