"""Integers of 32 bits that wrap around: sums and products modulo 2^32, which an addition of TVM's does not promise.

TVM tells LLVM that no sum of integers of 32 bits overflows, and LLVM builds on it. After Winograd's filtering a result
is small however large what it was made of is: right modulo 2^32, it is right.
"""

import functools
from typing import Any

from tvm import tirx

__all__ = ["register_wrapping", "wrapping"]

# Above the rules that TVM registers for its targets.
_LEVEL = 200
_WORD, _WIDE = "int32", "int64"


def wrapping(factor: int, value: Any, added: Any) -> Any:
    """Return factor * value + added of int32 expressions, or vectors of them, modulo 2^32."""
    kind = str(value.ty.dtype)
    lanes = kind.partition("x")[2]
    number = tirx.const(factor, _WORD)
    return tirx.call_intrin(kind, "tirx.fma", tirx.Broadcast(number, int(lanes)) if lanes else number, value, added)


def _lowered(call: Any) -> Any:
    factor, value, added = call.args
    kind = str(call.ty.dtype)
    word, _, lanes = kind.partition("x")
    if word != _WORD:
        return tirx.call_llvm_pure_intrin(kind, "llvm.fmuladd", factor, value, added)
    if not lanes:
        # Exact in twice the bits; the upper half is cut off.
        product = tirx.Cast(_WIDE, factor) * tirx.Cast(_WIDE, value)
        return tirx.Cast(kind, product + tirx.Cast(_WIDE, added))
    # Of vectors LLVM has operations without that promise, under a mask: all elements here.
    everywhere = tirx.Broadcast(tirx.const(1, "bool"), int(lanes)), tirx.const(int(lanes), "uint32")
    times = factor.value if isinstance(factor, tirx.Broadcast) else factor
    number = int(times) if isinstance(times, tirx.IntImm) else None
    if number == -1:
        return tirx.call_llvm_pure_intrin(kind, "llvm.vp.sub", added, value, *everywhere)
    if number != 1:
        value = tirx.call_llvm_pure_intrin(kind, "llvm.vp.mul", factor, value, *everywhere)
    return tirx.call_llvm_pure_intrin(kind, "llvm.vp.add", value, added, *everywhere)


@functools.cache  # TVM takes a rule once
def register_wrapping() -> None:
    """Make this process compile `wrapping`."""
    tirx.op.register_intrin_lowering("tirx.fma", target="llvm", f=_lowered, level=_LEVEL)
