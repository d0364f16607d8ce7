"""Number formats of layers, and their short names: float32, int8, w4a8, w4, fixed8.4."""

import re
from dataclasses import dataclass

from tvm_prune.codec import STRICT
from tvm_prune.errors import QuantizationError

__all__ = ["FLOAT", "FLOAT32", "INT8", "Scheme"]

# Bits of a number that is left in float32.
FLOAT = 32
_MOST_BITS = 8
_KNOWN = "known are float32, int8, wNaM and wN (N, M from 1 to 8 bits), and fixedB.F (B bits, F behind the point)"


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """Number format of one layer: the bits of its weights and of the activations that it reads, 32 for float32.

    Weights of N bits are the integers -(2^(N-1) - 1) to 2^(N-1) - 1, of one bit -1 and 1, with a scale for each output
    channel; activations of M bits are 0 to 2^M - 1 with a scale and a zero point. With `fraction_bits` = F both are
    signed fixed point: the scale is 2^-F. Activations in float32 are read with weights of float32 made of the integers
    (smaller in memory, not faster). Raises QuantizationError for formats that do not exist.
    """

    weight_bits: int = FLOAT
    activation_bits: int = FLOAT
    fraction_bits: int | None = None
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        for what, bits in (("weights", self.weight_bits), ("activations", self.activation_bits)):
            if bits != FLOAT and not 1 <= bits <= _MOST_BITS:
                raise QuantizationError(f"{what} of {bits} bits are not supported; {_KNOWN}")
        if self.weight_bits == FLOAT and self.activation_bits != FLOAT:
            raise QuantizationError(f"integer activations need integer weights; {_KNOWN}")
        if self.fraction_bits is not None:
            if self.weight_bits != self.activation_bits or not 2 <= self.weight_bits <= _MOST_BITS:
                raise QuantizationError(f"fixed point has 2 to 8 bits, weights and activations alike; {_KNOWN}")
            if not 0 <= self.fraction_bits <= 2 * _MOST_BITS:
                raise QuantizationError(f"fixed point has 0 to 16 bits behind the point, not {self.fraction_bits}")

    @classmethod
    def parse(cls, text: str) -> "Scheme":
        """Return the scheme of a short name. Raises QuantizationError for one that is not known."""
        if text in _NAMES:
            return _NAMES[text]
        if match := re.fullmatch(r"w(\d+)(?:a(\d+))?", text):
            return cls(weight_bits=int(match[1]), activation_bits=int(match[2] or FLOAT))
        if match := re.fullmatch(r"fixed(\d+)\.(\d+)", text):
            return cls(weight_bits=int(match[1]), activation_bits=int(match[1]), fraction_bits=int(match[2]))
        raise QuantizationError(f"there is no number format {text!r}; {_KNOWN}")

    @property
    def in_integers(self) -> bool:
        """Whether the layer computes with integers."""
        return self.activation_bits != FLOAT

    @property
    def rounds_weights(self) -> bool:
        """Whether the layer's weights are integers times a scale."""
        return self.weight_bits != FLOAT

    def __str__(self) -> str:
        if self.fraction_bits is not None:
            return f"fixed{self.weight_bits}.{self.fraction_bits}"
        for name, scheme in _NAMES.items():
            if self == scheme:
                return name
        return f"w{self.weight_bits}" + (f"a{self.activation_bits}" if self.in_integers else "")


FLOAT32 = Scheme()
INT8 = Scheme(weight_bits=8, activation_bits=8)
_NAMES = {"float32": FLOAT32, "int8": INT8}
