"""Cut vectorised loops of an awkward extent into whole vectors, the last of which overlaps the one before.

31 floats are no vector of any machine: the code generator would fetch 16 + 8 + 4 + 2 + 1 of them and piece them
together. Two vectors of 16, the second from the 15th on, do the same in two instructions: where nothing that is stored
is read again, storing a value twice does no harm. Nothing outside of the loop's extent is touched.
"""

from typing import Any

import tvm
import tvm_ffi
from tvm import ir, tirx

__all__ = ["OverlapTails"]

# Vectors up to which the loop over them is unrolled.
_UNROLLED = 4


def _stores_what_it_reads(body: Any) -> bool:
    stored: list[Any] = []
    read: list[Any] = []
    tvm_ffi.structural_walk(
        body,
        [
            (tirx.BufferStore, lambda node: stored.append(node.buffer)),
            (ir.TensorLoad, lambda node: read.append(node.source)),
        ],
    )
    return any(buffer.same_as(other) for buffer in stored for other in read)


def _cut(loop: Any, lanes: int) -> Any:
    """Return `loop` in vectors, or None to keep it."""
    extent = int(loop.extent)
    vector = min(lanes, 1 << (extent.bit_length() - 1))
    if extent % vector == 0 or _stores_what_it_reads(loop.body):
        return None
    vectors = -(-extent // vector)
    dtype = loop.loop_var.ty.dtype
    outer, inner = tirx.Var(f"{loop.loop_var.name}_vector", dtype), tirx.Var(f"{loop.loop_var.name}_lane", dtype)
    first = tirx.min(outer * vector, tirx.IntImm(dtype, extent - vector))
    moved = loop.loop_var
    body = tvm_ffi.structural_map(loop.body, (tirx.Var, lambda var: first + inner if var.same_as(moved) else var))
    zero = tirx.IntImm(dtype, 0)
    body = tirx.For(inner, zero, tirx.IntImm(dtype, vector), tirx.ForKind.VECTORIZED, body)
    kind = tirx.ForKind.UNROLLED if vectors <= _UNROLLED else tirx.ForKind.SERIAL
    return tirx.For(outer, zero, tirx.IntImm(dtype, vectors), kind, body)


@tvm.transform.module_pass(opt_level=0, name="OverlapTails")
class OverlapTails:
    """Apply to scheduled kernels just before they are compiled for vectors of `lanes` elements."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes

    def transform_module(self, module: ir.IRModule, _context: tvm.transform.PassContext) -> ir.IRModule:
        """Return `module` with every vectorised loop that allows it cut into whole vectors."""

        output = module.clone()
        for name, function in module.functions_items():
            if not isinstance(function, tirx.PrimFunc):
                continue
            body = tvm_ffi.structural_map(function.body, (tirx.For, self._cut))
            output[name] = function.with_body(body)
        return output

    def _cut(self, loop: Any) -> Any:
        return loop if loop.kind != tirx.ForKind.VECTORIZED else _cut(loop, self.lanes) or loop
