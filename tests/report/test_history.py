"""What a searcher tried, and where its own time went."""

from collections.abc import Callable

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
