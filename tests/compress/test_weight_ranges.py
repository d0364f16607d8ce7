"""Scales of weights of few bits are those of the least error."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from tvm_prune.compress.weight_ranges import fitted_scales
from tvm_prune.graph.integer_ops import integer_weight, weight_scales


@given(st.integers(1, 7), st.integers(0, 1000))
def test_they_are_never_worse_than_the_whole_range(bits: int, seed: int) -> None:
    weight = torch.randn(3, 4, 3, 3, generator=torch.Generator().manual_seed(seed))
    scales = fitted_scales(weight, bits)
    fitted, whole = (
        (integer_weight(weight, bits, each) - weight).square().flatten(1).sum(1)
        for each in (scales, weight_scales(weight, bits))
    )
    assert bool((fitted <= whole).all())


def test_of_two_bits_they_leave_a_lone_large_weight_out() -> None:
    weight = torch.tensor([[1.0] * 20 + [3.0]])
    assert float(fitted_scales(weight, 2)) < 1.2


def test_a_channel_of_zeros_has_some_scale() -> None:
    assert bool((fitted_scales(torch.zeros(2, 3), 4) > 0).all())
