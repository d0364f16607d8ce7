"""The forms of words that a convolution of few bits is worth a program in, on a target."""

from collections.abc import Iterator

from tvm_prune.oracle.bit_conv import BitConv, WordForm
from tvm_prune.oracle.bit_serial_kernel import bit_serial_function, packing_function
from tvm_prune.oracle.spaces.candidate import divisors
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tasks import Kernel, kernel

__all__ = ["bit_serial_kernel", "packing_kernel", "word_forms"]

# Populations of all words of a window are counted in a lane as wide as a word.
_MOST_COUNTED = {16: 2**16 - 1, 32: 2**32 - 1, 64: 2**64 - 1}


def word_forms(conv: BitConv, target: Target) -> Iterator[WordForm]:
    """Yield words of 16, 32 and 64 bits that leave few of their bits empty, each by as many channels as fill a vector.

    Which is fastest depends on how a processor counts ones (in words of any size with AVX-512's VPOPCNTDQ and BITALG,
    by a table of half bytes with AVX2), on the channels, and on the conversion of the counts; it is measured.
    """
    filled = {bits: -(-conv.in_channels // bits) * bits for bits in _MOST_COUNTED}
    for bits, most in _MOST_COUNTED.items():
        if conv.depth <= most and filled[bits] <= 2 * min(filled.values()):
            yield WordForm(bits=bits, lanes=divisors(conv.out_channels, at_most=target.vector_bits // bits)[-1])


def bit_serial_kernel(conv: BitConv, form: WordForm, target: Target) -> Kernel:
    """Return the kernel of a convolution of few bits, packing included, for `target`: each packs in its own way."""
    return kernel(bit_serial_function(conv, form, target), shape=f"{conv}, words of {form.bits}")


def packing_kernel(conv: BitConv, form: WordForm, target: Target) -> Kernel:
    """Return the kernel that does nothing but pack the activations, for `target`."""
    return kernel(packing_function(conv, form, target), shape=f"{conv}, packing alone")
