"""Weights of few bits as planes of bits in words, in numpy."""

import numpy as np

__all__ = ["packed_planes"]


def packed_planes(weights: np.ndarray, bits: int, word: int, lanes: int) -> np.ndarray:
    """Return integers [..., I, O] of `bits` as [O / lanes, ..., words, planes, lanes] of unsigned words of `word` bits.

    Two's complement: the last plane counts negative. Of one bit, a set bit is +1 and an unset one -1. Input channels
    are the bits of a word, the first the lowest; those that do not fill the last one leave its bits 0.
    """
    *window, depth, channels = weights.shape
    words, tiles = -(-depth // word), channels // lanes
    integers = (weights > 0).astype("uint8") if bits == 1 else weights.astype("int8").view("uint8")
    set_bits = integers[..., None] >> np.arange(bits, dtype="uint8") & 1  # [..., I, O, planes]
    missing = [(0, 0)] * len(window) + [(0, words * word - depth), (0, 0), (0, 0)]
    set_bits = np.pad(set_bits, missing).reshape(*window, words, word, tiles, lanes, bits)
    # [tiles, ..., words, planes, lanes, bits of the word]
    set_bits = np.moveaxis(set_bits, (-3, -1, -2, -4), (0, -3, -2, -1))
    packed = np.packbits(np.ascontiguousarray(set_bits), axis=-1, bitorder="little")
    return np.asarray(packed.view(f"<u{word // 8}")[..., 0])
