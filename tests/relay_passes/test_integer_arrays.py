"""The arrays of an integer graph follow from the float ones as written down."""

import numpy as np
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from relay_passes.integer_arrays import (
    LARGEST_SUM,
    SPREAD,
    IntegerArray,
    WeightFormat,
    integer_array,
    largest_sums,
    weight_limit,
    weight_scales,
)

FILTERS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3), st.just(3)),
    elements=st.floats(-8, 8, width=32),
)
WEIGHT = np.array([[[[1.0]], [[-2.0]]], [[[0.5]], [[0.25]]], [[[0.0]], [[0.0]]]], np.float32)
STATE = {"w": WEIGHT, "b": np.array([0.1, -0.3, 2.0], np.float32)}


SUBNORMAL = np.full((1, 1, 3, 3), 1e-45, np.float32)


@given(FILTERS, st.integers(2, 8))
@example(SUBNORMAL, 8)
def test_every_weight_is_within_half_a_step_of_its_integer(weight: np.ndarray, bits: int) -> None:
    integers = integer_array(IntegerArray("weight", "w", format=WeightFormat(bits)), {"w": weight})
    scales = weight_scales(weight, bits).reshape(-1, 1, 1, 1)
    assert integers.dtype == np.int8
    assert np.abs(integers.astype(int)).max() <= weight_limit(bits)
    assert (np.abs(integers * scales - weight) <= scales * 0.50001).all()


def test_of_one_bit_weights_are_one_or_minus_one_times_their_mean_magnitude() -> None:
    made = IntegerArray("weight", "w", format=WeightFormat(1))
    assert integer_array(made, STATE).reshape(3, 2).tolist() == [[1, -1], [1, 1], [1, 1]]
    assert weight_scales(WEIGHT, 1).tolist() == [1.5, 0.375, np.float32(1.5 / SPREAD)]


def test_given_scales_are_used_and_what_is_beyond_them_is_cut_off() -> None:
    made = IntegerArray("weight", "w", source_scale=2.0, format=WeightFormat(4, "s"))
    state = {**STATE, "s": np.array([0.5, 0.01, 1.0], np.float32)}
    assert integer_array(made, state).reshape(3, 2).tolist() == [[2, -4], [7, 7], [0, 0]]
    multiplier = integer_array(IntegerArray("multiplier", "w", None, 2.0, format=made.format), state)
    np.testing.assert_allclose(multiplier, 2 * state["s"])


def test_the_largest_weight_of_a_channel_is_127_and_a_channel_of_zeros_stays_zeros() -> None:
    integers = integer_array(IntegerArray("weight", "w"), STATE)
    assert integers.reshape(3, 2).tolist() == [[64, -127], [127, 64], [0, 0]]


def test_a_channel_of_tiny_weights_keeps_a_scale_that_its_bias_can_be_counted_in() -> None:
    weight = np.array([[1.0], [1e-9]], np.float32).reshape(2, 1, 1, 1)
    scales = weight_scales(weight)
    assert scales[1] == scales[0] / SPREAD
    state = {"w": weight, "b": np.array([1.0, 1.0], np.float32)}
    assert integer_array(IntegerArray("bias", "w", "b", 0.01), state)[1] == round(127 * 4096 / 0.01)


@given(FILTERS, st.integers(0, 255))
@example(SUBNORMAL, 0)
def test_no_sum_gets_larger_than_is_said(weight: np.ndarray, zero: int) -> None:
    state = {"w": weight, "b": np.linspace(-3, 3, len(weight)).astype(np.float32)}
    bias = IntegerArray("bias", "w", "b", source_scale=0.5, source_zero=zero)
    residual, shift = (IntegerArray(kind, "w", None, 0.5, 0, 0.25) for kind in ("residual", "residual_shift"))
    arrays = [IntegerArray("weight", "w"), bias, residual, IntegerArray("multiplier", "w")]
    said = largest_sums(arrays, state)["w"]
    assume(said <= LARGEST_SUM)
    integers = integer_array(arrays[0], state).reshape(len(weight), -1).astype(float)
    for inputs in (np.zeros(integers.shape[1]), np.full(integers.shape[1], 255)):
        added = 255 * integer_array(residual, state).astype(float) / 2.0 ** integer_array(shift, state)
        sums = integers @ inputs + integer_array(bias, state) + np.ceil(added)
        assert np.abs(sums).max() <= said


def test_a_bias_beyond_all_its_weights_is_more_than_a_sum_holds() -> None:
    state = {"w": np.full((1, 1, 1, 1), 1e-30, np.float32), "b": np.ones(1, np.float32)}
    assert largest_sums([IntegerArray("weight", "w"), IntegerArray("bias", "w", "b")], state)["w"] > LARGEST_SUM


def test_a_bias_is_counted_in_units_of_the_sums() -> None:
    found = integer_array(IntegerArray("bias", "w", "b", source_scale=0.01), STATE)
    units = 0.01 * weight_scales(WEIGHT).astype(np.float64)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, np.rint(STATE["b"].astype(np.float64) / units).astype(int))


def test_what_the_zero_point_of_the_source_adds_is_taken_off_the_bias() -> None:
    plain = integer_array(IntegerArray("bias", "w", "b", source_scale=0.01), STATE)
    shifted = integer_array(IntegerArray("bias", "w", "b", source_scale=0.01, source_zero=3), STATE)
    assert (plain - shifted).tolist() == [3 * (64 - 127), 3 * (127 + 64), 0]
    none = integer_array(IntegerArray("bias", "w", None, source_zero=3), STATE)
    assert none.tolist() == [-3 * (64 - 127), -3 * (127 + 64), 0]


def test_multipliers_go_from_sums_to_results_and_residuals_the_other_way() -> None:
    scales = weight_scales(WEIGHT)
    multiplier = integer_array(IntegerArray("multiplier", "w", None, 0.02, 0, 0.5), STATE)
    assert multiplier.dtype == np.float32
    np.testing.assert_allclose(multiplier, 0.02 * scales / 0.5, rtol=1e-6)
    whole, half, shift = (
        integer_array(IntegerArray(kind, "w", None, 0.02, 0, 0.5), STATE)
        for kind in ("residual", "residual_half", "residual_shift")
    )
    assert whole.dtype == half.dtype == shift.dtype == np.int32
    exact = 0.5 / (0.02 * scales.astype(np.float64))
    np.testing.assert_allclose(whole / 2.0**shift, exact, rtol=1e-4)
    np.testing.assert_array_equal(half, (1 << shift) >> 1)
    assert (255 * whole.astype(float) + half <= LARGEST_SUM).all()
