"""A convolution of few bits: its shape, the precision of its operands, and its weights as planes of bits.

Weights and activations are split into planes, one for each bit of their integers; the sum of products is then a sum of
populations, of what is set in both of two words, shifted by the places of the planes (Zhou et al. 2016,
"DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks with Low Bitwidth Gradients", section 2.1, equation 3).
Plain numpy: whoever prices precisions need not load the compiler.
"""

from dataclasses import dataclass

import numpy as np

from relay_passes.bit_planes import packed_planes
from tvm_prune.codec import STRICT
from tvm_prune.errors import ConfigError, QuantizationError

__all__ = ["MOST_BITS", "BitConv", "WordForm", "pack_weights", "unpack_weights"]

MOST_BITS = 7
_WORDS = (16, 32, 64)


@dataclass(frozen=True, kw_only=True)
class BitConv:
    """A convolution of one group, channels last, weights of `w_bits` and activations of `a_bits`, both 1..7.

    Activations are uint8 in 0..2^a_bits - 1, and `zero` is what stands for 0.0: the border is padded with it. Weights
    are signed and symmetric, -(2^(w_bits-1) - 1)..2^(w_bits-1) - 1, of one bit -1 and +1. Sums are exact, in int32.
    Raises ConfigError for what is out of range.
    """

    height: int
    width: int
    in_channels: int
    out_channels: int
    w_bits: int
    a_bits: int
    kernel: tuple[int, int] = (3, 3)
    stride: int = 1
    padding: int = 0
    zero: int = 0
    batch: int = 1
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        for name in ("w_bits", "a_bits"):
            if not 1 <= getattr(self, name) <= MOST_BITS:
                raise ConfigError(f"{name} {getattr(self, name)} is not in 1..{MOST_BITS}; eight bits are int8's")
        if not 0 <= self.zero < 2**self.a_bits:
            raise ConfigError(f"zero {self.zero} is no integer of {self.a_bits} bits (0..{2**self.a_bits - 1})")
        if self.padding < 0 or min(self.stride, self.batch, *self.kernel, self.in_channels, self.out_channels) < 1:
            raise ConfigError(f"{self} has an extent below 1 or a padding below 0")
        if min(self.out_height, self.out_width) < 1:
            raise ConfigError(
                f"a window of {self.kernel[0]}x{self.kernel[1]} does not fit an image of {self.height}x{self.width} "
                f"padded by {self.padding}"
            )
        if self.depth * (2**self.a_bits - 1) * 2**self.w_bits >= 2**31:
            raise ConfigError(f"sums of {self.depth} products of {self.w_bits} and {self.a_bits} bits overflow int32")

    @property
    def out_height(self) -> int:
        """Rows of the result."""
        return (self.height + 2 * self.padding - self.kernel[0]) // self.stride + 1

    @property
    def out_width(self) -> int:
        """Columns of the result."""
        return (self.width + 2 * self.padding - self.kernel[1]) // self.stride + 1

    @property
    def depth(self) -> int:
        """Products in one sum."""
        return self.kernel[0] * self.kernel[1] * self.in_channels

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.batch * self.out_height * self.out_width * self.out_channels * self.depth

    def __str__(self) -> str:
        rows, columns = self.kernel
        return (
            f"{self.height}x{self.width}x{self.in_channels} -> {self.out_channels}, {rows}x{columns} /{self.stride}, "
            f"{self.w_bits} x {self.a_bits} bits"
        )


@dataclass(frozen=True, kw_only=True)
class WordForm:
    """Words of `bits` (16, 32 or 64) of input channels, and how many output channels lie side by side in the weights.

    Channels that do not fill the last word leave its bits 0. Raises ConfigError for another size of words.
    """

    bits: int
    lanes: int
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if self.bits not in _WORDS:
            raise ConfigError(f"words of {self.bits} bits are not among {_WORDS}")

    def words(self, channels: int) -> int:
        """Return how many words the bits of `channels` fill."""
        return -(-channels // self.bits)

    def weight_shape(self, conv: BitConv) -> tuple[int, ...]:
        """Return the shape of packed weights: [O / lanes, kernel rows, columns, words, planes, lanes].

        Raises ConfigError where the output channels are no multiple of the lanes.
        """
        if conv.out_channels % self.lanes:
            raise ConfigError(f"{conv.out_channels} output channels are no multiple of {self.lanes} lanes")
        words = self.words(conv.in_channels)
        return (conv.out_channels // self.lanes, *conv.kernel, words, conv.w_bits, self.lanes)


def pack_weights(weights: np.ndarray, conv: BitConv, form: WordForm) -> np.ndarray:
    """Return `weights`, int8 [kernel rows, columns, I, O], as planes of bits in words: `form.weight_shape(conv)`.

    Two's complement: the last plane counts negative. Of one bit, a set bit is +1 and an unset one -1. Raises
    QuantizationError for weights of another shape or that are no integers of `conv.w_bits`.
    """
    expected = (*conv.kernel, conv.in_channels, conv.out_channels)
    if weights.shape != expected:
        raise QuantizationError(f"weights of shape {weights.shape} are not those of {conv}: {expected}")
    most = 1 if conv.w_bits == 1 else 2 ** (conv.w_bits - 1) - 1
    if np.abs(weights.astype(int)).max() > most or (conv.w_bits == 1 and not weights.all()):
        allowed = "-1 and +1" if conv.w_bits == 1 else f"-{most}..{most}"
        raise QuantizationError(f"weights of {conv.w_bits} bits are {allowed}; found {weights.min()}..{weights.max()}")
    form.weight_shape(conv)  # refuses lanes that do not divide the channels
    return packed_planes(weights, conv.w_bits, form.bits, form.lanes)


def unpack_weights(packed: np.ndarray, conv: BitConv, form: WordForm) -> np.ndarray:
    """Return what `pack_weights` packed, int8 [kernel rows, columns, I, O]."""
    tiles, *_, words, planes, lanes = form.weight_shape(conv)
    bits = np.unpackbits(np.ascontiguousarray(packed)[..., None].view("uint8"), axis=-1, bitorder="little")
    bits = bits.transpose(1, 2, 3, 6, 0, 5, 4).reshape(*conv.kernel, words * form.bits, tiles * lanes, planes)
    bits = bits[:, :, : conv.in_channels].astype(int)
    if conv.w_bits == 1:
        return (2 * bits[..., 0] - 1).astype("int8")
    places = 2 ** np.arange(planes)
    places[-1] *= -1
    return np.asarray(bits @ places, "int8")
