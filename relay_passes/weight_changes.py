"""Changes of a weight between torch's layout and the one that a kernel reads, carried out on numpy arrays.

A change is a list [kind, argument], so that it can be written down in JSON:

    permute    axes
    reshape    shape
    pad        zeros before and after each axis, [before, after, before, after, ...]
    flip       the axis to turn around
    pad_last   extent of the last axis, filled up with zeros
    pack_last  lanes: [..., O] becomes [O / lanes, ..., lanes], so that a vector of outputs is one stream of memory
    pack_dot   lanes: [..., I, O] becomes [O / lanes, ..., I / 4, lanes, 4], I filled up with zeros to a multiple of 4
    pack_dot_words  the same of elements of 16 bits, two beside each other: [O / lanes, ..., I / 2, lanes, 2]
    pack_planes  [bits, word, lanes]: integers [..., I, O] of few bits as planes, `relay_passes/bit_planes.py`
    winograd   outputs of a tile, m: [3, 3, I, O] becomes [m + 2, m + 2, I, O], the filter as `relay_passes/winograd.py`
               multiplies by it
    whole_winograd  the same of integers, in whole numbers: int16
"""

from typing import Any

import numpy as np

from relay_passes.bit_planes import packed_planes
from relay_passes.winograd_matrices import filter_transform, whole_filter_transform

__all__ = ["Change", "apply_changes", "changed_shape"]

Change = list[Any]
# Elements beside each other that one lane of an instruction for dot products takes.
_DOT_DEPTH = {"pack_dot": 4, "pack_dot_words": 2}


def apply_changes(array: np.ndarray, changes: list[Change]) -> np.ndarray:
    """Return `array` after the changes, in the order given."""
    for kind, argument in changes:
        if kind == "permute":
            array = array.transpose(argument)
        elif kind == "reshape":
            array = array.reshape(argument)
        elif kind == "pad":
            array = np.pad(array, np.reshape(argument, (-1, 2)))
        elif kind == "flip":
            array = np.flip(array, argument)
        elif kind == "pad_last":
            array = np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, argument - array.shape[-1])])
        elif kind == "pack_last":
            split = array.reshape(*array.shape[:-1], array.shape[-1] // argument, argument)
            array = np.moveaxis(split, -2, 0)
        elif kind in _DOT_DEPTH:
            beside = _DOT_DEPTH[kind]
            depth = -(-array.shape[-2] // beside)
            missing = [(0, 0)] * (array.ndim - 2) + [(0, depth * beside - array.shape[-2]), (0, 0)]
            tiles = array.shape[-1] // argument
            split = np.pad(array, missing).reshape(*array.shape[:-2], depth, beside, tiles, argument)
            array = np.moveaxis(split, (-2, -3), (0, -1))
        elif kind == "pack_planes":
            array = packed_planes(array, *argument)
        elif kind == "winograd":
            # Rounded once, after both products.
            matrix = filter_transform(argument)
            array = np.einsum("ay,yxio,bx->abio", matrix, array.astype("float64"), matrix, optimize=True).astype(
                array.dtype
            )
        elif kind == "whole_winograd":
            matrix = whole_filter_transform(argument)
            array = np.einsum("ay,yxio,bx->abio", matrix, array.astype("int64"), matrix, optimize=True).astype("int16")
        else:
            raise AssertionError(f"no such change of a weight: {kind!r}")
    return np.ascontiguousarray(array)


def changed_shape(shape: tuple[int, ...], changes: list[Change]) -> tuple[int, ...]:
    """Return the shape of an array of `shape` after the changes that a form is made of."""
    for kind, argument in changes:
        if kind == "pad_last":
            shape = (*shape[:-1], argument)
        elif kind == "pack_last":
            shape = (shape[-1] // argument, *shape[:-1], argument)
        elif kind in _DOT_DEPTH:
            beside = _DOT_DEPTH[kind]
            shape = (shape[-1] // argument, *shape[:-2], -(-shape[-2] // beside), argument, beside)
        elif kind == "pack_planes":
            bits, word, lanes = argument
            shape = (shape[-1] // lanes, *shape[:-2], -(-shape[-2] // word), bits, lanes)
        elif kind in ("winograd", "whole_winograd"):
            shape = (argument + 2, argument + 2, *shape[2:])
        else:
            raise AssertionError(f"no form of a weight is made by {kind!r}")
    return shape
