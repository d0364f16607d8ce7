"""What tuning is told, and what it tells while it goes on."""

from dataclasses import dataclass

__all__ = ["TuneProgress", "TuneSettings"]


@dataclass(frozen=True, kw_only=True)
class TuneSettings:
    """Programs tried for one kernel, seconds of one timed block, finalists timed again in alternating rounds.

    `trials_per_task` is the most for one kernel. The first wave tries `explore_trials` of each, every further one
    `wave_trials` of those that may still win: of kernels that compute the same thing, those within `promising` times
    the fastest (half of that margin after each wave), and of these the ones that the last wave made at least
    `least_gain` faster. A task below `least_share` of what its model takes has no further wave. Kernels that differ
    from tuned ones in the epilogue alone are tried with the `follow_trials` fastest programs of those: of each within
    `follow_margin` times the fastest of its task. Kernels that may win are also tried with up to `follow_trials`
    programs that are the fastest of kernels with nearly as many channels. In the end the `contest_programs` fastest
    programs of a task, of those within `contest_margin` of its fastest, the fastest of every kernel within that margin,
    and what such relatives run are timed beside each other for `contest_rounds`. A kernel whose record has fewer trials
    than these rules give it is tuned further: models are compared only at equal depth.
    """

    trials_per_task: int = 24
    explore_trials: int = 2
    wave_trials: int = 3
    promising: float = 1.25
    least_gain: float = 0.05
    least_share: float = 0.015
    follow_trials: int = 2
    follow_margin: float = 1.08
    contest_margin: float = 1.2
    contest_programs: int = 4
    contest_rounds: int = 11
    block_s: float = 1e-3
    finalists: int = 4
    rounds: int = 5
    build_timeout_s: float = 120.0
    run_timeout_s: float = 30.0


@dataclass(frozen=True)
class TuneProgress:
    """How far tuning is: stage (build, measure, compare), kernels done and in all, trials, kernel in hand."""

    stage: str
    done: int
    total: int
    trials: int
    task: str
