"""What a candidate of a search costs in seconds, from its trials."""

import statistics
from collections.abc import Sequence
from typing import Any

from tvm_prune.search.trial import Trial

__all__ = ["candidate_seconds"]

# Stages that are no work of the compiler's.
_TRAINING = ("finetune", "refit", "evaluate", "probe")


def candidate_seconds(trials: Sequence[Trial]) -> dict[str, Any]:
    """Return how many candidates were priced and built, and medians of their seconds.

    `priced_s` is one price with its probe: forecast, or lowered and new tasks tuned. `built_s` is one built candidate
    by itself: compiled, compared, and if accepted its program table. `built_with_prices_s` adds all prices fetched
    since the candidate before it, also those of options not taken; these two leave training, refits and probes out.
    `built_with_training_s` is all of it, `by_stage_s` its medians by stage.
    """
    priced = [trial for trial in trials if not trial.built]
    built = [trial for trial in trials[1:] if trial.built]
    iterations: list[dict[str, float]] = []
    pending: dict[str, float] = {}
    for trial in trials[1:]:
        for stage, seconds in trial.seconds.items():
            pending[stage] = pending.get(stage, 0.0) + seconds
        if trial.built:
            iterations.append(pending)
            pending = {}
    stages = sorted({stage for each in iterations for stage in each})
    return {
        "priced": len(priced),
        "priced_s": _median([sum(trial.seconds.values()) for trial in priced]),
        "built": len(built),
        "built_s": _median([_compiler_s(trial.seconds) for trial in built]),
        "built_with_prices_s": _median([_compiler_s(each) for each in iterations]),
        "built_with_training_s": _median([sum(each.values()) for each in iterations]),
        "by_stage_s": {stage: _median([each.get(stage, 0.0) for each in iterations]) for stage in stages},
    }


def _compiler_s(seconds: dict[str, float]) -> float:
    return sum(each for stage, each in seconds.items() if stage not in _TRAINING)


def _median(values: Sequence[float]) -> float | None:
    return round(statistics.median(values), 3) if values else None
