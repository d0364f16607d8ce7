"""Inputs without labels, from a file: what a network is asked when nobody knows the right answers."""

from pathlib import Path

import numpy as np
import torch

from tvm_prune.errors import DataError

__all__ = ["read_inputs"]


def read_inputs(path: Path, example: torch.Tensor) -> torch.Tensor:
    """Return the array of a .npy file as inputs of a network that takes `example` [1, ...]: float32 [N, ...].

    Raises DataError saying what the file holds instead.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path} cannot be read as an array ({error}); write one with numpy.save(path, inputs)."
        ) from error
    wanted = list(example.shape[1:])
    if not isinstance(array, np.ndarray) or array.ndim == 0 or list(array.shape[1:]) != wanted:
        found = list(array.shape) if isinstance(array, np.ndarray) else "an archive of several arrays"
        raise DataError(f"{path} holds {found}; the network takes [inputs, {', '.join(map(str, wanted))}].")
    if array.dtype.kind not in "fiu":
        raise DataError(f"{path} holds values of type {array.dtype}; give float32, normalised as the network expects.")
    inputs = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    if not torch.isfinite(inputs).all():
        raise DataError(f"{path} holds values that are not finite; remove those inputs.")
    return inputs
