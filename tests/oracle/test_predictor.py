"""Latencies learned from records: on kernels whose latency follows a known law."""

import math
from collections.abc import Iterable

import pytest
from tvm import relax

from tests.oracle.kernels import the_kernel
from tests.relay_passes.graphs import conv_graph, unary_graph
from tvm_prune.errors import RecordsError
from tvm_prune.oracle.features import NAMES, KernelShape, features, shape_of, work_s
from tvm_prune.oracle.predictor import KernelRecord, Predictor
from tvm_prune.oracle.program import Axis, Program
from tvm_prune.oracle.spaces.anatomy import Anatomy
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tasks import anatomy_of

TARGET = Target(threads=2, vector_bits=512)


def shape(channels: int, depth: int, size: int = 16) -> KernelShape:
    anatomy = Anatomy(
        kind="conv2d",
        before=("pad_temp",),
        anchor="conv2d_nhwc",
        after=("relu",),
        extents=(1, size, size, channels, 3, 3, depth),
        channels=channels,
        computed_channels=channels,
        border=True,
    )
    pixels = size * size
    return KernelShape(anatomy, 4 * pixels * depth, 36 * depth * channels, 4 * pixels * channels, 4 * channels)


def program(channels: int, lanes: int, columns: int, size: int = 16) -> Program:
    """Return a program whose latency is that of its vectors: lanes that are not filled cost as much as filled ones."""
    vectors = math.ceil(channels / lanes)
    return Program(
        space="direct_conv",
        space_version=2,
        variant="rows inline",
        axes={
            "out_c": Axis(extent=channels, padded_extent=vectors * lanes, factors=(vectors, 1, lanes)),
            "h": Axis(extent=size, padded_extent=size, factors=(size, 1)),
            "w": Axis(extent=size, padded_extent=size, factors=(size // columns, columns)),
        },
        lanes=lanes,
        parallel=2,
        latency_s=0.0,
    )


def law_s(found: KernelShape, each: Program) -> float:
    """Return the seconds that a program takes here."""
    tiles, _, lanes = each.axes["out_c"].factors
    depth, pixels = found.anatomy.extents[-1], found.anatomy.extents[1] * found.anatomy.extents[2]
    busy = max(1.0, 8 / each.axes["w"].factors[1])
    return 3e-6 + 9 * depth * pixels * tiles * busy * 4e-10 * lanes / 16


def record(channels: int, depth: int) -> KernelRecord:
    found = shape(channels, depth)
    made = [program(channels, lanes, columns) for lanes in (8, 16) for columns in (2, 4, 8)]
    timed = [Program(**{**each.__dict__, "latency_s": law_s(found, each)}) for each in made]
    return KernelRecord(found, sorted(timed, key=lambda each: each.latency_s))


def records(counts: Iterable[int]) -> list[KernelRecord]:
    return [record(channels, depth) for channels in counts for depth in (8, 16, 24, 32, 48, 64)]


@pytest.fixture(scope="module")
def fitted() -> Predictor:
    return Predictor.fit(records(count for count in range(8, 65, 2) if count not in (26, 28, 44)), TARGET)


def test_kernels_that_were_not_seen_are_priced_by_their_fastest_program(fitted: Predictor) -> None:
    for channels in (26, 28, 44):
        unseen = record(channels, 40)
        price = fitted.price(unseen.shape, unseen.programs)
        assert price.latency_s == pytest.approx(unseen.programs[0].latency_s, rel=0.15)
        assert price.low_s < price.latency_s < price.high_s


def test_the_same_records_give_the_same_prices() -> None:
    few = records(range(8, 40, 4))
    unseen = record(26, 20)
    first, second = (Predictor.fit(few, TARGET, seed=3).price(unseen.shape, unseen.programs) for _ in range(2))
    assert first == second


def test_too_few_records_are_refused() -> None:
    with pytest.raises(RecordsError, match="needs the records of 20 kernels or more, there are 6: tune a"):
        Predictor.fit(records([8]), TARGET)


def test_every_feature_is_a_number_with_a_name() -> None:
    found = record(28, 40)
    values = features(found.shape, found.programs[0], TARGET)
    assert len(values) == len(NAMES) == len(set(NAMES))
    assert all(math.isfinite(value) for value in values)
    named = dict(zip(NAMES, values, strict=True))
    assert (named["kind_conv2d"], named["word_rows"], named["height"], named["window"]) == (1.0, 1.0, 16.0, 9.0)


def test_more_work_takes_longer_and_threads_share_it() -> None:
    small, large = record(16, 16), record(16, 64)
    assert work_s(small.shape, small.programs[0], TARGET) < work_s(large.shape, large.programs[0], TARGET)
    one = Target(threads=1, vector_bits=512)
    assert work_s(large.shape, large.programs[0], one) > work_s(large.shape, large.programs[0], TARGET)


def test_the_shape_of_a_kernel_counts_its_buffers() -> None:
    conv = the_kernel(conv_graph((5, 8), epilogue=True))
    found = shape_of(conv.function, anatomy_of(conv))
    assert (found.data_bytes, found.weight_bytes, found.result_bytes) == (4 * 16 * 5, 4 * 9 * 5 * 8, 4 * 16 * 8)
    assert found.other_bytes == 4 * (16 * 8 + 8)
    plain = the_kernel(unary_graph((2, 10), relax.op.nn.softmax))
    found = shape_of(plain.function, anatomy_of(plain))
    assert (found.weight_bytes, found.other_bytes, found.data_bytes) == (0, 0, 80)
    assert all(math.isfinite(value) for value in features(found, program(10, 2, 2), TARGET))
