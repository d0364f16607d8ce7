"""Vectorised loops of an awkward extent become whole vectors that overlap, and compute the same."""

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import te, tirx
from tvm.s_tir import Schedule

from relay_passes.overlap_tails import OverlapTails
from tests.examples import few


def doubled(extent: int) -> tvm.IRModule:
    """Return 2x + 1 over rows of `extent` values, each row one vectorised loop."""
    source = te.placeholder((3, extent), name="source")
    result = te.compute((3, extent), lambda row, column: source[row, column] * 2.0 + 1.0, name="result")
    schedule = Schedule(te.create_prim_func([source, result]))
    schedule.vectorize(schedule.get_loops(schedule.get_sblock("result"))[-1])
    return schedule.mod


def vectors(module: tvm.IRModule) -> list[int]:
    """Return the extents of the vectorised loops."""
    lines = [line for line in module.script().splitlines() if "T.vectorized" in line]
    return [int(line.partition("T.vectorized(")[2].partition(")")[0]) for line in lines]


def check(module: tvm.IRModule, extent: int) -> None:
    library = tvm.compile(module, target=tvm.target.Target({"kind": "llvm", "opt-level": 0}))
    source = np.arange(3 * extent, dtype="float32").reshape(3, extent)
    result = tvm.runtime.tensor(np.full((3, extent), np.nan, "float32"))
    library["main"](tvm.runtime.tensor(source), result)
    np.testing.assert_array_equal(result.numpy(), source * 2 + 1)


@pytest.mark.parametrize(
    ("extent", "lanes", "expected"),
    [(31, 16, [16]), (17, 16, [16]), (13, 16, [8]), (3, 4, [2]), (100, 8, [8]), (32, 16, [32]), (8, 16, [8])],
)
def test_a_loop_is_cut_into_whole_vectors_unless_it_is_some(extent: int, lanes: int, expected: list[int]) -> None:
    assert vectors(OverlapTails(lanes)(doubled(extent))) == expected  # type: ignore[operator]


@settings(max_examples=few(15))
@given(extent=st.integers(1, 150), lanes=st.sampled_from([4, 8, 16]))
def test_it_computes_the_same(extent: int, lanes: int) -> None:
    check(OverlapTails(lanes)(doubled(extent)), extent)  # type: ignore[operator]


def test_few_vectors_are_unrolled_and_many_are_a_loop() -> None:
    assert "T.unroll(4)" in OverlapTails(4)(doubled(15)).script()  # type: ignore[operator]
    assert "T.unroll" not in OverlapTails(4)(doubled(19)).script()  # type: ignore[operator]


def test_a_sum_is_left_as_it_is_since_a_value_added_twice_would_be_wrong() -> None:
    source = te.placeholder((5, 7), name="source")
    axis = te.reduce_axis((0, 5), name="row")
    total = te.compute((7,), lambda column: te.sum(source[axis, column], axis=axis), name="total")
    schedule = Schedule(te.create_prim_func([source, total]))
    block = schedule.get_sblock("total")
    column, row = schedule.get_loops(block)
    schedule.reorder(row, column)
    schedule.vectorize(column)
    assert vectors(OverlapTails(4)(schedule.mod)) == [7]  # type: ignore[operator]


def test_what_is_no_kernel_is_passed_over() -> None:
    module = tvm.IRModule({"name": tvm.relax.ExternFunc("name")})
    assert list(OverlapTails(4)(module).functions_items()) == list(module.functions_items())  # type: ignore[operator]


def test_loops_that_are_not_vectorised_stay() -> None:
    source = te.placeholder((7,), name="source")
    plain = te.create_prim_func([source, te.compute((7,), lambda index: source[index] + 1.0)])
    module = tvm.IRModule({"main": plain})
    after = OverlapTails(4)(module)["main"]  # type: ignore[operator]
    assert isinstance(after, tirx.PrimFunc)
    tvm.ir.assert_structural_equal(after, plain)
