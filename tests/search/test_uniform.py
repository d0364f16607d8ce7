"""The uniform baseline: which points there are, and that each is tried once from the dense model."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.search.toy import ToyOracle, ToyWorkbench, header, toy_of
from tvm_prune.errors import ConfigError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.oracle.cost import Cost, Failure
from tvm_prune.search.budget import Budget
from tvm_prune.search.loop import run
from tvm_prune.search.outcome import Outcome
from tvm_prune.search.trial import State
from tvm_prune.search.uniform import Uniform, UniformSettings


class Stairs(ToyOracle):
    """Prices go by whole steps of 32 channels of the stem."""

    def estimate(self, models: Sequence[CompressedModel]) -> list[Cost | Failure]:
        answers = super().estimate(models)
        steps = [math.ceil(len(toy_of(model).kept["stem"]) / 32) for model in models]
        return [
            replace(answer, latency_s=step * 1e-4) if isinstance(answer, Cost) else answer
            for answer, step in zip(answers, steps, strict=True)
        ]


def baseline(run_dir: Path, settings: UniformSettings, oracle: ToyOracle | None = None) -> tuple[Outcome, Uniform]:
    searcher = Uniform(settings)
    outcome = run(
        searcher,
        ToyWorkbench(),
        oracle or ToyOracle(),
        header=header(settings, "uniform"),
        budget=Budget(),
        run_dir=run_dir,
        clock=lambda: 0.0,
    )
    return outcome, searcher


def test_each_point_grows_from_the_dense_model_without_a_gate(tmp_path: Path) -> None:
    outcome, searcher = baseline(tmp_path, UniformSettings(ratios=(0.5, 0.3), roundings=(1,), finetune_steps=7))
    points = [trial.proposal for trial in outcome.accepted[1:]]
    assert [trial.state for trial in outcome.trials] == [State.ACCEPTED, *[State.PRICED] * 2, *[State.ACCEPTED] * 2]
    assert all(
        point is not None and (point.parent, point.max_ratio, point.min_accuracy) == (0, None, None) for point in points
    )
    assert all(point is not None and point.finetune_steps == 7 for point in points)
    assert searcher.stop_reason == "all 2 uniform points were tried"
    assert outcome.finished


def test_every_prunable_group_keeps_the_ratio_rounded_up(tmp_path: Path) -> None:
    outcome, _ = baseline(tmp_path, UniformSettings(ratios=(0.3,), roundings=(1, 16)))
    widths = []
    for trial in outcome.accepted[1:]:
        assert trial.proposal is not None
        widths.append({step.group: len(step.keep) for step in trial.proposal.steps})
    assert widths == [{"stem": 19, "one": 19, "two": 38}, {"stem": 32, "one": 32, "two": 48}]


def test_a_point_no_faster_than_a_wider_one_is_priced_but_not_trained(tmp_path: Path) -> None:
    settings = UniformSettings(ratios=(0.25, 0.5, 0.75), roundings=(1,))
    outcome, searcher = baseline(tmp_path, settings, Stairs())
    assert [trial.state for trial in outcome.trials[1:4]] == [State.PRICED] * 3
    trained = [trial.proposal.note for trial in outcome.accepted[1:] if trial.proposal is not None]
    assert trained == ["uniform 0.5, counts in multiples of 1", "uniform 0.75, counts in multiples of 1"]
    assert searcher.stop_reason == (
        "all 3 uniform points were tried; 1 of them promised to be no faster than a wider one and were not trained"
    )


def test_a_point_no_faster_than_the_dense_network_is_priced_but_not_trained(tmp_path: Path) -> None:
    class Slow(Stairs):
        """The least cut costs more than none."""

        def estimate(self, models: Sequence[CompressedModel]) -> list[Cost | Failure]:
            return [
                replace(answer, latency_s=1.0) if len(toy_of(model).kept["stem"]) == 48 else answer
                for answer, model in zip(super().estimate(models), models, strict=True)
                if isinstance(answer, Cost)
            ]

    outcome, _ = baseline(tmp_path, UniformSettings(ratios=(0.25, 0.75), roundings=(1,)), Slow())
    assert [trial.proposal.note for trial in outcome.accepted[1:] if trial.proposal is not None] == [
        "uniform 0.25, counts in multiples of 1"
    ]


def test_equal_models_are_tried_once_and_the_dense_one_not_again(tmp_path: Path) -> None:
    outcome, _ = baseline(tmp_path, UniformSettings(ratios=(1.0, 0.5), roundings=(1, 4, 8, 16)))
    assert len(outcome.accepted) == 2


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
