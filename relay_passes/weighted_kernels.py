"""Kernels of convolutions and matrix products whose weight has another form than the graph gave it, in TE.

Each stores exactly the channels that the graph asks for, however many it computes: a last stage, ``crop``, drops the
rest. The names of the stages are what the program spaces know them by.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import ir, te, tirx, topi

from relay_passes.weight_form import WeightForm
from relay_passes.winograd import winograd_conv2d

__all__ = ["Window", "conv2d", "depthwise", "matmul"]


@dataclass(frozen=True)
class Window:
    """How a filter moves over an image: (rows, columns) of stride and dilation; padding top, left, bottom, right."""

    strides: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]


def _crop(wide: te.Tensor, channels: int) -> te.Tensor:
    if int(wide.shape[-1]) == channels:
        return wide
    return te.compute([*wide.shape[:-1], channels], lambda *index: wide[index], name="crop")


def conv2d(data: te.Tensor, weight: te.Tensor, window: Window, form: WeightForm, channels: int) -> te.Tensor:
    """Return the convolution of `data` (NHWC) with a filter in `form`; stores `channels`."""
    if form.tile:
        wide = winograd_conv2d(data, weight, window.padding, form.tile, form.lanes)
    elif form.layout == "dot":
        wide = _dot_conv2d(data, weight, window)
    elif form.layout == "packed":
        wide = _packed_conv2d(data, weight, window, form.lanes)
    else:
        wide = topi.nn.conv2d_nhwc(data, weight, list(window.strides), list(window.padding), list(window.dilation))
    return _crop(wide, channels)


def _positions(padded: te.Tensor, window: Window, rows: int, columns: int) -> tuple[int, int, int]:
    """Return images, and rows and columns of places that a window of `rows` x `columns` has in a padded image."""
    batch, height, width, _ = (int(extent) for extent in padded.shape)
    down, across = (
        (extent - (taps - 1) * apart - 1) // step + 1
        for extent, taps, apart, step in zip(
            (height, width), (rows, columns), window.dilation, window.strides, strict=True
        )
    )
    return batch, down, across


def _packed_conv2d(data: te.Tensor, weight: te.Tensor, window: Window, lanes: int) -> te.Tensor:
    top, left, bottom, right = window.padding
    tiles, rows, columns, depth, _ = (int(extent) for extent in weight.shape)
    padded = data
    if any(window.padding):
        padded = topi.nn.pad(data, [0, top, left, 0], [0, bottom, right, 0], name="pad_temp")
    (down, across), (row_step, column_step) = window.strides, window.dilation
    y, x = te.reduce_axis((0, rows), name="ry"), te.reduce_axis((0, columns), name="rx")
    c = te.reduce_axis((0, depth), name="rc")
    return te.compute(
        (*_positions(padded, window, rows, columns), tiles * lanes),
        lambda n, h, w, o: te.sum(
            padded[n, h * down + y * row_step, w * across + x * column_step, c]
            * weight[o // lanes, y, x, c, o % lanes],
            axis=[y, x, c],
        ),
        name="conv2d_packed",
    )


def _dot_conv2d(data: te.Tensor, weight: te.Tensor, window: Window) -> te.Tensor:
    """Return the integer convolution with a filter that lies as dot product instructions take it."""
    top, left, bottom, right = window.padding
    tiles, rows, columns, depth, lanes, pairs = (int(extent) for extent in weight.shape)
    padded = data
    missing = depth * pairs - int(data.shape[-1])
    if any(window.padding) or missing:
        zero = tirx.const(0, data.dtype)
        padded = topi.nn.pad(data, [0, top, left, 0], [0, bottom, right, missing], zero, name="pad_temp")
    (down, across), (row_step, column_step) = window.strides, window.dilation
    y, x = te.reduce_axis((0, rows), name="ry"), te.reduce_axis((0, columns), name="rx")
    c, pair = te.reduce_axis((0, depth), name="rc"), te.reduce_axis((0, pairs), name="rp")
    return te.compute(
        (*_positions(padded, window, rows, columns), tiles * lanes),
        lambda n, h, w, o: te.sum(
            padded[n, h * down + y * row_step, w * across + x * column_step, c * pairs + pair].astype("int32")
            * weight[o // lanes, y, x, c, o % lanes, pair].astype("int32"),
            axis=[y, x, c, pair],
        ),
        name="conv2d_dot",
    )


def depthwise(data: te.Tensor, weight: te.Tensor, window: Window, channels: int) -> te.Tensor:
    """Return the depthwise convolution with a wider filter: the stage that pads the image widens the input too."""
    wide = int(weight.shape[-1])
    top, left, bottom, right = window.padding
    padded = topi.nn.pad(data, [0, top, left, 0], [0, bottom, right, wide - channels], name="pad_temp")
    product = topi.nn.group_conv2d_nhwc(padded, weight, list(window.strides), 0, list(window.dilation), wide)
    return _crop(product, channels)


def matmul(data: te.Tensor, weight: te.Tensor, form: WeightForm, channels: int) -> te.Tensor:
    """Return the product of `data` with a matrix in `form`; stores `channels` columns."""
    packed = form.layout == "packed"
    depth = te.reduce_axis((0, int(weight.shape[1 if packed else 0])), name="k")
    columns = int(weight.shape[0]) * form.lanes if packed else int(weight.shape[1])

    def factor(column: tirx.Var) -> ir.Expr:
        return weight[column // form.lanes, depth, column % form.lanes] if packed else weight[depth, column]

    wide = te.compute(
        [*data.shape[:-1], columns],
        lambda *index: te.sum(data[(*index[:-1], depth)] * factor(index[-1]), axis=depth),
        name="matmul_packed" if packed else "matmul",
    )
    return _crop(wide, channels)
