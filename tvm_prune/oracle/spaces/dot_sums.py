"""What each kind of dot product instruction makes of four bytes of data and a vector of weights, as an expression.

The data are unsigned bytes, the weights signed ones, four beside each other in every lane. All sums are exact. The same
of words of 16 bits, both signed, two beside each other: these sums wrap around.
"""

from collections.abc import Callable
from typing import Any

__all__ = ["SUMS", "WORD_SUMS"]

_VNNI = {16: "llvm.x86.avx512.vpdpbusd.512", 8: "llvm.x86.avx512.vpdpbusd.256", 4: "llvm.x86.avx512.vpdpbusd.128"}
_VNNI_WORDS = {
    16: "llvm.x86.avx512.vpdpwssd.512",
    8: "llvm.x86.avx512.vpdpwssd.256",
    4: "llvm.x86.avx512.vpdpwssd.128",
}
_PMADDWD = {16: "llvm.x86.avx512.pmaddw.d.512", 8: "llvm.x86.avx2.pmadd.wd", 4: "llvm.x86.sse2.pmadd.wd"}


def _vnni(data: Any, weights: Any, sums: Any, lanes: int) -> Any:
    return _call(_VNNI[lanes], lanes, sums, _everywhere(data, lanes), weights)


def _pmaddwd(data: Any, weights: Any, sums: Any, lanes: int) -> Any:
    """Bytes 0 and 2 of each lane and bytes 1 and 3, each in the 16 bits they lie in, are the pairs.

    So neither data nor weights are shuffled, and weights need no more memory than bytes. Multiplying the bytes
    themselves (pmaddubsw) would saturate at 16 bits.
    """
    pairs, signs = f"uint16x{2 * lanes}", f"int16x{2 * lanes}"
    values, factors = _bits(_everywhere(data, lanes), pairs), _bits(weights, signs)
    above, byte = _each(8, signs), _each(8, pairs)
    even = _bits(values & _each(255, pairs), signs), factors << above >> above
    odd = _bits(values >> byte, signs), factors >> above
    return sums + (_call(_PMADDWD[lanes], lanes, *even) + _call(_PMADDWD[lanes], lanes, *odd))


def _usdot(data: Any, weights: Any, sums: Any, lanes: int) -> Any:
    return _call("llvm.aarch64.neon.usdot", lanes, sums, _everywhere(data, lanes), weights)


def _sdot(data: Any, weights: Any, sums: Any, lanes: int) -> Any:
    """The data less 128 are signed; 128 times the weights, as twice 64 times, is the same for all pixels of a tile."""
    # Nothing overflows on the way where 255 times the magnitudes of all weights fits, which is asked of every layer.
    octets = f"int8x{4 * lanes}"
    signed = _bits(_everywhere(data, lanes) ^ _each(128, f"u{octets}"), octets)
    missing = _each(0, f"int32x{lanes}")
    for _ in range(2):
        missing = _call("llvm.aarch64.neon.sdot", lanes, missing, weights, _each(64, octets))
    return _call("llvm.aarch64.neon.sdot", lanes, sums + missing, weights, signed)


def _smlal(data: Any, weights: Any, sums: Any, lanes: int) -> Any:
    """Each byte in 16 bits, which LLVM does not find itself where one factor is signed and the other is not."""
    from tvm import tirx

    words, whole = f"int16x{lanes}", f"int32x{lanes}"
    values = data.astype("int16x4")
    factors = _bits(weights, whole)
    for place in range(4):
        value = tirx.Broadcast(tirx.Shuffle([values], [tirx.IntImm("int32", place)]), lanes)
        factor = factors << _each(24 - 8 * place, whole) >> _each(24, whole)
        sums = sums + _call("llvm.aarch64.neon.smull", lanes, value, factor.astype(words))
    return sums


# By kind: (data, four uint8; weights, int8; sums, int32 by lane; lanes) -> the new sums.
SUMS: dict[str, Callable[[Any, Any, Any, int], Any]] = {
    "vnni": _vnni,
    "pmaddwd": _pmaddwd,
    "usdot": _usdot,
    "sdot": _sdot,
    "smlal": _smlal,
}


def _vnni_words(data: Any, weights: Any, sums: Any, lanes: int) -> Any:
    return _call(_VNNI_WORDS[lanes], lanes, sums, _pairs_everywhere(data, lanes), weights)


def _pmaddwd_words(data: Any, weights: Any, sums: Any, lanes: int) -> Any:
    from relay_passes.wrapping import wrapping

    return wrapping(1, _call(_PMADDWD[lanes], lanes, _pairs_everywhere(data, lanes), weights), sums)


def _smull_words(data: Any, weights: Any, sums: Any, lanes: int) -> Any:
    from tvm import tirx

    from relay_passes.wrapping import wrapping

    words, whole = f"int16x{lanes}", f"int32x{lanes}"
    both = _bits(weights, whole)
    for place, factor in enumerate((both, both >> _each(16, whole))):
        value = tirx.Broadcast(tirx.Shuffle([data], [tirx.IntImm("int32", place)]), lanes)
        sums = wrapping(1, _call("llvm.aarch64.neon.smull", lanes, value, factor.astype(words)), sums)
    return sums


# By kind: (data, two int16; weights, int16; sums, int32 by lane; lanes) -> the new sums, modulo 2^32.
WORD_SUMS: dict[str, Callable[[Any, Any, Any, int], Any]] = {
    "vnni": _vnni_words,
    "pmaddwd": _pmaddwd_words,
    "usdot": _smull_words,
    "sdot": _smull_words,
    "smlal": _smull_words,
}


def _call(name: str, lanes: int, *arguments: Any) -> Any:
    from tvm import tirx

    return tirx.call_llvm_pure_intrin(f"int32x{lanes}", name, *arguments)


def _everywhere(data: Any, lanes: int) -> Any:
    """Return four bytes in each of `lanes`."""
    from tvm import tirx

    return _bits(tirx.Broadcast(_bits(data, "int32"), lanes), f"uint8x{4 * lanes}")


def _pairs_everywhere(data: Any, lanes: int) -> Any:
    """Return two words in each of `lanes`."""
    from tvm import tirx

    return _bits(tirx.Broadcast(_bits(data, "int32"), lanes), f"int16x{2 * lanes}")


def _bits(vector: Any, dtype: str) -> Any:
    from tvm import tirx

    return tirx.reinterpret(dtype, vector)


def _each(number: int, dtype: str) -> Any:
    """Return a vector of `dtype` that is `number` in every element."""
    from tvm import tirx

    element, _, count = dtype.partition("x")
    return tirx.Broadcast(tirx.const(number, element), int(count))
