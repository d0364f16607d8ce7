"""A 3x3 convolution of stride 1 by Winograd's minimal filtering, as stages that one kernel runs through.

    pad_temp               the image with its border, whole tiles
    winograd_patch         d, the inputs of each tile: neighbouring tiles share two rows or columns
    winograd_input_rows    B' d
    winograd_input         (B' d) B: [m + 2, m + 2, tile rows, tile columns, input channels]
    winograd_product       for each of the (m + 2)^2 places a matrix product over the input channels: the anchor
    winograd_output_rows   A' P
    winograd_output        (A' P) A: the image again, whole tiles
    winograd_image         the image as the graph asks for it

Input channels go through the transform in vectors; where their count is no multiple of one, the last vector overlaps
the one before, so that it reads nothing that is not there.

Of bytes the same in whole numbers, exactly: transformed inputs have 16 bits (no map makes more than 17,340 of them), of
which instructions for dot products take two input channels, and products and outputs 32, which wrap around. The anchor
is winograd_words then, and the image is filled up with channels of zeros to whole vectors.
"""

from collections.abc import Callable, Sequence

from tvm import ir, te, tirx, topi

from relay_passes.winograd_matrices import (
    INVERSE,
    SHIFTS,
    input_transform,
    input_vector,
    output_transform,
    whole_output_transform,
)
from relay_passes.wrapping import wrapping

__all__ = ["winograd_conv2d"]


def _chosen(index: tirx.Var, values: Sequence[ir.Expr]) -> ir.Expr:
    """Return the value of that index; once the loop over it is unrolled, nothing else is left."""
    chosen = values[-1]
    for place, value in list(enumerate(values))[-2::-1]:
        chosen = tirx.Select(index == place, value, chosen)
    return chosen


def winograd_conv2d(data: te.Tensor, weight: te.Tensor, padding: Sequence[int], tile: int, lanes: int) -> te.Tensor:
    """Return the convolution of `data` (NHWC) with a filter [O / lanes, tile + 2, tile + 2, I, lanes].

    Of bytes with one of int16 [O / lanes, tile + 2, tile + 2, I / 2, lanes, 2].
    """
    top, left, bottom, right = padding
    whole = str(weight.dtype) == "int16"
    batch, height, width, channels = (int(extent) for extent in data.shape)
    height, width = height + top + bottom - 2, width + left + right - 2
    rows, columns = -(-height // tile), -(-width // tile)
    side = tile + 2
    out_channels = int(weight.shape[0]) * lanes
    vector = input_vector(channels, 2 * lanes if whole else lanes)
    missing = -channels % vector if whole else 0
    padded = topi.nn.pad(
        data,
        [0, top, left, 0],
        [0, bottom + rows * tile - height, right + columns * tile - width, missing],
        tirx.const(0, data.dtype),
        name="pad_temp",
    )
    channel, place, places = _vectors(channels + missing, vector)

    def value(*index: ir.Expr) -> ir.Expr:
        return padded[index].astype("int16") if whole else padded[index]

    patch = te.compute(
        (batch * rows, columns, side, side, places),
        lambda th, tw, i, j, c: value(th // rows, th % rows * tile + i, tw * tile + j, channel(c)),
        name="winograd_patch",
    )

    def inputs(values: Sequence[ir.Expr]) -> list[ir.Expr]:
        return input_transform(tile, values, lambda number: tirx.const(number, patch.dtype))

    halfway = te.compute(
        (batch * rows, columns, side, side, places),
        lambda th, tw, y, j, c: _chosen(y, inputs([patch[th, tw, i, j, c] for i in range(side)])),
        name="winograd_input_rows",
    )
    tiles = te.compute(
        (side, side, batch * rows, columns, places),
        lambda y, x, th, tw, c: _chosen(x, inputs([halfway[th, tw, y, j, c] for j in range(side)])),
        name="winograd_input",
    )
    shape = (side, side, batch * rows, columns, out_channels)
    if whole:
        product = _word_products(tiles, weight, shape)
    else:
        product = _products(tiles, weight, place, shape, channels)

    def outputs(values: Sequence[ir.Expr]) -> list[ir.Expr]:
        return whole_output_transform(tile, values, wrapping) if whole else output_transform(tile, values)

    back = te.compute(
        (batch * rows, columns, tile, side, out_channels),
        lambda th, tw, y, x, o: _chosen(y, outputs([product(p, x, th, tw, o) for p in range(side)])),
        name="winograd_output_rows",
    )

    def output(n: tirx.Var, h: tirx.Var, w: tirx.Var, o: tirx.Var) -> ir.Expr:
        values = outputs([back(n * rows + h // tile, w // tile, h % tile, q, o) for q in range(side)])
        return _divided(tile, h % tile, w % tile, values) if whole else _chosen(w % tile, values)

    whole_tiles = te.compute((batch, rows * tile, columns * tile, out_channels), output, name="winograd_output")
    return te.compute((batch, height, width, out_channels), lambda *index: whole_tiles[index], name="winograd_image")


_Place = Callable[[tirx.Var], ir.Expr]


def _vectors(channels: int, vector: int) -> tuple[_Place, _Place, int]:
    """Return which channel each place of the transformed input holds, where a channel stands, and how many places."""
    vectors = -(-channels // vector)
    whole = channels // vector * vector
    last = channels - vector  # where the last vector starts

    def channel(place: tirx.Var) -> ir.Expr:
        if whole == channels:
            return place
        return tirx.min(place // vector * vector, last) + place % vector

    def place(channel: tirx.Var) -> ir.Expr:
        if whole == channels:
            return channel
        # What the last vector holds for the first time stands at its end.
        return channel + tirx.Select(channel >= whole, tirx.const(vectors * vector - channels), tirx.const(0))

    return channel, place, vectors * vector


def _products(tiles: te.Tensor, weight: te.Tensor, place: _Place, shape: Sequence[int], channels: int) -> te.Tensor:
    lanes = int(weight.shape[-1])
    rc = te.reduce_axis((0, channels), name="rc")
    return te.compute(
        shape,
        lambda y, x, th, tw, o: te.sum(
            tiles[y, x, th, tw, place(rc)] * weight[o // lanes, y, x, rc, o % lanes], axis=rc
        ),
        name="winograd_product",
    )


def _word_products(tiles: te.Tensor, weight: te.Tensor, shape: Sequence[int]) -> te.Tensor:
    depth, lanes, pairs = (int(extent) for extent in weight.shape[-3:])
    rc, pair = te.reduce_axis((0, depth), name="rc"), te.reduce_axis((0, pairs), name="rp")
    return te.compute(
        shape,
        lambda y, x, th, tw, o: te.sum(
            tiles[y, x, th, tw, rc * pairs + pair].astype("int32")
            * weight[o // lanes, y, x, rc, o % lanes, pair].astype("int32"),
            axis=[rc, pair],
        ),
        name="winograd_words",
    )


def _divided(tile: int, row: ir.Expr, column: ir.Expr, values: Sequence[ir.Expr]) -> ir.Expr:
    """Return the output in that column of a tile, without what the whole maps have multiplied it by."""
    value = _chosen(column, values)
    if INVERSE[tile] != 1:
        value = wrapping(INVERSE[tile], value, tirx.const(0, "int32"))
    places = [tirx.const(shift, "int32") for shift in SHIFTS[tile]]
    return tirx.shift_right(value, _chosen(row, places) + _chosen(column, places))
