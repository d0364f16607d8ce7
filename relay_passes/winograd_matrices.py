"""The linear maps of Winograd's minimal filtering F(m, 3): m outputs of a filter of 3 from m + 2 inputs.

In two dimensions a tile of m x m outputs costs (m + 2)^2 multiplications an input channel instead of 9 m^2: 2.25 times
fewer for m = 2, 4 times fewer for m = 4. F(6, 3) would need 1.27 times fewer still, and loses a digit of precision.
Source: A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016), section 4; the maps are
written with common terms factored out, so that equal terms are computed once. They work on whatever can be added and
multiplied by a number: arrays as well as expressions of a compiler.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["TILES", "filter_transform", "input_transform", "input_vector", "output_transform"]

# Outputs of a tile in one direction.
TILES = (2, 4)

_FILTER = {
    2: [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
    4: [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
}


def filter_transform(tile: int) -> np.ndarray:
    """Return the matrix of the filter, G of the paper: [tile + 2, 3], float64."""
    return np.array(_FILTER[tile], dtype="float64")


def input_transform(tile: int, d: Sequence[Any]) -> list[Any]:
    """Return the tile + 2 values, B' d of the paper, of the tile + 2 inputs `d`."""
    if tile == 2:
        return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]
    far, near = d[4] - d[2] * 4.0, d[3] - d[1] * 4.0
    outer, inner = d[4] - d[2], (d[3] - d[1]) * 2.0
    return [
        d[0] * 4.0 - d[2] * 5.0 + d[4],
        far + near,
        far - near,
        outer + inner,
        outer - inner,
        d[1] * 4.0 - d[3] * 5.0 + d[5],
    ]


def output_transform(tile: int, p: Sequence[Any]) -> list[Any]:
    """Return the tile outputs, A' p of the paper, of the tile + 2 products `p`."""
    if tile == 2:
        return [p[0] + p[1] + p[2], p[1] - p[2] - p[3]]
    even, odd = p[1] + p[2], p[1] - p[2]
    even_far, odd_far = p[3] + p[4], p[3] - p[4]
    return [p[0] + even + even_far, odd + odd_far * 2.0, even + even_far * 4.0, odd + odd_far * 8.0 + p[5]]


def input_vector(channels: int, lanes: int) -> int:
    """Return how many input channels one vector of the transform holds: the largest power of two there are."""
    return min(lanes, 1 << (channels.bit_length() - 1))
