"""A latency predictor: what kernels without a record should take, learned from those that have one.

Boosted trees (Chen and Guestrin 2016, "XGBoost") predict the logarithm of the ratio between the measured latency of a
program and a rough count of its work; so what trees cannot do, going beyond the sizes they have seen, is left to the
count. A kernel is priced as its fastest program. Several models, each trained without one part of the shapes, tell
how far off such prices are for shapes that were not seen: that is the uncertainty given with every price.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tvm_prune.errors import RecordsError
from tvm_prune.oracle.features import KernelShape, features, work_s
from tvm_prune.oracle.program import Program
from tvm_prune.oracle.target import Target

__all__ = ["KernelRecord", "Prediction", "Predictor"]

_FOLDS = 5
_FEWEST = 20
_PARAMETERS: dict[str, Any] = {
    "objective": "reg:squarederror",
    "learning_rate": 0.1,
    "max_depth": 6,
    "min_child_weight": 2.0,
    "subsample": 0.8,
    "colsample_bytree": 0.7,
    "tree_method": "hist",
}
_ROUNDS = 250


@dataclass(frozen=True)
class KernelRecord:
    """A kernel's shape and its measured programs, the fastest first."""

    shape: KernelShape
    programs: Sequence[Program]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The seconds of a kernel's fastest program: the likeliest, and between which eight of ten such kernels lie."""

    latency_s: float
    low_s: float
    high_s: float


class Predictor:
    """Prices kernels of one target. Use `fit`."""

    def __init__(self, models: Sequence[Any], target: Target, *, low: float, high: float) -> None:
        self._models = models
        self._target = target
        self._low = low
        self._high = high

    @classmethod
    def fit(cls, records: Sequence[KernelRecord], target: Target, *, seed: int = 0) -> "Predictor":
        """Learn from records. Raises RecordsError for fewer than 20 kernels."""
        if len(records) < _FEWEST:
            raise RecordsError(
                f"a predictor needs the records of {_FEWEST} kernels or more, there are {len(records)}: tune a model "
                "of this kind first"
            )
        fold = [_fold(record.shape) for record in records]
        models, residuals = [], []
        for held_back in range(_FOLDS):
            seen = [record for record, place in zip(records, fold, strict=True) if place != held_back]
            unseen = [record for record, place in zip(records, fold, strict=True) if place == held_back]
            if not seen:
                continue
            model = _train(seen, target, seed=seed + held_back)
            models.append(model)
            for record in unseen:
                predicted = min(_log_seconds([model], record.shape, record.programs, target))
                residuals.append(math.log(record.programs[0].latency_s) - predicted)
        low, high = np.quantile(residuals, [0.1, 0.9])
        return cls(models, target, low=float(low), high=float(high))

    def price(self, shape: KernelShape, programs: Sequence[Program]) -> Prediction:
        """Return what a kernel of that shape should take, with the fastest of `programs`."""
        best = min(_log_seconds(self._models, shape, programs, self._target))
        return Prediction(
            latency_s=math.exp(best), low_s=math.exp(best + self._low), high_s=math.exp(best + self._high)
        )


def _fold(shape: KernelShape) -> int:
    """Return the part that a shape belongs to: kernels of equal loops, whatever their form or epilogue, share it."""
    anatomy = shape.anatomy
    text = f"{anatomy.kind == 'other'} {shape.data_bytes} {shape.result_bytes} {anatomy.channels} {anatomy.stride}"
    return zlib.crc32(text.encode()) % _FOLDS


def _train(records: Sequence[KernelRecord], target: Target, *, seed: int) -> Any:
    import xgboost

    rows, wanted, weights = [], [], []
    for record in records:
        best_s = record.programs[0].latency_s
        for program in record.programs:
            rows.append(features(record.shape, program, target))
            wanted.append(math.log(program.latency_s / work_s(record.shape, program, target)))
            # The fast ones matter: what a kernel takes is what its fastest program takes.
            weights.append((best_s / program.latency_s) ** 2)
    data = xgboost.DMatrix(np.asarray(rows, "float32"), label=np.asarray(wanted), weight=np.asarray(weights))
    return xgboost.train({**_PARAMETERS, "seed": seed, "nthread": target.threads}, data, num_boost_round=_ROUNDS)


def _log_seconds(models: Sequence[Any], shape: KernelShape, programs: Sequence[Program], target: Target) -> list[float]:
    import xgboost

    data = xgboost.DMatrix(np.asarray([features(shape, program, target) for program in programs], "float32"))
    ratios = np.mean([model.predict(data) for model in models], axis=0)
    work = [math.log(work_s(shape, program, target)) for program in programs]
    return [float(ratio) + each for ratio, each in zip(ratios, work, strict=True)]
