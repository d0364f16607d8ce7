"""Changes of a weight between torch's layout and the one that a kernel reads, carried out on numpy arrays.

A change is a list [kind, argument], so that it can be written down in JSON:

    permute    axes
    reshape    shape
    pad        zeros before and after each axis, [before, after, before, after, ...]
    flip       the axis to turn around
    pad_last   extent of the last axis, filled up with zeros
    pack_last  lanes: [..., O] becomes [O / lanes, ..., lanes], so that a vector of outputs is one stream of memory
    pack_dot   lanes: [..., I, O] becomes [O / lanes, ..., I / 4, lanes, 4], I filled up with zeros to a multiple of 4
    winograd   outputs of a tile, m: [3, 3, I, O] becomes [m + 2, m + 2, I, O], the filter as `relay_passes/winograd.py`
               multiplies by it
"""

from typing import Any

import numpy as np

from relay_passes.winograd_matrices import filter_transform

__all__ = ["Change", "apply_changes", "changed_shape"]

Change = list[Any]
_DOT_DEPTH = 4


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
        elif kind == "pack_dot":
            depth = -(-array.shape[-2] // _DOT_DEPTH)
            missing = [(0, 0)] * (array.ndim - 2) + [(0, depth * _DOT_DEPTH - array.shape[-2]), (0, 0)]
            tiles = array.shape[-1] // argument
            split = np.pad(array, missing).reshape(*array.shape[:-2], depth, _DOT_DEPTH, tiles, argument)
            array = np.moveaxis(split, (-2, -3), (0, -1))
        elif kind == "winograd":
            # Rounded once, after both products.
            matrix = filter_transform(argument)
            array = np.einsum("ay,yxio,bx->abio", matrix, array.astype("float64"), matrix, optimize=True).astype(
                array.dtype
            )
        else:
            raise AssertionError(f"no such change of a weight: {kind!r}")
    return np.ascontiguousarray(array)


def changed_shape(shape: tuple[int, ...], changes: list[Change]) -> tuple[int, ...]:
    """Return the shape of an array of `shape` after changes of its last axis (pad_last, pack_last) and winograd."""
    for kind, argument in changes:
        if kind == "pad_last":
            shape = (*shape[:-1], argument)
        elif kind == "pack_last":
            shape = (shape[-1] // argument, *shape[:-1], argument)
        elif kind == "pack_dot":
            shape = (shape[-1] // argument, *shape[:-2], -(-shape[-2] // _DOT_DEPTH), argument, _DOT_DEPTH)
        elif kind == "winograd":
            shape = (argument + 2, argument + 2, *shape[2:])
        else:
            raise AssertionError(f"no form of a weight is made by {kind!r}")
    return shape
