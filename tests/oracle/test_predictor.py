"""Latencies learned from records: on kernels whose latency follows a known law."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from tvm import relax

from tests.oracle.kernels import the_kernel
from tests.relay_passes.graphs import conv_graph, unary_graph
from tvm_prune.errors import RecordsError
from tvm_prune.oracle import predictor
from tvm_prune.oracle.features import NAMES, KernelShape, features, shape_of, work_s
from tvm_prune.oracle.predictor import KernelRecord, Predictor
from tvm_prune.oracle.spaces.anatomy import Anatomy
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tasks import anatomy_of

TARGET = Target(threads=2, vector_bits=512)


def shape(channels: int, depth: int, size: int = 16) -> KernelShape:
    computed = -(-channels // 16) * 16
    anatomy = Anatomy(
        kind="conv2d",
        before=("pad_temp",),
        anchor="conv2d_nhwc",
        after=("relu",),
        extents=(1, size, size, computed, 3, 3, depth),
        channels=channels,
        computed_channels=computed,
        border=True,
    )
    pixels = size * size
    return KernelShape(anatomy, 4 * pixels * depth, 36 * depth * channels, 4 * pixels * channels, 4 * channels)


def law_s(found: KernelShape) -> float:
    """Return the seconds of a kernel here."""
    return 3e-6 + found.macs * 2.5e-11


def record(channels: int, depth: int) -> KernelRecord:
    found = shape(channels, depth)
    return KernelRecord(found, law_s(found))


def records(counts: Iterable[int]) -> list[KernelRecord]:
    return [record(channels, depth) for channels in counts for depth in (8, 16, 24, 32, 48, 64)]


@pytest.fixture(scope="module")
def fitted() -> Predictor:
    return Predictor.fit(records(count for count in range(8, 65, 2) if count not in (26, 28, 44)), TARGET)


def test_kernels_that_were_not_seen_are_priced_by_those_like_them(fitted: Predictor) -> None:
    for channels in (26, 28, 44):
        unseen = record(channels, 40)
        price = fitted.price(unseen.shape)
        assert price.latency_s == pytest.approx(unseen.latency_s, rel=0.15)
        assert price.low_s < price.latency_s < price.high_s


def test_the_same_records_give_the_same_prices() -> None:
    few = records(range(8, 40, 4))
    unseen = record(26, 20)
    first, second = (Predictor.fit(few, TARGET, seed=3).price(unseen.shape) for _ in range(2))
    assert first == second


def test_too_few_records_are_refused() -> None:
    with pytest.raises(RecordsError, match="needs the records of 20 kernels or more, there are 6: tune a"):
        Predictor.fit(records([8]), TARGET)


def test_a_kernel_unlike_all_on_record_is_priced_with_more_doubt(fitted: Predictor) -> None:
    def doubt(found: KernelShape) -> float:
        price = fitted.price(found)
        return math.log(price.high_s / price.low_s)

    assert doubt(shape(500, 3)) > 2 * doubt(shape(44, 40))


def test_of_very_many_records_only_some_are_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    learned: list[int] = []
    made = predictor._process

    def counting(points: np.ndarray, values: np.ndarray, *, seed: int) -> Any:
        learned.append(len(points))
        return made(points, values, seed=seed)

    monkeypatch.setattr(predictor, "_process", counting)
    monkeypatch.setattr(predictor, "_MOST", 40)
    Predictor.fit(records(range(8, 64, 4)), TARGET)
    assert learned == [40]


def test_every_feature_is_a_number_with_a_name() -> None:
    values = features(shape(28, 40), TARGET)
    assert len(values) == len(NAMES) == len(set(NAMES))
    assert all(math.isfinite(value) for value in values)
    named = dict(zip(NAMES, values, strict=True))
    assert (named["side"], named["window"], named["depthwise"]) == (4.0, math.log2(9), 0.0)
    assert (named["whole_vectors"], named["lanes"]) == (1.0, 4.0)


def test_more_work_takes_longer_and_threads_share_it() -> None:
    small, large = shape(16, 16), shape(16, 64)
    assert work_s(small, TARGET) < work_s(large, TARGET)
    assert work_s(large, Target(threads=1, vector_bits=512)) > work_s(large, TARGET)


def test_the_shape_of_a_kernel_counts_its_buffers() -> None:
    conv = the_kernel(conv_graph((5, 8), epilogue=True))
    found = shape_of(conv.function, anatomy_of(conv))
    assert (found.data_bytes, found.weight_bytes, found.result_bytes) == (4 * 16 * 5, 4 * 9 * 5 * 8, 4 * 16 * 8)
    assert found.other_bytes == 4 * (16 * 8 + 8)
    plain = the_kernel(unary_graph((2, 10), relax.op.nn.softmax))
    found = shape_of(plain.function, anatomy_of(plain))
    assert (found.weight_bytes, found.other_bytes, found.data_bytes) == (0, 0, 80)
    assert all(math.isfinite(value) for value in features(found, TARGET))
