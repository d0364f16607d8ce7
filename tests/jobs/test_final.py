"""The last retraining goes back, trial by trial, until the accuracy is held."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.search.toy import SETTINGS, ToyWorkbench, search, toy_of
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.jobs.final import Final, retrain
from tvm_prune.jobs.watcher import Silent
from tvm_prune.search.outcome import Outcome


@dataclass
class Counting(ToyWorkbench):
    """Counts retrainings; each undoes nearly all damage."""

    trained: int = 0

    def finetune(self, model: CompressedModel, *, steps: int, seed: int, final: bool = False) -> CompressedModel:
        assert final
        self.trained += 1
        return super().finetune(model, steps=steps, seed=seed, final=final)


@pytest.fixture
def outcome(tmp_path: Path) -> Outcome:
    found = search(tmp_path / "run", settings=replace(SETTINGS, max_iterations=4))
    assert len(found.accepted) >= 3
    return found


def again(
    outcome: Outcome, workbench: Counting, folder: Path, *, requirement: float, steps: int = 50, lr: float = 0.1
) -> Final:
    return retrain(outcome, workbench, steps=steps, lr=lr, requirement=requirement, folder=folder, watcher=Silent())


def test_the_last_accepted_trial_is_taken_when_it_holds_the_accuracy(outcome: Outcome, tmp_path: Path) -> None:
    workbench = Counting(recovery=0.99)
    final = again(outcome, workbench, tmp_path / "final", requirement=0.9)
    assert final.number == outcome.accepted[-1].number
    assert final.validation.fraction >= 0.9
    assert workbench.trained == 1
    assert toy_of(final.model).kept == toy_of(outcome.model(final.number, workbench)).kept


def test_an_earlier_trial_is_taken_when_the_last_one_stays_below(outcome: Outcome, tmp_path: Path) -> None:
    workbench = Counting(recovery=0.8)
    reached = []
    for trial in outcome.accepted[1:]:
        model = workbench.finetune(outcome.model(trial.number, workbench), steps=1, seed=trial.seed, final=True)
        reached.append(workbench.evaluate(model).fraction)
    assert reached[-2] > reached[-1]
    final = again(outcome, workbench, tmp_path / "final", requirement=(reached[-1] + reached[-2]) / 2)
    assert final.number == outcome.accepted[-2].number
    assert "below the required" in final.notes[0]


def test_a_retraining_that_loses_accuracy_is_undone(outcome: Outcome, tmp_path: Path) -> None:
    workbench = Counting(recovery=0.0)
    final = again(outcome, workbench, tmp_path / "final", requirement=0.5)
    last = outcome.accepted[-1]
    assert workbench.trained == 1
    assert (final.number, final.validation) == (last.number, last.accuracy)
    assert "on the validation split (retraining brought no more)" in final.notes[0]
    assert toy_of(final.model).recovered == toy_of(outcome.model(last.number, workbench)).recovered


def test_the_dense_model_is_the_answer_when_none_holds_it(outcome: Outcome, tmp_path: Path) -> None:
    final = again(outcome, Counting(), tmp_path / "final", requirement=0.96)
    assert final.number == 0
    assert final.validation == outcome.dense.accuracy
    assert "the result is the dense model" in final.notes[-1]


def test_what_was_retrained_is_read_back(outcome: Outcome, tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    made = again(outcome, first, tmp_path / "final", requirement=0.5)
    read = again(outcome, second, tmp_path / "final", requirement=0.5)
    assert (first.trained, second.trained) == (1, 0)
    assert (made.number, made.validation) == (read.number, read.validation)
    assert toy_of(made.model).recovered == toy_of(read.model).recovered


def test_other_steps_another_rate_or_a_damaged_record_are_retrained(
    outcome: Outcome, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, workbench = tmp_path / "final", Counting()
    again(outcome, workbench, folder, requirement=0.5, steps=50)
    again(outcome, workbench, folder, requirement=0.5, steps=60)
    assert workbench.trained == 2
    again(outcome, workbench, folder, requirement=0.5, steps=60, lr=0.2)
    assert workbench.trained == 3
    (record,) = folder.glob("*.accuracy.json")
    record.write_text("{")
    again(outcome, workbench, folder, requirement=0.5, steps=60, lr=0.2)
    assert workbench.trained == 4
    assert "cannot be used" in caplog.text


def test_no_steps_means_no_training(outcome: Outcome, tmp_path: Path) -> None:
    workbench = Counting()
    assert again(outcome, workbench, tmp_path / "final", requirement=0.5, steps=0).number
    assert workbench.trained == 0
