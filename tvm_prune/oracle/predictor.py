"""A latency predictor: what kernels without a record should take, learned from those that have one.

A Gaussian process (Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", chapters 2 and 5) predicts
the logarithm of the ratio between the latency of a kernel's fastest program and a rough count of its work; so what it
cannot do, going beyond the sizes it has seen, is left to the count. It is the surer of a kernel the more like it are on
record.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tvm_prune.errors import RecordsError
from tvm_prune.oracle.features import KernelShape, features, work_s
from tvm_prune.oracle.target import Target

__all__ = ["KernelRecord", "Prediction", "Predictor"]

_FEWEST = 20
# Learning takes time with the cube of the kernels: more of them are thinned out.
_MOST = 3000
# Kernels that the length scale of every feature is found on.
_MOST_FOR_SCALES = 300
# Where the search for the scales starts, and how far it may go. Features are steps of a doubling, values logarithms.
_LENGTH, _LENGTHS = 2.0, (0.1, 150.0)
_SIGNALS = (1e-3, 50.0)
_NOISE, _NOISES = 0.01, (3e-4, 7.0)
# Standard deviations of a normal distribution on either side of which one value in ten lies.
_TENTH = 1.2816


@dataclass(frozen=True)
class KernelRecord:
    """A kernel's shape and the seconds of its fastest program."""

    shape: KernelShape
    latency_s: float


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The seconds of a kernel's fastest program: the likeliest, and between which eight of ten such kernels lie."""

    latency_s: float
    low_s: float
    high_s: float


class Predictor:
    """Prices kernels of one target. Use `fit`."""

    def __init__(self, process: Any, target: Target, *, mean: float) -> None:
        self._process = process
        self._target = target
        self._mean = mean

    @classmethod
    def fit(cls, records: Sequence[KernelRecord], target: Target, *, seed: int = 0) -> "Predictor":
        """Learn from records. Raises RecordsError for fewer than 20 kernels."""
        if len(records) < _FEWEST:
            raise RecordsError(
                f"a predictor needs the records of {_FEWEST} kernels or more, there are {len(records)}: tune a model "
                "of this kind first"
            )
        if len(records) > _MOST:
            chosen = np.random.default_rng(seed).permutation(len(records))[:_MOST]
            records = [records[place] for place in sorted(chosen)]
        points = np.asarray([features(record.shape, target) for record in records])
        ratios = np.asarray([math.log(record.latency_s / work_s(record.shape, target)) for record in records])
        mean = float(ratios.mean())
        return cls(_process(points, ratios - mean, seed=seed), target, mean=mean)

    def price(self, shape: KernelShape) -> Prediction:
        """Return what a kernel of that shape should take with its fastest program."""
        (ratio,), (deviation,) = self._process.predict([features(shape, self._target)], return_std=True)
        likeliest = self._mean + float(ratio) + math.log(work_s(shape, self._target))
        return Prediction(
            latency_s=math.exp(likeliest),
            low_s=math.exp(likeliest - _TENTH * float(deviation)),
            high_s=math.exp(likeliest + _TENTH * float(deviation)),
        )


def _process(points: np.ndarray, values: np.ndarray, *, seed: int) -> Any:
    """Return a process that knows `values` (of mean 0) at `points`; its scales are the likeliest of some of them."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    lengths = np.full(points.shape[1], _LENGTH)
    signal = float(np.clip(values.var(), *_SIGNALS))
    kernel = ConstantKernel(signal, _SIGNALS) * RBF(lengths, _LENGTHS) + WhiteKernel(_NOISE, _NOISES)
    chosen = np.random.default_rng(seed).permutation(len(values))[:_MOST_FOR_SCALES]
    with warnings.catch_warnings():
        # The length of a feature that tells nothing ends at its bound, as it should.
        warnings.simplefilter("ignore", ConvergenceWarning)
        scaled = GaussianProcessRegressor(kernel).fit(points[chosen], values[chosen]).kernel_
    return GaussianProcessRegressor(scaled, optimizer=None).fit(points, values)
