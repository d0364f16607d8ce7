"""CPrune on the toy: it finds the speed-up, respects its gates and ends for a reason."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.search.toy import SETTINGS, WIDTHS, ToyOracle, ToyWorkbench, search, toy_of
from tvm_prune.compress.step import PruneStep
from tvm_prune.errors import GoalError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.oracle.cost import Failure, Ratio
from tvm_prune.search.bundle import Bundle
from tvm_prune.search.cprune import CPrune
from tvm_prune.search.options import Option
from tvm_prune.search.outcome import Outcome
from tvm_prune.search.settings import CPruneSettings, changed
from tvm_prune.search.trial import State, Trial

PAPER = replace(SETTINGS, candidates="task", tasks_per_iteration=1, counts_per_group=1, bite=0.0)


def latency(trial: Trial) -> float:
    assert trial.cost is not None
    return trial.cost.latency_s


def accuracy(trial: Trial) -> float:
    assert trial.accuracy is not None
    return trial.accuracy.fraction


def kept(trial: Trial) -> dict[str, int]:
    assert trial.proposal is not None
    return {step.group: len(step.keep) for step in trial.proposal.steps}


def tried(outcome: Outcome) -> list[Trial]:
    return [trial for trial in outcome.trials if trial.proposal is not None and not trial.proposal.price_only]


@pytest.mark.parametrize("settings", [SETTINGS, PAPER], ids=["groups", "paper"])
def test_each_accepted_step_is_faster_and_keeps_its_gates(tmp_path: Path, settings: CPruneSettings) -> None:
    outcome = search(tmp_path, settings=settings)
    accepted = outcome.accepted
    assert latency(accepted[0]) / latency(accepted[-1]) > 4
    for before, after in itertools.pairwise(accepted):
        assert latency(after) <= settings.beta * latency(before)
        assert accuracy(after) >= settings.alpha * accuracy(before)
        assert accuracy(after) >= accuracy(accepted[0]) - settings.accuracy_drop


def test_every_count_fills_whole_vectors_while_there_are_several(tmp_path: Path) -> None:
    for trial in search(tmp_path).accepted[1:]:
        assert trial.proposal is not None
        for step in trial.proposal.steps:
            if step.width >= 48:
                assert len(step.keep) % 16 == 0


def test_with_forecasts_nothing_is_measured_but_candidates(tmp_path: Path) -> None:
    settings = replace(SETTINGS, prices="forecast", tasks_per_iteration=6)
    outcome = search(tmp_path, settings=settings)
    priced = [trial for trial in outcome.trials if trial.proposal is not None and trial.proposal.price_only]
    for trial in priced:
        assert trial.proposal is not None
        assert trial.cost is None
        assert trial.proposal.forecast_s is not None
    # Bundles are priced, too.
    assert any(len(trial.proposal.steps) > 1 for trial in priced if trial.proposal is not None)
    assert all(trial.cost is not None for trial in tried(outcome))
    assert latency(outcome.accepted[-1]) < 0.25 * latency(outcome.dense)


def test_forecasts_need_no_probe(tmp_path: Path) -> None:
    settings = replace(SETTINGS, prices="forecast", harm="importance", tasks_per_iteration=6)
    outcome = search(tmp_path, settings=settings)
    assert latency(outcome.accepted[-1]) < 0.25 * latency(outcome.dense)


def test_without_a_probe_the_importance_of_channels_steers(tmp_path: Path) -> None:
    blind = search(tmp_path / "blind", workbench=ToyWorkbench(blind=True))
    told = search(tmp_path / "told", settings=replace(SETTINGS, harm="importance"))
    assert [trial.proposal.steps for trial in tried(blind) if trial.proposal] == [
        trial.proposal.steps for trial in tried(told) if trial.proposal
    ]
    assert latency(blind.accepted[-1]) < 0.25 * latency(blind.dense)


def test_what_the_ceiling_holds_back_is_tried_before_deeper_cuts(tmp_path: Path) -> None:
    class Harmless(ToyWorkbench):
        """Group "one", which saves too little by itself, is the only one whose cut does not show in a probe."""

        def probe(self, model: CompressedModel, parent: CompressedModel, steps: tuple[PruneStep, ...]) -> float | None:
            units = toy_of(model).kept
            return 0.001 * sum(WIDTHS[name] - len(units[name]) for name in ("stem", "two"))

    searcher = CPrune(replace(SETTINGS, beta=0.75))
    searcher._ceiling.told(1e-6, lost=1.0)
    first = tried(search(tmp_path, searcher=searcher, workbench=Harmless()))[0]
    assert first.proposal is not None
    assert {step.group for step in first.proposal.steps} & {"stem", "two"}
    assert all(len(step.keep) >= step.width // 2 for step in first.proposal.steps)


def test_steps_get_longer_while_no_accuracy_is_lost(tmp_path: Path) -> None:
    def longest(outcome: Outcome, number: int) -> int:
        proposal = outcome.accepted[number].proposal
        assert proposal is not None
        return max(step.width - len(step.keep) for step in proposal.steps)

    settings = replace(SETTINGS, bite=0.0, counts_per_group=1, max_iterations=2)
    unhurt = search(tmp_path / "unhurt", settings=settings, workbench=ToyWorkbench(damage=1e-4))
    assert (longest(unhurt, 1), longest(unhurt, 2)) == (16, 32)
    careful = replace(settings, accuracy_drop=0.02, max_iterations=1)
    for damage, pace in ((1e-4, 2), (80.0, 1)):
        searcher = CPrune(careful)
        search(tmp_path / str(pace), settings=careful, searcher=searcher, workbench=ToyWorkbench(damage=damage))
        assert searcher._pace == pace


def test_a_step_aims_at_its_bite(tmp_path: Path) -> None:
    small = search(tmp_path / "small", settings=replace(SETTINGS, bite=0.02))
    large = search(tmp_path / "large", settings=replace(SETTINGS, bite=0.5))
    assert len(large.accepted) < len(small.accepted)


def test_the_cheapest_importance_goes_first(tmp_path: Path) -> None:
    first = search(tmp_path).accepted[1]
    assert first.proposal is not None
    for step in first.proposal.steps:
        assert set(range(0, step.width, 4)) <= set(step.keep), "every fourth unit matters and stays"


def test_prices_are_asked_once_per_incumbent(tmp_path: Path) -> None:
    outcome = search(tmp_path)
    asked = [(trial.proposal.parent, trial.proposal.steps) for trial in outcome.trials if trial.proposal is not None]
    prices = [pair for pair, trial in zip(asked, outcome.trials[1:], strict=True) if trial.state is State.PRICED]
    assert len(prices) == len(set(prices))


def test_the_search_is_a_function_of_what_it_is_told(tmp_path: Path) -> None:
    assert search(tmp_path / "a").trials == search(tmp_path / "b").trials


def test_the_latency_floor_ends_the_search(tmp_path: Path) -> None:
    outcome = search(tmp_path, settings=replace(SETTINGS, latency_floor=0.5))
    assert outcome.stop_reason.startswith("latency floor reached: 0.")
    assert latency(outcome.accepted[-1]) <= 0.5 * latency(outcome.dense) < latency(outcome.accepted[-2])


def test_a_latency_goal_ends_the_search(tmp_path: Path) -> None:
    outcome = search(tmp_path, settings=replace(SETTINGS, latency_goal_s=3e-4))
    assert outcome.stop_reason.startswith("latency goal reached: 0.157 ms, asked for 0.300 ms")


def test_a_speedup_goal_ends_the_search(tmp_path: Path) -> None:
    outcome = search(tmp_path, settings=replace(SETTINGS, speedup_goal=2.0))
    assert outcome.stop_reason == "speed-up goal reached: 3.80, asked for 2.00"


def test_the_limit_of_steps_ends_the_search(tmp_path: Path) -> None:
    outcome = search(tmp_path, settings=replace(SETTINGS, max_iterations=1))
    assert outcome.stop_reason == "the limit of 1 accepted steps is reached"
    assert len(outcome.accepted) == 2


def test_with_no_candidate_left_the_search_ends_normally(tmp_path: Path) -> None:
    settings = replace(SETTINGS, max_sparsity=0.0)
    outcome = search(tmp_path, settings=settings)
    assert outcome.stop_reason == "no candidate is left that promises to be faster"
    assert outcome.finished
    assert len(outcome.trials) == 1


def test_the_accuracy_requirement_ends_the_search_after_smaller_steps_were_tried(tmp_path: Path) -> None:
    settings = replace(SETTINGS, accuracy_drop=0.01, latency_floor=0.0)
    outcome = search(tmp_path, settings=settings, workbench=ToyWorkbench(damage=0.9, recovery=0.5))
    assert outcome.stop_reason == "every candidate left would break the accuracy requirement of 0.9400"
    refused = [trial for trial in tried(outcome) if trial.state is State.INACCURATE]
    assert refused
    assert accuracy(outcome.accepted[-1]) >= 0.94
    assert len(tried(outcome)) < 60


def test_a_group_is_left_alone_after_accuracy_has_refused_it_twice(tmp_path: Path) -> None:
    settings = replace(SETTINGS, alpha=1.0, tasks_per_iteration=6)
    outcome = search(tmp_path, settings=settings, workbench=ToyWorkbench(recovery=0.0))
    single = [
        trial.proposal.steps[0].group for trial in tried(outcome) if trial.proposal and len(trial.proposal.steps) == 1
    ]
    assert len(outcome.accepted) == 1
    assert all(single.count(group) <= 2 for group in set(single))
    assert outcome.stop_reason.startswith("every candidate left would break the accuracy requirement")


def test_after_a_refused_bundle_a_smaller_one_is_tried(tmp_path: Path) -> None:
    settings = replace(SETTINGS, bite=0.9, tasks_per_iteration=6, alpha=0.99)
    outcome = search(tmp_path, settings=settings, workbench=ToyWorkbench(damage=4.0, recovery=0.5))
    first, second = tried(outcome)[:2]
    assert first.state is State.INACCURATE
    assert first.proposal is not None
    assert second.proposal is not None
    assert second.proposal.parent == first.proposal.parent
    assert kept(second) != kept(first)
    assert all(kept(second).get(name, width) >= kept(first).get(name, width) for name, width in WIDTHS.items())


def test_recovery_lets_the_search_go_below_the_requirement_by_that_much(tmp_path: Path) -> None:
    settings = replace(SETTINGS, accuracy_drop=0.01, latency_floor=0.0)
    strict = search(tmp_path / "a", settings=settings, workbench=ToyWorkbench(damage=0.9, recovery=0.5))
    trusting = search(
        tmp_path / "b", settings=replace(settings, recovery=0.02), workbench=ToyWorkbench(damage=0.9, recovery=0.5)
    )
    assert latency(trusting.accepted[-1]) < latency(strict.accepted[-1])
    assert accuracy(trusting.accepted[-1]) >= 0.92


class LyingOracle(ToyOracle):
    """Promises what it does not keep: compared, a candidate is no faster unless it takes less than 0.7 of the time."""

    def compare(
        self, incumbent: CompressedModel, candidate: CompressedModel, *, limit: float | None = None
    ) -> Ratio | Failure:
        ratio = super().compare(incumbent, candidate, limit=limit)
        assert isinstance(ratio, Ratio)
        unkept = replace(ratio, median=1.0, low=0.999, high=1.001, median_low=0.999, median_high=1.001)
        return unkept if ratio.median > 0.7 else ratio


@pytest.mark.parametrize("settings", [replace(SETTINGS, bite=0.02), PAPER], ids=["groups", "paper"])
def test_a_step_that_proves_too_slow_is_followed_by_a_larger_one(tmp_path: Path, settings: CPruneSettings) -> None:
    outcome = search(tmp_path, settings=settings, oracle=LyingOracle())
    slow = [trial for trial in tried(outcome) if trial.state is State.TOO_SLOW]
    assert slow
    removed = [
        sum(step.width - len(step.keep) for step in trial.proposal.steps)
        for trial in tried(outcome)
        if trial.proposal is not None and trial.proposal.parent == 0
    ]
    assert removed == sorted(removed)
    assert outcome.finished


def test_a_candidate_that_cannot_be_built_is_passed_over(tmp_path: Path) -> None:
    failing = {f'{{"stem": 64, "one": 64, "two": {count}}}' for count in range(128)}
    outcome = search(tmp_path, oracle=ToyOracle(failing=frozenset(failing)))
    assert any(trial.state is State.FAILED for trial in outcome.trials)
    assert latency(outcome.accepted[-1]) < 0.5 * latency(outcome.dense)


@pytest.mark.parametrize("harm", ["probe", "importance"])
def test_a_bundle_that_cannot_be_built_is_taken_apart(tmp_path: Path, harm: str) -> None:
    settings = changed(SETTINGS, {"bite": 0.9, "harm": harm})
    bundle = tried(search(tmp_path / "a", settings=settings))[0]
    assert bundle.proposal is not None
    assert len(bundle.proposal.steps) > 1
    widths = {"stem": 64, "one": 64, "two": 128} | {step.group: len(step.keep) for step in bundle.proposal.steps}
    again = search(tmp_path / "b", settings=settings, oracle=ToyOracle(failing=frozenset({json.dumps(widths)})))
    failed = [trial for trial in again.trials if trial.state is State.FAILED]
    assert failed[0].proposal is not None
    assert failed[0].proposal.steps == bundle.proposal.steps
    first = next(trial for trial in tried(again) if trial.state is State.ACCEPTED)
    assert first.proposal is not None
    assert kept(first) != kept(bundle)
    assert all(kept(first).get(name, width) >= kept(bundle).get(name, width) for name, width in WIDTHS.items())


def test_a_bundle_is_probed_as_a_whole_before_it_is_trained(tmp_path: Path) -> None:
    settings = replace(SETTINGS, bite=0.5)
    outcome = search(tmp_path, settings=settings, workbench=ToyWorkbench(damage=2.5, recovery=0.5))
    priced = {trial.proposal.steps for trial in outcome.trials if trial.state is State.PRICED and trial.proposal}
    for trial in tried(outcome):
        assert trial.proposal is not None
        assert trial.proposal.steps in priced


def test_after_a_refusal_no_step_is_trained_that_starts_as_badly(tmp_path: Path) -> None:
    settings = replace(SETTINGS, bite=0.9, tasks_per_iteration=6)
    outcome = search(tmp_path, settings=settings, workbench=ToyWorkbench(damage=4.0, recovery=0.5))
    distances = {
        (trial.proposal.parent, trial.proposal.steps): trial.distance
        for trial in outcome.trials
        if trial.proposal is not None and trial.proposal.probe
    }
    full = tried(outcome)
    refused = next(index for index, trial in enumerate(full) if trial.state is State.INACCURATE)
    found = []
    for trial in full[refused : refused + 2]:
        assert trial.proposal is not None
        distance = distances[trial.proposal.parent, trial.proposal.steps]
        assert distance is not None
        found.append(distance)
    assert found[1] <= found[0] / 2


def test_a_requirement_above_the_dense_accuracy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GoalError, match=r"0.9900 is required but the dense model reaches 0.9500"):
        search(tmp_path, settings=replace(SETTINGS, accuracy_requirement=0.99))


def test_epochs_become_steps(tmp_path: Path) -> None:
    settings = replace(SETTINGS, short_term_steps=None, short_term_epochs=2.0, max_iterations=1)
    outcome = search(tmp_path, searcher=CPrune(settings, steps_per_epoch=10), settings=settings)
    assert {trial.proposal.finetune_steps for trial in tried(outcome) if trial.proposal} == {20}


def test_overlapping_bundles_are_one_strike_against_a_group(tmp_path: Path) -> None:
    outcome = search(tmp_path)
    searcher = CPrune(SETTINGS)
    searcher.tell(outcome.trials[0])

    def option(group: str, count: int) -> Option:
        step = PruneStep(group=group, width=64, keep=tuple(range(count)))
        return Option(steps=(step,), loss=0.0, note="")

    one, two, more = option("one", 32), option("two", 48), option("one", 16)
    bundles = [Bundle(options=(one, two), saved_s=1e-6), Bundle(options=(more, two), saved_s=1e-6)]
    searcher._findings.refused.inaccurate = bundles
    assert searcher._close_refused()
    assert (searcher._above, searcher._banned) == ({"one": 32, "two": 48}, set())
    searcher._findings.refused.inaccurate = bundles[:1]
    assert searcher._close_refused()
    assert searcher._banned == {"one", "two"}
