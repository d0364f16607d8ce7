"""Transposed convolutions as ordinary ones: TVM writes the transposed kernel for channels-first images only.

With stride s, output row q * s + r reads input rows q, q - 1, ... through the taps r, r + s, r + 2 * s, ... alone. So
the rows of one remainder r are an ordinary convolution of the input with every s-th tap, and the s * s of them are one
convolution with s * s times the channels, whose results are then put side by side (Shi et al. 2016, "Real-Time Single
Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network", section 2.2). It multiplies
no zeros but those of taps that a kernel size lacks to a multiple of s, and every program space knows it.
"""

import tvm
from tvm import ir, relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from relay_passes.rewrite import rewritten

__all__ = ["SubpixelConvolutions"]


def _extents(value: relax.Expr) -> list[int]:
    return [int(extent) for extent in value.ty.shape.values]


@mutator
class _Splitter(PyExprMutator):  # type: ignore[misc]  # to mypy, what tvm has is Any
    def __init__(self, module: ir.IRModule) -> None:
        super().__init__(module)
        self.transposed = ir.Op.get("relax.nn.conv2d_transpose")

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        result = _extents(call) if call.op == self.transposed else []
        call = super().visit_call_(call)
        attributes = call.attrs
        if call.op != self.transposed or attributes.data_layout != "NCHW" or attributes.kernel_layout != "IOHW":
            return call
        if any(int(step) != 1 for step in attributes.dilation):
            return call
        return self._convolution(call, result)

    def _convolution(self, call: relax.Call, result: list[int]) -> relax.Expr:
        emit = self.builder_.emit
        data, weight = call.args
        groups = int(call.attrs.groups)
        strides = [int(value) for value in call.attrs.strides]
        before = [int(value) for value in call.attrs.padding][:2]
        read, stored, *kernel = _extents(weight)
        # Taps of one remainder; they reach back by one less.
        taps = [-(-size // stride) for size, stride in zip(kernel, strides, strict=True)]
        missing = [count * stride - size for count, stride, size in zip(taps, strides, kernel, strict=True)]
        image, height, width = _extents(data)[0], *_extents(data)[2:]
        # Rows and columns of results, each of `stride`, up to the last one that is kept (output padding included).
        needed = [-(-(start + size) // stride) for start, size, stride in zip(before, result[2:], strides, strict=True)]
        after = [max(count - 1, want - size) for count, want, size in zip(taps, needed, (height, width), strict=True)]
        if any(missing):
            weight = emit(relax.op.nn.pad(weight, [0, 0, 0, 0, 0, missing[0], 0, missing[1]]))
        parts = [groups, read // groups, stored, taps[0], strides[0], taps[1], strides[1]]
        weight = emit(relax.op.reshape(weight, parts))
        if taps != [1, 1]:
            weight = emit(relax.op.flip(emit(relax.op.flip(weight, 3)), 5))
        # Channels of a result within a group: remainder of the row, of the column, channel.
        weight = emit(relax.op.permute_dims(weight, [0, 4, 6, 2, 1, 3, 5]))
        phases = strides[0] * strides[1]
        weight = emit(relax.op.reshape(weight, [groups * phases * stored, read // groups, *taps]))
        padding = [taps[0] - 1, taps[1] - 1, *after]
        wide = emit(relax.op.nn.conv2d(data, weight, padding=padding, groups=groups))
        rows, columns = _extents(wide)[2:]
        # Put side by side channels last, as everything will be after ConvertLayout, which does not see through this.
        last = emit(relax.op.permute_dims(wide, [0, 2, 3, 1]))
        apart = emit(relax.op.reshape(last, [image, rows, columns, groups, *strides, stored]))
        apart = emit(relax.op.permute_dims(apart, [0, 1, 4, 2, 5, 3, 6]))
        last = emit(relax.op.reshape(apart, [image, rows * strides[0], columns * strides[1], groups * stored]))
        if _extents(last)[1:3] != result[2:]:
            ends = [start + size for start, size in zip(before, result[2:], strict=True)]
            last = emit(relax.op.strided_slice(last, [1, 2], before, ends))
        return relax.op.permute_dims(last, [0, 3, 1, 2])


@tvm.transform.module_pass(opt_level=0, name="SubpixelConvolutions")
class SubpixelConvolutions:
    """conv2d_transpose becomes conv2d and a depth-to-space; channels first, as it is imported. Dilated ones stay."""

    def transform_module(self, module: ir.IRModule, _context: tvm.transform.PassContext) -> ir.IRModule:
        """Return `module` with the transposed convolutions of every Relax function rewritten."""
        return rewritten(module, _Splitter(module))
