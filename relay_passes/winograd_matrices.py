"""The linear maps of Winograd's minimal filtering F(m, 3): m outputs of a filter of 3 from m + 2 inputs.

In two dimensions a tile of m x m outputs costs (m + 2)^2 multiplications an input channel instead of 9 m^2: 2.25 times
fewer for m = 2, 4 times fewer for m = 4. F(6, 3) would need 1.27 times fewer still, and loses a digit of precision.
Source: A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016), section 4; the maps are
written with common terms factored out, so that equal terms are computed once. They work on whatever can be added and
multiplied by a number: arrays as well as expressions of a compiler.

Of integers they are exact: the rows of the filter's are multiplied by the least number that makes them whole, those of
the output's by what is missing to one common number. What comes out is the convolution times known numbers, and is
divided by them modulo 2^32: by the odd one as a product with its inverse, by the power of two as a shift. However large
the products were, the convolution is right if it has no more than the bits that are left.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = [
    "INVERSE",
    "SHIFTS",
    "TILES",
    "filter_transform",
    "input_transform",
    "input_vector",
    "largest_output",
    "output_transform",
    "whole_filter_transform",
    "whole_output_transform",
]

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

# By which the rows of the filter's matrix are multiplied in the whole numbers.
_WHOLE = {2: (1, 2, 2, 1), 4: (4, 6, 6, 24, 24, 1)}
# What the rows of the whole output transform give too much: an odd number, the same for all rows, and a power of two.
_ODD = {2: 1, 4: 3}
SHIFTS = {2: (1, 1), 4: (3, 2, 1, 1)}
# The square of the odd number, for both directions, turned around modulo 2^32.
INVERSE = {tile: pow(odd * odd, -1, 2**32) for tile, odd in _ODD.items()}


def filter_transform(tile: int) -> np.ndarray:
    """Return the matrix of the filter, G of the paper: [tile + 2, 3], float64."""
    return np.array(_FILTER[tile], dtype="float64")


def input_transform(tile: int, d: Sequence[Any], number: Callable[[int], Any] = int) -> list[Any]:
    """Return the tile + 2 values, B' d of the paper, of the tile + 2 inputs `d`.

    `number` makes the constants, for inputs whose type would not outlast a factor of another one.
    """
    if tile == 2:
        return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]
    two, four, five = number(2), number(4), number(5)
    far, near = d[4] - d[2] * four, d[3] - d[1] * four
    outer, inner = d[4] - d[2], (d[3] - d[1]) * two
    return [
        d[0] * four - d[2] * five + d[4],
        far + near,
        far - near,
        outer + inner,
        outer - inner,
        d[1] * four - d[3] * five + d[5],
    ]


def output_transform(tile: int, p: Sequence[Any]) -> list[Any]:
    """Return the tile outputs, A' p of the paper, of the tile + 2 products `p`."""
    if tile == 2:
        return [p[0] + p[1] + p[2], p[1] - p[2] - p[3]]
    even, odd = p[1] + p[2], p[1] - p[2]
    even_far, odd_far = p[3] + p[4], p[3] - p[4]
    return [p[0] + even + even_far, odd + odd_far * 2, even + even_far * 4, odd + odd_far * 8 + p[5]]


def whole_filter_transform(tile: int) -> np.ndarray:
    """Return the filter's matrix in whole numbers: [tile + 2, 3], int64."""
    return np.asarray(np.rint(filter_transform(tile) * np.array(_WHOLE[tile])[:, None]), "int64")


def whole_output_transform(tile: int, p: Sequence[Any], plus: Callable[[int, Any, Any], Any]) -> list[Any]:
    """Return the tile outputs of the tile + 2 whole products `p`, each times its row's odd number and power of two.

    `plus` gives (number) * (value) + (value), modulo 2^32 where products are large.
    """
    if tile == 2:
        even, odd = plus(1, p[1], p[2]), plus(-1, p[2], p[1])
        return [plus(2, p[0], even), plus(-2, p[3], odd)]
    even, odd = plus(1, p[1], p[2]), plus(-1, p[2], p[1])
    even_far, odd_far = plus(1, p[3], p[4]), plus(-1, p[4], p[3])
    return [
        plus(6, p[0], plus(4, even, even_far)),
        plus(2, odd, odd_far),
        plus(1, even, even_far),
        plus(6, p[5], plus(2, odd_far, odd)),
    ]


def largest_output(tile: int) -> int:
    """Return the largest magnitude of a convolution that comes out right: 32 bits less those that are shifted out."""
    return (1 << 31 - 2 * max(SHIFTS[tile])) - 1


def input_vector(channels: int, lanes: int) -> int:
    """Return how many input channels one vector of the transform holds: the largest power of two there are."""
    return min(lanes, 1 << (channels.bit_length() - 1))
