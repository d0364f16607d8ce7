"""Integer layers in NumPy, written down from their definition: what integer graphs and kernels must give exactly."""

import numpy as np

__all__ = ["convolved", "rounded"]


def convolved(data: np.ndarray, weight: np.ndarray, *, stride: int = 1, padding: int = 0, fill: int = 0) -> np.ndarray:
    """Return sums of products in int64: `data` N x C x H x W, `weight` O x C x KH x KW, borders of `fill`."""
    around = [(0, 0), (0, 0), (padding, padding), (padding, padding)]
    padded = np.pad(data.astype(np.int64), around, constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], (2, 3))[:, :, ::stride, ::stride]
    return np.asarray(np.einsum("nchwyx,ocyx->nohw", windows, weight.astype(np.int64)))


def rounded(sums: np.ndarray, multiplier: np.ndarray, zero: int, *, low: float = -np.inf) -> np.ndarray:
    """Return the integers 0..255 that sums times a multiplier for each channel (axis 1) are stored as."""
    scaled = sums.astype(np.int32).astype(np.float32) * multiplier.astype(np.float32).reshape(1, -1, 1, 1)
    clipped = np.clip(scaled, np.float32(max(-zero, low)), np.float32(255 - zero))
    return np.asarray(np.floor(clipped + np.float32(zero + 0.5)), np.uint8)
