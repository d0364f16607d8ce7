"""Rounding in torch is that of the integer graph, and gradients pass through it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from relay_passes import integer_arrays
from tvm_prune.graph import integer_ops
from tvm_prune.graph.integer_ops import integer_weight, stored, weight_scales

FILTERS = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.floats(-4, 4, width=32)
)


def test_values_are_rounded_half_up_and_cut_off_at_the_ends() -> None:
    value = torch.tensor([-9.0, -0.25, 0.24, 0.25, 0.75, 1000.0])
    rounded = stored(value, 0.5, 3)
    assert rounded.tolist() == [-1.5, 0.0, 0.0, 0.5, 1.0, (255 - 3) * 0.5]


@given(st.floats(-50, 50, width=32), st.floats(1e-3, 1.0), st.integers(0, 255))
def test_a_value_within_range_moves_by_half_a_step_at_most(value: float, scale: float, zero_point: int) -> None:
    rounded = float(stored(torch.tensor([value]), scale, zero_point))
    low, high = -zero_point * scale, (255 - zero_point) * scale
    if low <= value <= high:
        assert abs(rounded - value) <= 0.5001 * scale
    else:
        assert rounded == pytest.approx(low if value < low else high, rel=1e-5)


@given(FILTERS)
def test_scales_and_integers_of_weights_are_those_that_are_compiled(weight: np.ndarray) -> None:
    scales = weight_scales(torch.from_numpy(weight)).numpy()
    np.testing.assert_array_equal(scales, integer_arrays.weight_scales(weight))
    made = integer_arrays.integer_array(integer_arrays.IntegerArray("weight", "w"), {"w": weight})
    np.testing.assert_allclose(integer_weight(torch.from_numpy(weight)).numpy(), made * scales[:, None], atol=1e-6)


def test_both_sides_have_the_same_limits() -> None:
    assert (integer_ops.WEIGHT_LIMIT, integer_ops.SPREAD) == (integer_arrays.WEIGHT_LIMIT, integer_arrays.SPREAD)


def test_gradients_reach_values_within_range_and_weights() -> None:
    value = torch.tensor([-1.0, 0.3, 900.0], requires_grad=True)
    stored(value, 0.5, 0).sum().backward()
    assert value.grad is not None
    assert value.grad.tolist() == [0.0, 1.0, 0.0]
    weight = torch.randn(3, 2, requires_grad=True)
    (integer_weight(weight) * torch.arange(6.0).reshape(3, 2)).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
