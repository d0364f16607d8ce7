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
"""

from collections.abc import Sequence

from tvm import ir, te, tirx, topi

from relay_passes.winograd_matrices import input_transform, input_vector, output_transform

__all__ = ["winograd_conv2d"]


def _chosen(index: tirx.Var, values: Sequence[ir.Expr]) -> ir.Expr:
    """Return the value of that index; once the loop over it is unrolled, nothing else is left."""
    chosen = values[-1]
    for place, value in list(enumerate(values))[-2::-1]:
        chosen = tirx.Select(index == place, value, chosen)
    return chosen


def winograd_conv2d(data: te.Tensor, weight: te.Tensor, padding: Sequence[int], tile: int, lanes: int) -> te.Tensor:
    """Return the convolution of `data` (NHWC) with a filter [O / lanes, tile + 2, tile + 2, I, lanes]."""
    top, left, bottom, right = padding
    batch, height, width, channels = (int(extent) for extent in data.shape)
    height, width = height + top + bottom - 2, width + left + right - 2
    rows, columns = -(-height // tile), -(-width // tile)
    side = tile + 2
    out_channels = int(weight.shape[0]) * lanes
    padded = topi.nn.pad(
        data,
        [0, top, left, 0],
        [0, bottom + rows * tile - height, right + columns * tile - width, 0],
        name="pad_temp",
    )
    vector = input_vector(channels, lanes)
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

    patch = te.compute(
        (batch * rows, columns, side, side, vectors * vector),
        lambda th, tw, i, j, c: padded[th // rows, th % rows * tile + i, tw * tile + j, channel(c)],
        name="winograd_patch",
    )
    halfway = te.compute(
        (batch * rows, columns, side, side, vectors * vector),
        lambda th, tw, y, j, c: _chosen(y, input_transform(tile, [patch[th, tw, i, j, c] for i in range(side)])),
        name="winograd_input_rows",
    )
    tiles = te.compute(
        (side, side, batch * rows, columns, vectors * vector),
        lambda y, x, th, tw, c: _chosen(x, input_transform(tile, [halfway[th, tw, y, j, c] for j in range(side)])),
        name="winograd_input",
    )
    rc = te.reduce_axis((0, channels), name="rc")
    product = te.compute(
        (side, side, batch * rows, columns, out_channels),
        lambda y, x, th, tw, o: te.sum(
            tiles[y, x, th, tw, place(rc)] * weight[o // lanes, y, x, rc, o % lanes], axis=rc
        ),
        name="winograd_product",
    )
    back = te.compute(
        (batch * rows, columns, tile, side, out_channels),
        lambda th, tw, y, x, o: _chosen(y, output_transform(tile, [product[p, x, th, tw, o] for p in range(side)])),
        name="winograd_output_rows",
    )
    whole_tiles = te.compute(
        (batch, rows * tile, columns * tile, out_channels),
        lambda n, h, w, o: _chosen(
            w % tile,
            output_transform(tile, [back[n * rows + h // tile, w // tile, h % tile, q, o] for q in range(side)]),
        ),
        name="winograd_output",
    )
    return te.compute((batch, height, width, out_channels), lambda *index: whole_tiles[index], name="winograd_image")
