"""Program spaces: every candidate computes what the kernel computes, replays from its record, and cuts evenly."""

import itertools
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax

from relay_passes.weight_form import WeightForm
from tests.examples import few
from tests.oracle.kernels import TARGET, outputs, record_of, the_kernel
from tests.relay_passes.graphs import conv_graph, graph, matmul_graph, tensor, unary_graph
from tvm_prune.oracle.objects import scheduled
from tvm_prune.oracle.records import Record
from tvm_prune.oracle.spaces import SPACES, enumerate_candidates, points
from tvm_prune.oracle.spaces.anatomy import dissect
from tvm_prune.oracle.spaces.candidate import Candidate, divisors, program_of_trace
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tasks import Kernel

Golden = Callable[[str, str], None]

ONE, THREE = Target(threads=1, vector_bits=128), Target(threads=3, vector_bits=128)


def pooled(kind: str) -> tvm.ir.IRModule:
    """Return a 2x2 pooling of 6x6 pixels."""
    pool = {"max": relax.op.nn.max_pool2d, "mean": relax.op.nn.avg_pool2d}[kind]
    return unary_graph((1, 6, 6, 8), lambda data: pool(data, pool_size=2, strides=2, layout="NHWC"))


def excitation() -> tvm.ir.IRModule:
    """Return a 1x1 convolution of one pixel whose result scales an image, as squeeze-and-excitation has it."""
    pixel, image, weight = tensor("pixel", 1, 1, 1, 8), tensor("image", 1, 6, 6, 12), tensor("weight", 1, 1, 8, 12)

    def body(emit: Callable[[Any], Any]) -> Any:
        made = emit(relax.op.nn.conv2d(pixel, weight, data_layout="NHWC", kernel_layout="HWIO"))
        return relax.op.multiply(image, emit(relax.op.sigmoid(made)))

    return graph([pixel, image], [weight], body)


def products(matrices: tuple[int, int], rows: int, depth: int, columns: int) -> tvm.ir.IRModule:
    """Return the products of pairs of activations, as attention has them."""
    left, right = tensor("left", *matrices, rows, depth), tensor("right", *matrices, depth, columns)
    half = relax.const(0.5)
    return graph([left, right], [], lambda emit: relax.op.multiply(emit(relax.op.matmul(left, right)), half))


CASES: dict[str, Callable[[], Kernel]] = {
    "conv 3x3": lambda: the_kernel(conv_graph((5, 8))),
    "conv 3x3, fused": lambda: the_kernel(conv_graph((5, 8), epilogue=True)),
    "conv 3x3 stride 2, fused": lambda: the_kernel(conv_graph((5, 8), stride=2, epilogue=True)),
    "conv 3x3 dilation 2, fused": lambda: the_kernel(conv_graph((4, 8), dilation=2, epilogue=True)),
    "conv 1x1": lambda: the_kernel(conv_graph((4, 8), kernel=1)),
    "conv 1x1, fused": lambda: the_kernel(conv_graph((4, 8), kernel=1, epilogue=True)),
    "conv 5x5, odd rows": lambda: the_kernel(conv_graph((3, 8), kernel=5, size=(5, 4), epilogue=True)),
    "conv 3x3, batch 2": lambda: the_kernel(conv_graph((3, 8), size=(3, 4), batch=2, epilogue=True)),
    "conv 3x3, 7 channels": lambda: the_kernel(conv_graph((7, 7), epilogue=True)),
    "conv 3x3, one thread": lambda: the_kernel(conv_graph((3, 8), epilogue=True), ONE),
    "conv 3x3, three threads": lambda: the_kernel(conv_graph((3, 12), epilogue=True), THREE),
    "grouped": lambda: the_kernel(conv_graph((8, 8), groups=2, epilogue=True)),
    "grouped, widening": lambda: the_kernel(conv_graph((4, 16), groups=2)),
    "grouped, narrowing": lambda: the_kernel(conv_graph((16, 4), groups=2)),
    "depthwise": lambda: the_kernel(conv_graph((8, 8), groups=8)),
    "depthwise stride 2, fused": lambda: the_kernel(conv_graph((8, 8), groups=8, stride=2, epilogue=True)),
    "dense": lambda: the_kernel(matmul_graph(1, 12, 10)),
    "dense with bias": lambda: the_kernel(matmul_graph(1, 12, 16, bias=True)),
    "dense, three rows": lambda: the_kernel(matmul_graph(3, 8, 8, bias=True)),
    "padded conv 17 to 32": lambda: the_kernel(conv_graph((3, 17), epilogue=True), form=WeightForm(32)),
    "padded conv stride 2": lambda: the_kernel(conv_graph((3, 7), stride=2, epilogue=True), form=WeightForm(8)),
    "padded conv, odd rows": lambda: the_kernel(conv_graph((3, 7), size=(5, 4)), form=WeightForm(8)),
    "padded depthwise": lambda: the_kernel(conv_graph((7, 7), groups=7, epilogue=True), form=WeightForm(8)),
    "dense, many rows": lambda: the_kernel(matmul_graph(12, 8, 16, bias=True)),
    "dense, many padded rows": lambda: the_kernel(matmul_graph(12, 8, 10, bias=True), form=WeightForm(16)),
    "dense, two matrices": lambda: the_kernel(products((2, 3), 8, 6, 12)),
    "padded dense": lambda: the_kernel(matmul_graph(1, 12, 10, bias=True), form=WeightForm(16)),
    "packed conv": lambda: the_kernel(conv_graph((5, 8), epilogue=True), form=WeightForm(None, "packed", 4)),
    "packed conv 7 to 8": lambda: the_kernel(conv_graph((3, 7), stride=2), form=WeightForm(8, "packed", 4)),
    "packed dense": lambda: the_kernel(matmul_graph(1, 12, 16, bias=True), form=WeightForm(None, "packed", 4)),
    "winograd": lambda: the_kernel(
        conv_graph((5, 8), size=(8, 8), epilogue=True), form=WeightForm(None, "winograd4", 4)
    ),
    "winograd, uneven": lambda: the_kernel(
        conv_graph((8, 6), size=(6, 7), epilogue=True), form=WeightForm(8, "winograd4", 4)
    ),
    "winograd, batch 2": lambda: the_kernel(
        conv_graph((4, 8), size=(3, 4), batch=2), form=WeightForm(None, "winograd2", 4)
    ),
    "excitation": lambda: the_kernel(excitation()),
    "max pool": lambda: the_kernel(pooled("max")),
    "mean pool": lambda: the_kernel(pooled("mean")),
    "global mean": lambda: the_kernel(unary_graph((1, 6, 6, 8), lambda data: relax.op.mean(data, axis=[1, 2]))),
    "transpose": lambda: the_kernel(
        unary_graph((1, 24, 24, 8), lambda data: relax.op.permute_dims(data, [0, 3, 1, 2]))
    ),
    "softmax": lambda: the_kernel(unary_graph((2, 10), relax.op.nn.softmax)),
    "everything summed": lambda: the_kernel(unary_graph((3, 4), relax.op.sum)),
}
TARGETS = {"conv 3x3, one thread": ONE, "conv 3x3, three threads": THREE}
KINDS = {"grouped": "grouped", "depthwise": "depthwise", "dense": "dense", "conv": "conv2d", "winograd": "winograd"}


@cache
def made(name: str) -> tuple[Kernel, list[Candidate]]:
    """Return a case's kernel and ALL candidates of its space."""
    found = CASES[name]()
    return found, enumerate_candidates(found.function, TARGETS.get(name, TARGET), limit=10_000)


@pytest.mark.parametrize("name", CASES)
def test_every_candidate_computes_what_the_kernel_computes(name: str) -> None:
    found, candidates = made(name)
    assert candidates
    results = outputs(
        {"plain": found.function}
        | {f"candidate{number}": item.schedule.mod["main"] for number, item in enumerate(candidates)}
    )
    expected = results.pop("plain")
    for number, candidate in enumerate(candidates):
        np.testing.assert_allclose(
            results[f"candidate{number}"], expected, rtol=1e-4, atol=1e-5, err_msg=str(candidate.program)
        )


@pytest.mark.parametrize("name", CASES)
def test_every_record_replays_to_the_same_program(name: str) -> None:
    found, candidates = made(name)
    for candidate in candidates:
        kept = record_of(found, candidate, TARGETS.get(name, TARGET))
        assert program_of_trace(kept[0], latency_s=0.0) == candidate.program
        again = scheduled(found, Record(program=candidate.program, record_json=kept, trials=1))
        tvm.ir.assert_structural_equal(again, candidate.schedule.mod["main"])


@pytest.mark.parametrize("name", CASES)
def test_no_candidate_cuts_a_loop_unevenly(name: str) -> None:
    _, candidates = made(name)
    for candidate in candidates:
        program = candidate.program
        if program.space == "sketch":
            continue  # drawn at random, it may do anything
        for role, axis in program.axes.items():
            assert math.prod(axis.factors) == axis.padded_extent, (role, program)
            assert axis.extent <= axis.padded_extent
        assert program.axes["out_c"].factors[-1] == program.lanes
        # A split that does not come out even would leave a condition behind. Only an image that is no whole number of
        # Winograd tiles has one, on its rows and columns, outside of the vectors.
        conditions = [line for line in candidate.schedule.mod.script().splitlines() if "T.where" in line]
        assert len(conditions) <= (name in ("winograd, uneven", "winograd, batch 2"))


@pytest.mark.parametrize("name", CASES)
def test_a_program_is_listed_once_and_names_its_space(name: str) -> None:
    _, candidates = made(name)
    texts = [candidate.program.name for candidate in candidates]
    scripts = [candidate.schedule.mod.script() for candidate in candidates]
    assert len(set(texts)) == len(texts)
    assert len(set(scripts)) == len(scripts)
    assert {(item.program.space, item.program.space_version) for item in candidates} <= set(SPACES.items())


@pytest.mark.parametrize("name", CASES)
def test_the_parallel_loops_are_those_the_program_says(name: str) -> None:
    found, candidates = made(name)
    for candidate in candidates:
        if candidate.program.space == "sketch":
            continue  # what a draw does is not known beforehand
        steps = record_of(found, candidate)[0][0]
        parallel = [step for step in steps if step[0] == "Parallel"]
        assert bool(parallel) == (candidate.program.parallel > 1), candidate.program
        if candidate.program.variant.startswith("serial"):
            assert candidate.program.parallel == 1


def test_a_seed_always_draws_the_same_sketch() -> None:
    found, candidates = made("softmax")
    drawn = {item.program.name: item.schedule.mod for item in candidates if item.program.space == "sketch"}
    again = {point.program.name: point for point in points(found.function, TARGET)}
    assert len(drawn) > 5
    for name, module in drawn.items():
        tvm.ir.assert_structural_equal(again[name].candidate().schedule.mod, module)


def test_what_reduces_nothing_has_no_sketches() -> None:
    _, candidates = made("transpose")
    assert {item.program.space for item in candidates} == {"loops"}


def test_a_limit_keeps_the_likeliest() -> None:
    found, candidates = made("conv 3x3, fused")
    few = enumerate_candidates(found.function, TARGET, limit=3)
    assert [item.program for item in few] == [item.program for item in candidates[:3]]


def test_kinds_are_told_apart() -> None:
    kinds = {name: dissect(CASES[name]().function).kind for name in CASES}
    for name, kind in kinds.items():
        word = name.removeprefix("padded ").removeprefix("packed ").split(",")[0].split(" ")[0]
        assert kind == KINDS.get(word, "other"), name


def test_a_padded_kernel_stores_fewer_channels_than_it_computes() -> None:
    anatomy = dissect(made("padded conv 17 to 32")[0].function)
    assert (anatomy.channels, anatomy.computed_channels) == (17, 32)
    axis = made("padded conv 17 to 32")[1][0].program.axes["out_c"]
    assert (axis.extent, axis.padded_extent) == (17, 32)


def test_the_first_programs_are_these(golden: Golden) -> None:
    lines = []
    for name in CASES:
        _, candidates = made(name)
        first = candidates[0].program
        lines.append(
            f"{name}: {first.tiles()}; {first.lanes} lanes, {first.variant}, {first.parallel} parallel; "
            f"1 of {len(candidates)}"
        )
    golden("first_programs.txt", "\n".join(lines) + "\n")


def test_a_scheduled_kernel_reads_like_this(golden: Golden) -> None:
    _, candidates = made("conv 3x3, fused")
    golden("conv_schedule.txt", candidates[0].schedule.mod["main"].script() + "\n")


@settings(max_examples=few(20))
@given(
    source=st.integers(1, 40),
    result=st.integers(1, 40),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    stride=st.integers(1, 2),
    depthwise=st.booleans(),
)
def test_any_channel_count_has_a_program_that_is_right(
    source: int, result: int, size: tuple[int, int], stride: int, depthwise: bool
) -> None:
    channels = (result, result) if depthwise else (source, result)
    graph = conv_graph(channels, size=size, stride=stride, groups=result if depthwise else 1, epilogue=True)
    found = the_kernel(graph)
    candidates = enumerate_candidates(found.function, TARGET, limit=2)
    assert candidates
    for candidate in candidates:
        axis = candidate.program.axes["out_c"]
        assert axis.extent == result
        assert result % candidate.program.lanes == 0
    both = outputs({"plain": found.function, "first": candidates[0].schedule.mod["main"]})
    np.testing.assert_allclose(both["first"], both["plain"], rtol=1e-4, atol=1e-5)


@given(number=st.integers(1, 300), at_most=st.integers(1, 40))
def test_divisors_are_all_and_only_those(number: int, at_most: int) -> None:
    assert divisors(number, at_most=at_most) == [n for n in range(1, at_most + 1) if n <= number and number % n == 0]


def test_a_point_that_cannot_be_scheduled_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from tvm.s_tir import Schedule

    found, _ = made("conv 3x3")
    every = enumerate_candidates(found.function, TARGET, limit=10_000)
    assert len(list(points(found.function, TARGET))) == len(every)
    real, calls = Schedule.parallel, itertools.count()

    def moody(schedule: Schedule, *arguments: object) -> None:
        if next(calls) == 0:
            schedule.get_sblock("nothing of this name")
        real(schedule, *arguments)

    monkeypatch.setattr(Schedule, "parallel", moody)
    assert len(enumerate_candidates(found.function, TARGET, limit=10_000)) == len(every) - 1


def test_a_kernel_of_which_no_point_can_be_scheduled_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from tvm.s_tir import Schedule, ScheduleError

    found, _ = made("conv 3x3")

    def refusing(schedule: Schedule, *_: object) -> None:
        schedule.get_sblock("nothing of this name")

    monkeypatch.setattr(Schedule, "vectorize", refusing)
    with pytest.raises(ScheduleError):
        enumerate_candidates(found.function, TARGET, limit=10_000)
