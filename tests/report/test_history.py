"""What a searcher tried, and where its own time went."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tvm_prune.report.history import history_lines, history_sheet, seconds_sheet, stage_seconds
from tvm_prune.report.markdown import to_markdown
from tvm_prune.search.trial import State, Trial


def test_the_history_reads_as_agreed(trials: tuple[Trial, ...], golden: Callable[[str, str], None]) -> None:
    lines = history_lines(trials)
    golden("history.md", to_markdown(history_sheet(lines, priced=1, stop_reason="latency goal reached")))
    golden("seconds.md", to_markdown(seconds_sheet(trials)))


def test_priced_trials_are_left_out(trials: tuple[Trial, ...]) -> None:
    assert [line.trial for line in history_lines(trials)] == [0, 2, 3, 4]
    assert all(line.state is not State.PRICED for line in history_lines(trials))


def test_stage_seconds_add_up_most_costly_first(trials: tuple[Trial, ...]) -> None:
    seconds = stage_seconds(trials)
    assert next(iter(seconds.items())) == ("tune", 41.0)
    assert sum(seconds.values()) == sum(sum(trial.seconds.values()) for trial in trials)


def test_no_trials_give_an_empty_sheet() -> None:
    assert history_lines(()) == ()
    assert seconds_sheet(()).rows == ()


def test_latency_follows_the_paired_ratios_not_the_single_readings(trials: tuple[Trial, ...]) -> None:
    reread = replace(trials[-1], cost=replace(trials[-1].cost, latency_s=9.9))  # type: ignore[type-var]
    lines = history_lines((*trials[:-1], reread))
    assert lines[-1].latency_ms == pytest.approx(0.141 * 0.83)
    assert lines[0].latency_ms == pytest.approx(0.141)


def test_a_trial_that_could_not_be_built_has_no_latency(trials: tuple[Trial, ...]) -> None:
    failed = replace(trials[2], state=State.FAILED, cost=None, ratio=None, note="build: no")
    (line,) = [line for line in history_lines((trials[0], failed)) if line.state is State.FAILED]
    assert line.latency_ms is None
    assert history_sheet((line,)).rows[0][4] == "-"
