"""The exponential and the error function as arithmetic, which a compiler can do on whole vectors.

LLVM knows both as calls into the C library, one element at a time: some 30 ns each, so that a softmax or a sigmoid over
an image costs more than the convolution before it. TVM makes sigmoid and tanh out of exp: they become arithmetic too.
"""

import math
from collections.abc import Sequence
from typing import Any

from tvm import tirx

__all__ = ["register_vector_math"]

# Moshier 1989, "Methods and Programs for Mathematical Functions": the single precision polynomial of its library Cephes
# for (e^f - 1 - f) / f^2, |f| <= ln(2) / 2. Within 2e-7 of the exact value, relatively.
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
# ln(2) in two parts: n times the first is exact.
_LN2 = (0.693359375, -2.12194440e-4)
# Beyond these e^x is no normal float32: 0 and infinity.
_LEAST, _MOST = -87.3365, 88.7228
_BIAS, _MANTISSA_BITS = 127, 23
# Abramowitz and Stegun 1964, "Handbook of Mathematical Functions", 7.1.26: within 1.5e-7 of the
# exact value, 6e-7 with the rounding of float32.
_ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
_ERF_STEP = 0.3275911
# Above the rules that TVM registers for its targets.
_LEVEL = 200


def _number(constant: float, kind: str) -> Any:
    return tirx.const(constant, kind)


def _polynomial(coefficients: Sequence[float], x: Any, kind: str) -> Any:
    """Return the polynomial of `x`, the coefficient of its highest power first (Horner's rule)."""
    result = _number(coefficients[0], kind)
    for coefficient in coefficients[1:]:
        result = result * x + _number(coefficient, kind)
    return result


def _exp_of(x: Any, kind: str) -> Any:
    """Return 2^n * e^f, n whole, of the variable `x`."""
    n, f = tirx.Var("n", kind), tirx.Var("f", kind)
    # The nearest whole number, and not beyond the greatest exponent.
    power = tirx.min(tirx.floor(x * _number(1 / math.log(2), kind) + _number(0.5, kind)), _number(_BIAS, kind))
    rest = x - n * _number(_LN2[0], kind) - n * _number(_LN2[1], kind)
    series = _polynomial(_EXP, f, kind) * f * f + f + _number(1, kind)
    integer = kind.replace("float32", "int32")
    bits = (tirx.Cast(integer, n) + tirx.const(_BIAS, integer)) << tirx.const(_MANTISSA_BITS, integer)
    made = tirx.Let(n, power, tirx.Let(f, rest, series * tirx.reinterpret(kind, bits)))
    made = tirx.Select(x > _number(_MOST, kind), _number(math.inf, kind), made)
    made = tirx.Select(x < _number(_LEAST, kind), _number(0, kind), made)
    return tirx.Select(x == x, made, x)  # not a number stays what it is


def _erf_of(x: Any, kind: str) -> Any:
    """Return 1 - t * polynomial(t) * e^(-x^2), t = 1 / (1 + step * |x|), with the sign of the variable `x`."""
    one, negative = _number(1, kind), x < _number(0, kind)
    size, square, t = tirx.Var("size", kind), tirx.Var("square", kind), tirx.Var("t", kind)
    made = one - _polynomial(_ERF, t, kind) * t * _exp_of(square, kind)
    made = tirx.Let(t, one / (one + size * _number(_ERF_STEP, kind)), tirx.Let(square, -(size * size), made))
    made = tirx.Let(size, tirx.Select(negative, -x, x), made)
    # Bound, not written twice: TVM refuses a variable that is bound in two places.
    distance = tirx.Var("distance", kind)
    return tirx.Let(distance, made, tirx.Select(negative, -distance, distance))


def _rule(function: Any, library_call: str) -> Any:
    def lower(call: Any) -> Any:
        value = call.args[0]
        kind = str(value.ty.dtype)
        if not kind.startswith("float32"):
            return tirx.call_pure_extern(kind, library_call, value)
        x = tirx.Var("x", kind)
        return tirx.Let(x, value, function(x, kind))

    return lower


def register_vector_math() -> None:
    """Make this process compile exp and erf of float32 as arithmetic."""
    tirx.op.register_intrin_lowering("tirx.exp", target="llvm", f=_rule(_exp_of, "exp"), level=_LEVEL)
    tirx.op.register_intrin_lowering("tirx.erf", target="llvm", f=_rule(_erf_of, "erf"), level=_LEVEL)
