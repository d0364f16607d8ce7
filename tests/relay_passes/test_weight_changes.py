"""Changes of weights: what they make of the numbers, and the shape that is told beforehand."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_passes.weight_changes import apply_changes, changed_shape
from relay_passes.weight_form import PLAIN, Layout, Planes, WeightForm


def test_packing_makes_every_vector_of_outputs_one_stream() -> None:
    matrix = np.arange(12).reshape(2, 6)
    packed = apply_changes(matrix, [["pack_last", 3]])
    assert packed.shape == (2, 2, 3)
    np.testing.assert_array_equal(packed, [[[0, 1, 2], [6, 7, 8]], [[3, 4, 5], [9, 10, 11]]])
    assert packed.flags["C_CONTIGUOUS"]


def test_a_filter_in_winograds_domain_is_rounded_once() -> None:
    weight = np.random.default_rng(0).standard_normal((3, 3, 2, 5)).astype("float32")
    changed = apply_changes(weight, [["winograd", 4]])
    assert changed.shape == (6, 6, 2, 5)
    assert changed.dtype == np.float32
    # The last place of both directions is the last tap itself, the first a quarter of the first in each.
    np.testing.assert_array_equal(changed[5, 5], weight[2, 2])
    np.testing.assert_allclose(changed[0, 0], weight[0, 0] / 16, rtol=1e-6)


@given(
    channels=st.integers(1, 40),
    more=st.integers(0, 9),
    layout=st.sampled_from([layout for layout in get_args(Layout) if layout != "planes"]),
)
def test_a_form_tells_the_shape_it_makes(channels: int, more: int, layout: Layout) -> None:
    computed = channels + more
    computed += -computed % 4
    form = WeightForm(None if computed == channels else computed, layout, 0 if layout == "plain" else 4)
    weight = np.ones((3, 3, 3, channels), "int8" if form.dot else "float32")
    changed = apply_changes(weight, form.changes())
    assert changed.shape == form.shape(weight.shape)
    assert changed.dtype == form.dtype(str(weight.dtype))


def test_forms_read_like_this() -> None:
    assert str(PLAIN) == ""
    assert str(WeightForm(32)) == "padded to 32 channels"
    assert str(WeightForm(None, "packed", 16)) == "packed by 16"
    assert str(WeightForm(20, "winograd4", 4)) == "padded to 20 channels, Winograd F(4x4) by 4"
    planes = WeightForm(layout="planes", lanes=32, planes=Planes(2, 1, 16, table=True))
    assert str(planes) == "planes of 2x1 bits in words of 16 by 32"
    assert str(WeightForm(None, "winograd2_dot", 8)) == "Winograd F(2x2) in dot products by 8"


def test_only_changes_that_a_form_is_made_of_have_a_shape_beforehand() -> None:
    with pytest.raises(AssertionError, match="no form of a weight is made by 'permute'"):
        changed_shape((2, 3), [["permute", [1, 0]]])
