"""The maps of Winograd's filtering give the convolution, exactly in exact arithmetic."""

import numpy as np
import pytest

from relay_passes.winograd_matrices import TILES, filter_transform, input_transform, input_vector, output_transform


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
