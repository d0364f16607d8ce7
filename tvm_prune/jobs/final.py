"""The last retraining: of the fastest accepted trial that holds the accuracy requirement after it."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from tvm_prune.codec import STRICT, decode, dumps
from tvm_prune.errors import ConfigError, RecipeError, WeightsError
from tvm_prune.files import write_atomically
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.jobs.watcher import Watcher
from tvm_prune.search.outcome import Outcome
from tvm_prune.search.trial import Accuracy, Trial
from tvm_prune.search.workbench import Workbench

__all__ = ["Final", "retrain"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Final:
    """The chosen trial, its retrained model, its accuracy on the validation split, and what was tried before it."""

    number: int
    model: CompressedModel
    validation: Accuracy
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Record:
    steps: int
    lr: float
    validation: Accuracy
    __pydantic_config__ = STRICT


def retrain(
    outcome: Outcome,
    workbench: Workbench,
    *,
    steps: int,
    lr: float,
    requirement: float,
    folder: Path,
    watcher: Watcher,
) -> Final:
    """Retrain accepted trials for `steps` optimizer steps, the last one first, until one reaches `requirement` (0..1).

    `lr` is the rate that the workbench trains with: what was retrained otherwise is retrained again.

    The search may have gone below the requirement, trusting in this. A retraining that loses accuracy is undone. What
    was retrained before a kill is read back from `folder`. With no trial that reaches the requirement the dense model
    is the answer.
    """
    notes = []
    for trial in reversed(outcome.accepted[1:]):
        stem = folder / f"{trial.number:04d}"
        watcher.stage(f"retrain trial {trial.number} for {steps} steps")
        known = _known(outcome, workbench, number=trial.number, stem=stem, steps=steps, lr=lr)
        if known is None:
            known = _retrained(outcome, workbench, trial, steps=steps)
            workbench.save(known[0], outcome.steps(trial.number), stem)
            write_atomically(_record_path(stem), dumps(_Record(steps=steps, lr=lr, validation=known[1])) + "\n")
        model, accuracy = known
        assert trial.accuracy is not None
        how = " after retraining" if accuracy.fraction > trial.accuracy.fraction else " (retraining brought no more)"
        reached = f"trial {trial.number} reaches {accuracy.fraction:.2%} on the validation split{how}"
        if accuracy.fraction >= requirement:
            notes.append(f"{reached}, {requirement:.2%} is required.")
            return Final(number=trial.number, model=model, validation=accuracy, notes=tuple(notes))
        notes.append(f"{reached}, below the required {requirement:.2%}: the trial before it is taken.")
        watcher.note(notes[-1])
    notes.append("No accepted trial reaches the requirement: the result is the dense model, tuned.")
    dense = outcome.dense.accuracy
    assert dense is not None
    return Final(number=0, model=workbench.dense(), validation=dense, notes=tuple(notes))


def _retrained(outcome: Outcome, workbench: Workbench, trial: Trial, *, steps: int) -> tuple[CompressedModel, Accuracy]:
    model = outcome.model(trial.number, workbench)
    if not steps:
        return model, workbench.evaluate(model)
    trained = workbench.finetune(model, steps=steps, seed=trial.seed, final=True)
    accuracy = workbench.evaluate(trained)
    assert trial.accuracy is not None
    return (trained, accuracy) if accuracy.fraction >= trial.accuracy.fraction else (model, trial.accuracy)


def _record_path(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.accuracy.json")


def _known(
    outcome: Outcome, workbench: Workbench, *, number: int, stem: Path, steps: int, lr: float
) -> tuple[CompressedModel, Accuracy] | None:
    """Return what an earlier start retrained, None if nothing whole is there."""
    path = _record_path(stem)
    if not path.exists():
        return None
    try:
        record = decode(_Record, json.loads(path.read_text()))
        if (record.steps, record.lr) != (steps, lr):
            return None
        return workbench.load(outcome.steps(number), stem), record.validation
    except (ConfigError, RecipeError, WeightsError, json.JSONDecodeError) as error:
        logger.warning("%s cannot be used (%s): the trial is retrained", path, error)
        return None
