"""The forms of words that a convolution of few bits is worth a program in, on a target."""

from collections.abc import Iterator

from relay_passes.bit_serial import BitWork, bit_serial_function, packing_function
from tvm_prune.oracle.bit_conv import BitConv, WordForm
from tvm_prune.oracle.forms import lowest_by_table, word_sizes
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tasks import Kernel, kernel

__all__ = ["bit_serial_kernel", "packing_kernel", "word_forms"]


def word_forms(conv: BitConv, target: Target) -> Iterator[WordForm]:
    """Yield words that leave few of their bits empty, each by as many channels as fill a vector."""
    for bits, lanes in word_sizes(conv.in_channels, conv.depth, conv.out_channels, target):
        yield WordForm(bits=bits, lanes=lanes)


def bit_serial_kernel(conv: BitConv, form: WordForm, target: Target) -> Kernel:
    """Return the kernel of a convolution of few bits, packing included, for `target`: each packs in its own way."""
    return kernel(bit_serial_function(_work(conv, form, target)), shape=f"{conv}, words of {form.bits}")


def packing_kernel(conv: BitConv, form: WordForm, target: Target) -> Kernel:
    """Return the kernel that does nothing but pack the activations, for `target`."""
    return kernel(packing_function(_work(conv, form, target)), shape=f"{conv}, packing alone")


def _work(conv: BitConv, form: WordForm, target: Target) -> BitWork:
    form.weight_shape(conv)  # refuses lanes that do not divide the channels
    return BitWork(
        image=(conv.batch, conv.height, conv.width, conv.in_channels),
        out_channels=conv.out_channels,
        kernel=conv.kernel,
        stride=conv.stride,
        padding=(conv.padding,) * 4,
        zero=conv.zero,
        w_bits=conv.w_bits,
        a_bits=conv.a_bits,
        word=form.bits,
        lanes=form.lanes,
        table=lowest_by_table(target),
    )
