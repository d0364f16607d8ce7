"""Convolutions of few bits as values: what is refused, and that packed weights are the weights."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_prune.errors import ConfigError, QuantizationError
from tvm_prune.oracle.bit_conv import BitConv, WordForm, pack_weights, unpack_weights

SMALL = {"height": 4, "width": 4, "in_channels": 3, "out_channels": 4, "w_bits": 2, "a_bits": 2}


def conv(**changes: Any) -> BitConv:
    return BitConv(**{**SMALL, **changes})


def integers(made: BitConv, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    shape = (*made.kernel, made.in_channels, made.out_channels)
    if made.w_bits == 1:
        return generator.choice([-1, 1], shape).astype("int8")
    most = 2 ** (made.w_bits - 1) - 1
    return generator.integers(-most, most, shape, "int8", endpoint=True)


@given(
    w_bits=st.integers(1, 7),
    in_channels=st.integers(1, 70),
    tiles=st.integers(1, 3),
    lanes=st.sampled_from([1, 3, 4, 16]),
    bits=st.sampled_from([16, 32, 64]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_packed_weights_unpack_to_what_they_were(
    w_bits: int, in_channels: int, tiles: int, lanes: int, bits: int, kernel: tuple[int, int]
) -> None:
    made = conv(w_bits=w_bits, in_channels=in_channels, out_channels=tiles * lanes, kernel=kernel)
    form = WordForm(bits=bits, lanes=lanes)
    packed = pack_weights(integers(made), made, form)
    assert packed.shape == form.weight_shape(made)
    assert packed.dtype == f"uint{bits}"
    np.testing.assert_array_equal(unpack_weights(packed, made, form), integers(made))


def test_the_bits_of_a_word_are_the_channels_in_order() -> None:
    made = conv(in_channels=4, out_channels=1, kernel=(1, 1), w_bits=3)
    weights = np.array([1, 2, 3, -1], "int8").reshape(1, 1, 4, 1)
    packed = pack_weights(weights, made, WordForm(bits=16, lanes=1))
    # Planes of 001, 010, 011 and 111, the first channel lowest.
    assert packed.ravel().tolist() == [0b1101, 0b1110, 0b1000]


def test_weights_of_one_bit_set_it_for_plus_one() -> None:
    made = conv(in_channels=3, out_channels=1, kernel=(1, 1), w_bits=1)
    weights = np.array([1, -1, 1], "int8").reshape(1, 1, 3, 1)
    assert pack_weights(weights, made, WordForm(bits=16, lanes=1)).ravel().tolist() == [0b101]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"w_bits": 8}, r"w_bits 8 is not in 1\.\.7; eight bits are int8's"),
        ({"a_bits": 0}, r"a_bits 0 is not in 1\.\.7"),
        ({"zero": 4}, r"zero 4 is no integer of 2 bits \(0\.\.3\)"),
        ({"stride": 0}, "has an extent below 1"),
        ({"padding": -1}, "or a padding below 0"),
        ({"kernel": (5, 5)}, "a window of 5x5 does not fit an image of 4x4 padded by 0"),
        ({"in_channels": 2**18, "w_bits": 7, "a_bits": 7}, "overflow int32"),
    ],
)
def test_what_is_out_of_range_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        conv(**changes)


def test_words_of_other_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"words of 8 bits are not among \(16, 32, 64\)"):
        WordForm(bits=8, lanes=4)


def test_lanes_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match="4 output channels are no multiple of 3 lanes"):
        WordForm(bits=16, lanes=3).weight_shape(conv())


@pytest.mark.parametrize(("w_bits", "value", "allowed"), [(2, -2, r"-1\.\.1"), (1, 0, r"-1 and \+1"), (7, 64, "63")])
def test_weights_of_more_bits_are_refused(w_bits: int, value: int, allowed: str) -> None:
    made = conv(w_bits=w_bits)
    weights = np.ones((3, 3, 3, 4), "int8")
    weights[0, 0, 0, 0] = value
    with pytest.raises(QuantizationError, match=rf"weights of {w_bits} bits are .*{allowed}; found"):
        pack_weights(weights, made, WordForm(bits=16, lanes=4))


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(QuantizationError, match=r"\(1, 3, 3, 4\) are not those of .*: \(3, 3, 3, 4\)"):
        pack_weights(np.ones((1, 3, 3, 4), "int8"), conv(), WordForm(bits=16, lanes=4))


def test_a_convolution_says_what_it_computes() -> None:
    made = conv(padding=1, stride=2)
    assert (made.out_height, made.out_width, made.macs) == (2, 2, 2 * 2 * 4 * 27)
    assert str(made) == "4x4x3 -> 4, 3x3 /2, 2 x 2 bits"
