"""Kernels of few bits, unscheduled: exactly the sums of an integer convolution."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.examples import few
from tests.oracle.bits import HERE, activations, computed, expected, packed, weights
from tvm_prune.oracle.bit_conv import BitConv, WordForm
from tvm_prune.oracle.bit_forms import bit_serial_kernel, packing_kernel, word_forms
from tvm_prune.oracle.target import Target


@pytest.mark.parametrize("w_bits", range(1, 8))
@pytest.mark.parametrize("a_bits", range(1, 8))
def test_every_precision_gives_the_integer_sums(w_bits: int, a_bits: int) -> None:
    conv = BitConv(height=4, width=3, in_channels=18, out_channels=4, w_bits=w_bits, a_bits=a_bits, padding=1, zero=1)
    form = WordForm(bits=16, lanes=4)
    found = computed(bit_serial_kernel(conv, form, HERE).function, activations(conv), packed(conv, form))
    np.testing.assert_array_equal(found, expected(conv, activations(conv), weights(conv)))


@settings(max_examples=few(20))
@given(
    size=st.tuples(st.integers(3, 6), st.integers(3, 6)),
    channels=st.tuples(st.integers(1, 70), st.sampled_from([1, 4, 6])),
    bits=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    zero=st.integers(0, 1),
    batch=st.integers(1, 2),
    word=st.sampled_from([16, 32, 64]),
)
# What LLVM 22 miscompiles with vpmovb2m: words that never leave the registers.
@example((3, 3), (33, 4), (1, 1), (1, 2), 1, 0, 0, 1, 16)
@example((3, 3), (49, 4), (1, 1), (1, 1), 1, 0, 0, 1, 16)
@example((3, 3), (17, 6), (2, 1), (1, 1), 1, 0, 0, 1, 16)
def test_every_shape_gives_the_integer_sums(
    size: tuple[int, int],
    channels: tuple[int, int],
    bits: tuple[int, int],
    kernel: tuple[int, int],
    stride: int,
    padding: int,
    zero: int,
    batch: int,
    word: int,
) -> None:
    conv = BitConv(
        height=size[0],
        width=size[1],
        in_channels=channels[0],
        out_channels=channels[1],
        w_bits=bits[0],
        a_bits=bits[1],
        kernel=kernel,
        stride=stride,
        padding=padding,
        zero=zero,
        batch=batch,
    )
    form = WordForm(bits=word, lanes=2 if channels[1] % 2 == 0 else 1)
    found = computed(bit_serial_kernel(conv, form, HERE).function, activations(conv), packed(conv, form))
    np.testing.assert_array_equal(found, expected(conv, activations(conv), weights(conv)))


@pytest.mark.parametrize("word", [16, 32, 64])
def test_planes_hold_the_bits_of_the_activations_and_of_the_border(word: int) -> None:
    conv = BitConv(height=2, width=3, in_channels=70, out_channels=1, w_bits=1, a_bits=3, padding=1, zero=5)
    data = activations(conv)
    planes = computed(packing_kernel(conv, WordForm(bits=word, lanes=1), HERE).function, data)
    bits = np.unpackbits(planes[..., None].view("uint8"), axis=-1, bitorder="little")  # [N, H, W, words, planes, bits]
    bits = bits.transpose(0, 1, 2, 3, 5, 4).reshape(1, 4, 5, -1, 3)
    found = bits @ [1, 2, 4]
    np.testing.assert_array_equal(found[:, 1:-1, 1:-1, :70], data)
    assert (found[:, 0, :, :70] == 5).all()
    # Channels that fill up the last word are none of the border's.
    assert (found[..., 70:] == 0).all()


def test_forms_leave_few_bits_empty_and_fill_vectors() -> None:
    target = Target(cpu="znver4", threads=2, vector_bits=512)
    few = BitConv(height=4, width=4, in_channels=16, out_channels=64, w_bits=1, a_bits=1)
    many = BitConv(height=4, width=4, in_channels=512, out_channels=24, w_bits=1, a_bits=1)
    assert [(form.bits, form.lanes) for form in word_forms(few, target)] == [(16, 32), (32, 16)]
    assert [(form.bits, form.lanes) for form in word_forms(many, target)] == [(16, 24), (32, 12), (64, 8)]


def test_counts_of_a_large_window_do_not_go_into_narrow_words() -> None:
    conv = BitConv(height=3, width=3, in_channels=8192, out_channels=4, w_bits=1, a_bits=1)
    assert [form.bits for form in word_forms(conv, HERE)] == [32, 64]
