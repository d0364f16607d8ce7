"""Convolutions of few bits by plain integers, and what their kernels compute."""

from typing import Any

import numpy as np
import tvm

from tvm_prune.oracle.bit_conv import BitConv, WordForm, pack_weights
from tvm_prune.oracle.target import Target

__all__ = ["HERE", "activations", "computed", "expected", "packed", "weights"]

HERE = Target.local(threads=2)


def activations(conv: BitConv, seed: int = 0) -> np.ndarray:
    shape = (conv.batch, conv.height, conv.width, conv.in_channels)
    return np.random.default_rng(seed).integers(0, 2**conv.a_bits, shape).astype("uint8")


def weights(conv: BitConv, seed: int = 1) -> np.ndarray:
    generator = np.random.default_rng(seed)
    shape = (*conv.kernel, conv.in_channels, conv.out_channels)
    most = 2 ** (conv.w_bits - 1) - 1
    values = generator.choice([-1, 1], shape) if conv.w_bits == 1 else generator.integers(-most, most + 1, shape)
    return np.asarray(values.astype("int8"))


def expected(conv: BitConv, data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the sums by windows of integers, without planes."""
    border = [(0, 0), (conv.padding, conv.padding), (conv.padding, conv.padding), (0, 0)]
    image = np.pad(data.astype("int64"), border, constant_values=conv.zero)
    windows = np.lib.stride_tricks.sliding_window_view(image, conv.kernel, axis=(1, 2))
    windows = windows[:, :: conv.stride, :: conv.stride]
    return np.asarray(np.einsum("nhwcyx,yxco->nhwo", windows, weight.astype("int64")))


def computed(function: Any, *arrays: np.ndarray, target: Target = HERE) -> np.ndarray:
    """Compile a kernel and return what it makes of `arrays`."""
    module = tvm.IRModule({"kernel": function.with_attr("global_symbol", "kernel")})
    shape, dtype = tuple(int(extent) for extent in function.params[-1].shape), str(function.params[-1].dtype)
    # What is not written must not look like a sum.
    result = tvm.runtime.tensor(np.full(shape, np.iinfo(dtype).max, dtype))
    tvm.compile(module, target=target.to_tvm())["kernel"](*(tvm.runtime.tensor(each) for each in arrays), result)
    return np.asarray(result.numpy())


def packed(conv: BitConv, form: WordForm) -> np.ndarray:
    return pack_weights(weights(conv), conv, form)
