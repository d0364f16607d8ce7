"""Sums and products of integers of 32 bits are right modulo 2^32, in vectors and one by one."""

import numpy as np
import pytest
import tvm
from tvm import s_tir, te

from relay_passes.wrapping import register_wrapping, wrapping

LANES = 8


def kernel(factor: int, *, vectors: bool, right: int = 0) -> tvm.runtime.Module:
    """Return a compiled kernel of (values, added, result): (factor * values + added) >> right."""
    register_wrapping()
    values, added = (te.placeholder((64,), "int32", name) for name in ("values", "added"))
    result = te.compute((64,), lambda i: wrapping(factor, values(i), added(i)) >> right, name="result")
    schedule = s_tir.Schedule(te.create_prim_func([values, added, result]))
    (loop,) = schedule.get_loops(schedule.get_sblock("result"))
    if vectors:
        _, lane = schedule.split(loop, [None, LANES])
        schedule.vectorize(lane)
    return tvm.compile(schedule.mod, target="llvm")


def arrays() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    extremes = np.array([-(2**31), -(2**31) + 1, -1, 0, 1, 2**31 - 1])
    found = [np.concatenate([generator.permutation(extremes), generator.integers(-(2**31), 2**31, 58)]) for _ in "ab"]
    return found[0].astype("int32"), found[1].astype("int32")


@pytest.mark.parametrize("vectors", [True, False])
@pytest.mark.parametrize("factor", [1, -1, 2, -2, 6, 954437177, 0])
def test_a_sum_wraps_around(factor: int, vectors: bool) -> None:
    values, added = arrays()
    result = tvm.runtime.tensor(np.zeros(64, "int32"))
    kernel(factor, vectors=vectors)["main"](tvm.runtime.tensor(values), tvm.runtime.tensor(added), result)
    expected = (factor * values.astype("int64") + added).astype("int32")
    np.testing.assert_array_equal(result.numpy(), expected)


@pytest.mark.parametrize("vectors", [True, False])
def test_a_shift_behind_it_sees_the_sum_that_has_wrapped_around(vectors: bool) -> None:
    # With a promise of no overflow LLVM would cancel both: (8 * v) >> 3 is v then.
    values = np.full(64, 2**30, "int32")
    result, none = (tvm.runtime.tensor(np.zeros(64, "int32")) for _ in "ab")
    kernel(8, vectors=vectors, right=3)["main"](tvm.runtime.tensor(values), none, result)
    np.testing.assert_array_equal(result.numpy(), np.zeros(64))


def test_floats_under_the_same_operator_are_what_they_were() -> None:
    register_wrapping()
    values = te.placeholder((8,), "float32", "values")
    result = te.compute((8,), lambda i: tvm.tirx.call_intrin("float32", "tirx.fma", values(i), values(i), values(i)))
    compiled = tvm.compile(te.create_prim_func([values, result]), target="llvm")
    array, found = np.arange(8, dtype="float32"), tvm.runtime.tensor(np.zeros(8, "float32"))
    compiled["main"](tvm.runtime.tensor(array), found)
    np.testing.assert_array_equal(found.numpy(), array * array + array)
