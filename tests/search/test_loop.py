"""The loop: stages, gates, failures, budgets and what lands in the run folder."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.search.toy import ToyOracle, ToyWorkbench, header, key, model_of, search, toy_of
from tvm_prune.compress.step import PruneStep
from tvm_prune.errors import JournalError, ToolchainError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.oracle.cost import Cost, Failure
from tvm_prune.search.budget import Budget
from tvm_prune.search.journal import read_journal
from tvm_prune.search.loop import run
from tvm_prune.search.outcome import Outcome
from tvm_prune.search.trial import Proposal, State, Trial, trial_seed

HALF_ONE = PruneStep(group="one", width=64, keep=tuple(range(32)))
HALF_TWO = PruneStep(group="two", width=128, keep=tuple(range(64)))


@dataclass
class Scripted:
    """A searcher that proposes what it was given, one batch an `ask`."""

    batches: list[tuple[Proposal, ...]]
    told: list[Trial] = field(default_factory=list)
    stop_reason: str = "the script is over"

    def ask(self) -> tuple[Proposal, ...]:
        return self.batches.pop(0) if self.batches else ()

    def tell(self, trial: Trial) -> None:
        self.told.append(trial)


@dataclass
class Watching:
    stages: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    etas: list[float | None] = field(default_factory=list)

    def stage(self, text: str) -> None:
        self.stages.append(text)

    def trial(self, trial: Trial) -> None:
        self.numbers.append(trial.number)

    def eta(self, seconds: float | None) -> None:
        self.etas.append(seconds)


def scripted(run_dir: Path, *proposals: Proposal, oracle: ToyOracle | None = None) -> Outcome:
    return search(run_dir, searcher=Scripted([proposals]), oracle=oracle)


def test_trial_zero_is_the_dense_model_with_its_table_and_groups(tmp_path: Path) -> None:
    dense = scripted(tmp_path).dense
    assert dense.state is State.ACCEPTED
    assert dense.proposal is None
    assert dense.table is not None
    assert dense.groups is not None
    assert dense.cost == dense.table.whole
    assert dense.accuracy is not None
    assert dense.accuracy.fraction == pytest.approx(0.95)
    assert [group.name for group in dense.groups] == ["stem", "one", "two", "head"]


def test_prices_of_one_batch_are_one_question(tmp_path: Path) -> None:
    oracle = ToyOracle()
    outcome = scripted(
        tmp_path,
        Proposal(parent=0, steps=(HALF_ONE,), price_only=True),
        Proposal(parent=0, steps=(HALF_TWO,), price_only=True),
        oracle=oracle,
    )
    assert oracle.calls["estimate"] == 1
    assert [trial.state for trial in outcome.trials[1:]] == [State.PRICED, State.PRICED]
    assert all(trial.cost is not None and trial.cost.provenance.source == "summed" for trial in outcome.trials[1:])
    assert outcome.trials[1].accuracy is None


def test_a_large_batch_of_prices_is_asked_in_lots(tmp_path: Path) -> None:
    oracle = ToyOracle()
    steps = [PruneStep(group="two", width=128, keep=tuple(range(count))) for count in range(60, 90)]
    scripted(tmp_path, *(Proposal(parent=0, steps=(step,), price_only=True) for step in steps), oracle=oracle)
    assert oracle.calls["estimate"] == 2


def test_a_price_is_probed_where_that_is_asked_for(tmp_path: Path) -> None:
    outcome = scripted(
        tmp_path,
        Proposal(parent=0, steps=(HALF_ONE,), price_only=True, probe=True),
        Proposal(parent=0, steps=(HALF_TWO,), price_only=True),
    )
    asked, plain = outcome.trials[1:]
    assert asked.distance is not None
    assert asked.distance > 0.05
    assert plain.distance is None


def test_what_comes_with_a_forecast_is_probed_and_not_measured(tmp_path: Path) -> None:
    oracle = ToyOracle()
    outcome = scripted(
        tmp_path,
        Proposal(parent=0, steps=(HALF_ONE,), price_only=True, probe=True, forecast_s=1e-4),
        Proposal(parent=0, steps=(HALF_TWO,), price_only=True, forecast_s=1e-4),
        oracle=oracle,
    )
    probed, told = outcome.trials[1:]
    assert "estimate" not in oracle.calls
    assert probed.state is told.state is State.PRICED
    assert probed.cost is told.cost is None
    assert probed.distance is not None
    assert told.distance is None


def test_forecasts_and_prices_of_one_batch_keep_their_places(tmp_path: Path) -> None:
    outcome = scripted(
        tmp_path,
        Proposal(parent=0, steps=(HALF_ONE,), price_only=True, forecast_s=1e-4),
        Proposal(parent=0, steps=(HALF_TWO,), price_only=True),
        Proposal(parent=0, steps=(HALF_ONE, HALF_TWO), price_only=True),
    )
    told, one, both = (trial.cost for trial in outcome.trials[1:])
    assert told is None
    assert one is not None
    assert both is not None
    assert both.latency_s < one.latency_s


def test_a_candidate_that_passes_its_gates_is_accepted_with_everything_kept(tmp_path: Path) -> None:
    proposal = Proposal(parent=0, steps=(HALF_ONE,), max_ratio=0.99, min_accuracy=0.5, finetune_steps=5)
    trial = scripted(tmp_path, proposal).trials[1]
    assert trial.state is State.ACCEPTED
    assert trial.table is not None
    assert trial.cost == trial.table.whole
    assert trial.groups is not None
    assert trial.groups[1].width == 32
    assert trial.ratio is not None
    assert trial.seed == trial_seed(0, 1)
    assert (tmp_path / "trials" / "0001.safetensors").exists()


def test_a_child_grows_from_its_parents_files(tmp_path: Path) -> None:
    first = Proposal(parent=0, steps=(HALF_ONE,))
    second = Proposal(parent=1, steps=(HALF_TWO,))
    outcome = search(tmp_path, searcher=Scripted([(first,), (second,)]))
    assert outcome.steps(2) == (HALF_ONE, HALF_TWO)
    assert key(outcome.model(2, ToyWorkbench())) == '{"stem": 64, "one": 32, "two": 64}'


def test_the_latency_gate_needs_the_whole_interval(tmp_path: Path) -> None:
    step = PruneStep(group="one", width=64, keep=tuple(range(48)))
    oracle = ToyOracle()
    free = scripted(tmp_path / "free", Proposal(parent=0, steps=(step,)), oracle=oracle).trials[1]
    assert free.ratio is not None
    limit = (free.ratio.median + free.ratio.median_high) / 2
    gated = scripted(tmp_path / "gated", Proposal(parent=0, steps=(step,), max_ratio=limit), oracle=oracle).trials[1]
    assert gated.state is State.TOO_SLOW
    assert gated.note.startswith("ratio 0.")
    assert gated.accuracy is None
    assert gated.cost is not None
    assert gated.cost.provenance.source == "measured"
    assert gated.cost.latency_s == gated.ratio.candidate_s if gated.ratio else False


def test_the_accuracy_gate_rolls_back(tmp_path: Path) -> None:
    trial = scripted(tmp_path, Proposal(parent=0, steps=(HALF_ONE,), min_accuracy=0.99)).trials[1]
    assert trial.state is State.INACCURATE
    assert "needs 0.9900" in trial.note
    assert trial.table is None
    assert not (tmp_path / "trials").exists()


@pytest.mark.parametrize("price_only", [True, False])
def test_a_candidate_that_cannot_be_built_is_a_failed_trial(tmp_path: Path, price_only: bool) -> None:
    oracle = ToyOracle(failing=frozenset({'{"stem": 64, "one": 32, "two": 128}'}))
    outcome = scripted(
        tmp_path,
        Proposal(parent=0, steps=(HALF_ONE,), price_only=price_only),
        Proposal(parent=0, steps=(HALF_TWO,)),
        oracle=oracle,
    )
    assert [trial.state for trial in outcome.trials] == [State.ACCEPTED, State.FAILED, State.ACCEPTED]
    assert outcome.trials[1].note == "build: asked to fail"


def test_a_dense_model_that_cannot_be_built_stops_the_run(tmp_path: Path) -> None:
    oracle = ToyOracle(failing=frozenset({'{"stem": 64, "one": 64, "two": 128}'}))
    with pytest.raises(ToolchainError, match=r"the dense model cannot be compiled \(build: asked to fail\)"):
        scripted(tmp_path, oracle=oracle)


class Fitting(ToyWorkbench):
    """A refit undoes nine tenths of the damage, training `recovery` of it whatever was before."""

    def refit(
        self, model: CompressedModel, parent: CompressedModel, steps: tuple[PruneStep, ...], *, seed: int
    ) -> CompressedModel:
        return model_of(toy_of(model).kept, 0.9)


@pytest.mark.parametrize(("recovery", "left"), [(0.5, 0.9), (0.99, 0.99)], ids=["undone", "kept"])
def test_a_training_that_makes_a_refitted_network_worse_is_undone(tmp_path: Path, recovery: float, left: float) -> None:
    proposal = Proposal(parent=0, steps=(HALF_ONE,), finetune_steps=3)
    workbench = Fitting(recovery=recovery)
    trial = search(tmp_path, searcher=Scripted([(proposal,)]), workbench=workbench).trials[1]
    stored = workbench.load((HALF_ONE,), tmp_path / "trials" / "0001")
    assert toy_of(stored).recovered == pytest.approx(left, abs=1e-3)
    assert trial.accuracy == workbench.evaluate(stored)


def test_without_a_refit_a_training_is_kept_whatever_it_does(tmp_path: Path) -> None:
    workbench = ToyWorkbench(recovery=-0.5)
    proposal = Proposal(parent=0, steps=(HALF_ONE,), finetune_steps=3)
    search(tmp_path, searcher=Scripted([(proposal,)]), workbench=workbench)
    assert toy_of(workbench.load((HALF_ONE,), tmp_path / "trials" / "0001")).recovered < -0.49


def test_nothing_can_grow_from_a_rejected_trial(tmp_path: Path) -> None:
    bad = Proposal(parent=0, steps=(HALF_ONE,), min_accuracy=0.99)
    with pytest.raises(JournalError, match="trial 1 was not accepted"):
        search(tmp_path, searcher=Scripted([(bad,), (Proposal(parent=1, steps=(HALF_TWO,)),)]))


def test_seconds_are_split_by_stage_and_measurements_counted(tmp_path: Path) -> None:
    outcome = scripted(tmp_path, Proposal(parent=0, steps=(HALF_ONE,)))
    trial = outcome.trials[1]
    # The dense toy has five tasks, this one six, tuned in each of three calls; a quarter second each, as each call.
    assert trial.seconds == {"tune": 4.5, "measure": 0.75}
    assert trial.measurements == 18
    assert outcome.seconds == sum(sum(trial.seconds.values()) for trial in outcome.trials)
    assert outcome.measurements == 18 + 5


def test_time_that_no_stage_claims_is_kept_as_other(tmp_path: Path) -> None:
    ticks = iter(range(1000))
    outcome = run(
        Scripted([(Proposal(parent=0, steps=(HALF_ONE,), finetune_steps=1),)]),
        ToyWorkbench(),
        ToyOracle(tuning_s=0.0),
        header=header(),
        budget=Budget(),
        run_dir=tmp_path,
        clock=lambda: float(next(ticks)),
    )
    seconds = outcome.trials[1].seconds
    assert seconds["finetune"] == 1
    assert seconds["prune"] == 2
    assert seconds["other"] > 0


def test_the_test_split_is_never_touched(tmp_path: Path) -> None:
    workbench = ToyWorkbench()
    search(tmp_path, workbench=workbench)
    assert workbench.tested == 0


def test_a_budget_ends_a_run_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    short = search(tmp_path / "a", budget=Budget(trials=2))
    assert not short.finished
    assert short.stop_reason == "the budget of 2 trials is spent"
    whole = search(tmp_path / "b")
    search(tmp_path / "a")
    assert (tmp_path / "a" / "journal.jsonl").read_bytes() == (tmp_path / "b" / "journal.jsonl").read_bytes()
    assert whole.finished


def test_a_run_told_again_measures_nothing(tmp_path: Path) -> None:
    first = search(tmp_path)
    oracle = ToyOracle()
    second = search(tmp_path, oracle=oracle)
    assert second == first
    assert oracle.calls == {}


def test_who_watches_hears_every_trial_also_old_ones(tmp_path: Path) -> None:
    watching = Watching()
    for _ in range(2):
        run(
            Scripted([(Proposal(parent=0, steps=(HALF_ONE,)),)]),
            ToyWorkbench(),
            ToyOracle(),
            header=header(),
            budget=Budget(seconds=100),
            run_dir=tmp_path,
            progress=watching,
            clock=lambda: 0.0,
        )
    assert watching.numbers == [0, 1, 0, 1]
    assert "tuning the dense model" in watching.stages
    assert watching.etas[:2] == [98.5, 93.25]


def test_another_searcher_than_the_one_that_wrote_the_journal_is_refused(tmp_path: Path) -> None:
    scripted(tmp_path, Proposal(parent=0, steps=(HALF_ONE,)))
    with pytest.raises(JournalError, match="another version of the searcher: trial 1 would now be another one"):
        scripted(tmp_path, Proposal(parent=0, steps=(HALF_TWO,)))
    with pytest.raises(JournalError, match="another version of the searcher: the search ends after trial 0"):
        scripted(tmp_path)


def test_an_interrupt_leaves_a_folder_that_resumes_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left = 30

    def event() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), caplog.at_level(logging.WARNING):
        search(tmp_path, workbench=ToyWorkbench(event=event))
    assert "start the same command again to go on" in caplog.text
    assert len(read_journal(tmp_path / "journal.jsonl")[1]) > 1
    assert search(tmp_path).trials == search(tmp_path / "whole").trials


class Forgetful(ToyOracle):
    """Has measured no table in this process."""

    def estimate(self, models: Sequence[CompressedModel]) -> list[Cost | Failure]:
        assert "table" not in self.calls
        return super().estimate(models)


def test_a_resumed_run_prices_with_the_overhead_of_the_journal(tmp_path: Path) -> None:
    price = Proposal(parent=0, steps=(HALF_ONE,), price_only=True)
    first = scripted(tmp_path, price).trials[1]
    journal = tmp_path / "journal.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:2]))
    again = scripted(tmp_path, price, oracle=Forgetful()).trials[1]
    assert first.cost is not None
    assert again.cost == first.cost
    (without,) = ToyOracle().estimate([ToyWorkbench().build(ToyWorkbench().dense(), (HALF_ONE,))])
    assert isinstance(without, Cost)
    assert first.cost.latency_s == pytest.approx(without.latency_s + ToyOracle().overhead_s)
