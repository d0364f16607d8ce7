"""The maps of Winograd's filtering give the convolution, exactly in exact arithmetic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_passes.winograd_matrices import (
    INVERSE,
    SHIFTS,
    TILES,
    filter_transform,
    input_transform,
    input_vector,
    largest_output,
    output_transform,
    whole_filter_transform,
    whole_output_transform,
)


@pytest.mark.parametrize("tile", TILES)
def test_a_tile_is_the_convolution_of_its_inputs(tile: int) -> None:
    generator = np.random.default_rng(0)
    inputs, taps = generator.standard_normal(tile + 2), generator.standard_normal(3)
    products = np.stack(input_transform(tile, list(inputs))) * (filter_transform(tile) @ taps)
    expected = [inputs[place : place + 3] @ taps for place in range(tile)]
    np.testing.assert_allclose(output_transform(tile, list(products)), expected, rtol=1e-12)


@pytest.mark.parametrize("tile", TILES)
def test_the_maps_are_linear_and_read_no_more_than_they_are_given(tile: int) -> None:
    identity = np.eye(tile + 2)
    assert np.stack(input_transform(tile, list(identity))).shape == (tile + 2, tile + 2)
    assert np.stack(output_transform(tile, list(identity))).shape == (tile, tile + 2)
    with pytest.raises(IndexError):
        input_transform(tile, [1.0] * (tile + 1))


@pytest.mark.parametrize(
    ("channels", "lanes", "vector"), [(1, 16, 1), (3, 16, 2), (31, 16, 16), (31, 4, 4), (64, 16, 16)]
)
def test_a_vector_of_input_channels_is_a_power_of_two_that_there_are(channels: int, lanes: int, vector: int) -> None:
    assert input_vector(channels, lanes) == vector


def plus(factor: int, value: np.ndarray, added: np.ndarray) -> np.ndarray:
    """Return factor * value + added modulo 2^32, as a signed number."""
    return np.asarray((factor * value.astype("int64") + added).astype("int32"))


def filtered(tile: int, images: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Return the outputs of one tile [m, m] of images [C, m + 2, m + 2] and filters [C, 3, 3] in whole numbers."""
    matrix = whole_filter_transform(tile)
    weights = np.einsum("ay,cyx,bx->cab", matrix, filters, matrix)
    data = np.stack(input_transform(tile, list(np.moveaxis(images, 1, 0))), axis=1)
    data = np.stack(input_transform(tile, list(np.moveaxis(data, 2, 0))), axis=2)
    assert max(np.abs(weights).max(initial=0), np.abs(data).max(initial=0)) < 2**15
    products = (weights * data).sum(axis=0).astype("int32")  # wraps around
    rows = np.stack(whole_output_transform(tile, list(products), plus))
    outputs = np.stack(whole_output_transform(tile, list(rows.T), plus)).T
    shifts = np.array(SHIFTS[tile])
    return np.asarray(plus(INVERSE[tile], outputs, np.zeros_like(outputs)) >> (shifts[:, None] + shifts[None, :]))


def convolved(tile: int, images: np.ndarray, filters: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(1, 2))
    return np.asarray(np.einsum("chwyx,cyx->hw", windows[:, :tile, :tile], filters))


@given(seed=st.integers(0, 2**32 - 1), channels=st.integers(1, 8), tile=st.sampled_from(TILES))
def test_in_whole_numbers_a_tile_is_exactly_the_convolution(seed: int, channels: int, tile: int) -> None:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (channels, tile + 2, tile + 2))
    filters = generator.integers(-128, 128, (channels, 3, 3))
    np.testing.assert_array_equal(filtered(tile, images, filters), convolved(tile, images, filters))


def extreme(channels: int, sign: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((channels, 6, 6), 255), np.full((channels, 3, 3), sign)


@pytest.mark.parametrize("sign", [-128, 127])
def test_outputs_come_out_right_up_to_the_largest_that_32_bits_leave(sign: int) -> None:
    channels = largest_output(4) // (9 * 255 * abs(sign))
    np.testing.assert_array_equal(filtered(4, *extreme(channels, sign)), convolved(4, *extreme(channels, sign)))
    wrong = filtered(4, *extreme(channels + 1, sign))
    assert not np.array_equal(wrong, convolved(4, *extreme(channels + 1, sign)))
