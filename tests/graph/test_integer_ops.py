"""Rounding in torch is that of the integer graph, and gradients pass through it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from relay_passes import integer_arrays
from tvm_prune.graph import integer_ops
from tvm_prune.graph.integer_ops import integer_weight, stored, weight_limit, weight_scales

FILTERS = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.floats(-4, 4, width=32)
)


def test_values_are_rounded_half_up_and_cut_off_at_the_ends() -> None:
    value = torch.tensor([-9.0, -0.25, 0.24, 0.25, 0.75, 1000.0])
    rounded = stored(value, 0.5, 3, 255)
    assert rounded.tolist() == [-1.5, 0.0, 0.0, 0.5, 1.0, (255 - 3) * 0.5]


@given(st.floats(-50, 50, width=32), st.floats(1e-3, 1.0), st.integers(0, 255))
def test_a_value_within_range_moves_by_half_a_step_at_most(value: float, scale: float, zero_point: int) -> None:
    rounded = float(stored(torch.tensor([value]), scale, zero_point, 255))
    low, high = -zero_point * scale, (255 - zero_point) * scale
    if low <= value <= high:
        assert abs(rounded - value) <= 0.5001 * scale
    else:
        assert rounded == pytest.approx(low if value < low else high, rel=1e-5)


def test_fewer_bits_have_fewer_values() -> None:
    value = torch.linspace(-9, 9, 181)
    assert sorted(set(stored(value, 0.5, 1, 3).tolist())) == [-0.5, 0.0, 0.5, 1.0]


@given(FILTERS, st.integers(1, 8))
def test_scales_and_integers_of_weights_are_those_that_are_compiled(weight: np.ndarray, bits: int) -> None:
    scales = weight_scales(torch.from_numpy(weight), bits).numpy()
    np.testing.assert_allclose(scales, integer_arrays.weight_scales(weight, bits), rtol=0 if bits > 1 else 1e-6)
    form = integer_arrays.WeightFormat(bits, "s")
    made = integer_arrays.IntegerArray("weight", "w", format=form)
    integers = integer_arrays.integer_array(made, {"w": weight, "s": scales})
    rounded = integer_weight(torch.from_numpy(weight), bits, torch.from_numpy(scales))
    np.testing.assert_array_equal(rounded.numpy(), integers * scales[:, None])
    assert torch.equal(integer_weight(torch.from_numpy(weight), bits), rounded)


def test_both_sides_have_the_same_limits() -> None:
    assert integer_ops.SPREAD == integer_arrays.SPREAD
    assert [weight_limit(bits) for bits in range(1, 9)] == [1, 1, 3, 7, 15, 31, 63, 127]
    assert [integer_arrays.weight_limit(bits) for bits in range(1, 9)] == [1, 1, 3, 7, 15, 31, 63, 127]


def test_gradients_reach_values_within_range_and_weights() -> None:
    value = torch.tensor([-1.0, 0.3, 900.0], requires_grad=True)
    stored(value, 0.5, 0, 255).sum().backward()
    assert value.grad is not None
    assert value.grad.tolist() == [0.0, 1.0, 0.0]
    weight = torch.randn(3, 2, requires_grad=True)
    (integer_weight(weight) * torch.arange(6.0).reshape(3, 2)).sum().backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, torch.arange(6.0).reshape(3, 2))


def test_gradients_reach_scales_by_what_rounding_has_moved_and_by_the_limit_beyond() -> None:
    weight = torch.tensor([[0.3, -5.0]], requires_grad=True)
    scales = torch.tensor([0.5], requires_grad=True)
    integer_weight(weight, 3, scales).sum().backward()
    assert weight.grad is not None
    assert scales.grad is not None
    assert weight.grad.tolist() == [[1.0, 0.0]]
    # 0.3 / 0.5 is rounded from 0.6 to 1; -5 is cut off at -3.
    assert scales.grad.tolist() == pytest.approx([(1 - 0.6) - 3])


def test_of_one_bit_gradients_reach_weights_within_a_step() -> None:
    weight = torch.tensor([[0.3, -5.0, 0.0]], requires_grad=True)
    rounded = integer_weight(weight, 1, torch.tensor([2.0]))
    assert rounded.tolist() == [[2.0, -2.0, 2.0]]
    rounded.sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [[1.0, 0.0, 1.0]]
