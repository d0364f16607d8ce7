"""The knobs: presets, changes by name, and what is refused."""

from dataclasses import replace

import pytest

from tvm_prune.codec import decode, encode
from tvm_prune.errors import ConfigError, GoalError
from tvm_prune.search.settings import PRESETS, CPruneSettings, changed, parse_assignments, preset


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_survives_json(name: str) -> None:
    assert decode(CPruneSettings, encode(preset(name))) == preset(name)


def test_the_paper_preset_has_the_values_of_the_paper() -> None:
    paper = preset("paper")
    assert (paper.alpha, paper.beta, paper.max_sparsity, paper.latency_floor) == (0.995, 0.99, 0.8, 0.1)
    assert (paper.max_iterations, paper.criterion, paper.candidates) == (100, "l1", "task")
    assert (paper.trials_per_task, paper.final_trials_per_task) == (70, 700)
    assert paper.short_steps(steps_per_epoch=782) == 5 * 782
    assert paper.long_steps(steps_per_epoch=782) == 20 * 782


def test_the_cpu_preset_counts_optimizer_steps() -> None:
    assert preset("cpu").short_steps(steps_per_epoch=1000) == preset("cpu").short_term_steps


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ConfigError, match="no preset 'gpu'; choose one of cpu, demo, paper"):
        preset("gpu")


def test_settings_change_by_name() -> None:
    changes = parse_assignments(["alpha=0.9", "criterion=l2", "short_term_steps=null", "short_term_epochs=2"])
    settings = changed(preset("cpu"), changes)
    assert (settings.alpha, settings.criterion, settings.short_term_epochs) == (0.9, "l2", 2.0)
    assert settings.short_steps(steps_per_epoch=7) == 14


def test_an_unknown_setting_names_its_neighbours() -> None:
    with pytest.raises(ConfigError, match="no setting 'alfa'; did you mean alpha"):
        changed(preset("cpu"), {"alfa": 1})


def test_an_assignment_without_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot read the setting 'alpha'; write it as name=value"):
        parse_assignments(["alpha"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 1.5}, "alpha is 1.5; it must lie between 0 and 1"),
        ({"max_sparsity": 1.0}, "max_sparsity is 1.0; it must lie between 0 and 0.99"),
        ({"max_iterations": 0}, "max_iterations is 0"),
        ({"speedup_goal": 0.5}, "speedup_goal is 0.5"),
        ({"latency_goal_s": -1.0}, "latency_goal_s is -1"),
        ({"short_term_epochs": 1.0}, "give exactly one of the two"),
        ({"final_steps": None}, "final_steps is None and final_epochs is None"),
        ({"candidates": "layers"}, "candidates"),
        ({"tasks_per_iteration": "many"}, "tasks_per_iteration"),
    ],
)
def test_a_value_out_of_range_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        changed(preset("cpu"), changes)


def test_the_requirement_is_a_drop_from_dense_unless_given() -> None:
    assert CPruneSettings(accuracy_drop=0.02).requirement(0.9) == pytest.approx(0.88)
    assert CPruneSettings(accuracy_requirement=0.85).requirement(0.9) == 0.85


def test_a_requirement_above_the_dense_accuracy_is_refused() -> None:
    with pytest.raises(GoalError, match=r"accuracy of 0.9500 is required but the dense model reaches 0.9000"):
        CPruneSettings(accuracy_requirement=0.95).requirement(0.9)


def test_no_training_is_a_budget_of_zero_steps() -> None:
    settings = CPruneSettings(short_term_steps=None, short_term_epochs=0.0, final_steps=0)
    assert settings.short_steps(steps_per_epoch=100) == 0
    assert settings.long_steps(steps_per_epoch=100) == 0


def test_a_speedup_goal_beyond_the_latency_floor_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"ends the search at 10 times the speed, before speedup_goal=12"):
        CPruneSettings(speedup_goal=12)
    assert CPruneSettings(speedup_goal=12, latency_floor=0.05).speedup_goal == 12


def test_a_users_finetune_needs_settings_in_epochs() -> None:
    with pytest.raises(ConfigError, match="short_term_steps is 100, but your finetune function counts epochs"):
        CPruneSettings().require_epochs()
    half = CPruneSettings(short_term_steps=None, short_term_epochs=1)
    with pytest.raises(ConfigError, match="final_steps is 1000, but your finetune function counts epochs"):
        half.require_epochs()
    replace(half, final_steps=None, final_epochs=20).require_epochs()
