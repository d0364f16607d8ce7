"""The uniform baseline: which points there are, and that each is tried once from the dense model."""

from pathlib import Path

import pytest

from tests.search.toy import ToyOracle, ToyWorkbench, header
from tvm_prune.errors import ConfigError
from tvm_prune.search.budget import Budget
from tvm_prune.search.loop import run
from tvm_prune.search.outcome import Outcome
from tvm_prune.search.trial import State
from tvm_prune.search.uniform import Uniform, UniformSettings


def baseline(run_dir: Path, settings: UniformSettings) -> tuple[Outcome, Uniform]:
    searcher = Uniform(settings)
    outcome = run(
        searcher,
        ToyWorkbench(),
        ToyOracle(),
        header=header(settings, "uniform"),
        budget=Budget(),
        run_dir=run_dir,
        clock=lambda: 0.0,
    )
    return outcome, searcher


def test_each_point_grows_from_the_dense_model_without_a_gate(tmp_path: Path) -> None:
    outcome, searcher = baseline(tmp_path, UniformSettings(ratios=(0.5, 0.3), roundings=(1,), finetune_steps=7))
    points = [trial.proposal for trial in outcome.trials[1:]]
    assert [trial.state for trial in outcome.trials] == [State.ACCEPTED] * 3
    assert all(
        point is not None and (point.parent, point.max_ratio, point.min_accuracy) == (0, None, None) for point in points
    )
    assert all(point is not None and point.finetune_steps == 7 for point in points)
    assert searcher.stop_reason == "all 2 uniform points were tried"
    assert outcome.finished


def test_every_prunable_group_keeps_the_ratio_rounded_up(tmp_path: Path) -> None:
    outcome, _ = baseline(tmp_path, UniformSettings(ratios=(0.3,), roundings=(1, 16)))
    widths = []
    for trial in outcome.trials[1:]:
        assert trial.proposal is not None
        widths.append({step.group: len(step.keep) for step in trial.proposal.steps})
    assert widths == [{"stem": 19, "one": 19, "two": 38}, {"stem": 32, "one": 32, "two": 48}]


def test_equal_models_are_tried_once_and_the_dense_one_not_again(tmp_path: Path) -> None:
    outcome, _ = baseline(tmp_path, UniformSettings(ratios=(1.0, 0.5), roundings=(1, 4, 8, 16)))
    assert len(outcome.trials) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ratios": ()}, r"ratios are \(\); give at least one"),
        ({"ratios": (1.5,)}, r"ratios are \(1.5,\)"),
        ({"roundings": (0,)}, r"roundings are \(0,\)"),
        ({"finetune_steps": -1}, "finetune_steps is -1"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        UniformSettings(**changes)  # type: ignore[arg-type]
