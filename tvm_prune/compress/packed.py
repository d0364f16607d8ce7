"""The weights of a quantized network in as few bytes as their bits take: a safetensors file of packed integers.

A rounded weight is held as its integers plus the largest one, least significant bit first, one after the other without
gaps, beside the float32 scale of each output channel; all else is as it is. The metadata say bits and shapes.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tvm_prune.errors import WeightsError
from tvm_prune.files import write_atomically
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.integer_ops import weight_integers, weight_limit, weight_scales
from tvm_prune.graph.stored_tensors import own_scales

__all__ = ["is_packed", "pack", "read_packed", "unpack", "write_packed"]

_KEY = "tvm_prune.packed"


def pack(integers: np.ndarray, bits: int) -> np.ndarray:
    """Return `integers` (-limit to limit of `bits`; of one bit -1 and 1) as uint8 [ceil(size * bits / 8)]."""
    codes = (integers.reshape(-1).astype(np.int64) + weight_limit(bits)) >> (bits == 1)
    planes = (codes[:, None] >> np.arange(bits)) & 1
    return np.packbits(planes.astype(np.uint8).reshape(-1), bitorder="little")


def unpack(packed: np.ndarray, bits: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return what `pack` packed as int8 of `shape`."""
    count = int(np.prod(shape, dtype=np.int64))
    planes = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    codes = (planes.astype(np.int64) << np.arange(bits)).sum(axis=1)
    return np.asarray((codes << (bits == 1)) - weight_limit(bits), np.int8).reshape(shape)


def write_packed(model: CompressedModel, path: Path) -> int:
    """Write the weights of `model`, whose batch norms are folded, to `path`; returns the bytes of the file."""
    tensors: dict[str, np.ndarray] = {}
    described: dict[str, dict[str, object]] = {}
    for name, value in model.module.state_dict().items():
        layer, _, kind = name.rpartition(".")
        if kind != "weight" or layer not in model.rounded_layers:
            tensors[name] = value.detach().cpu().contiguous().numpy()
            continue
        bits, own = model.precision[layer].weight_bits, own_scales(model, layer)
        scales = weight_scales(value, bits) if own is None else own
        tensors[name] = pack(weight_integers(value.detach(), bits, own).numpy(), bits)
        tensors[f"{name}.scales"] = scales.numpy()
        described[name] = {"bits": bits, "shape": list(value.shape)}
    content = save(tensors, metadata={_KEY: json.dumps(described, sort_keys=True)})
    write_atomically(path, content)
    return len(content)


def is_packed(path: Path) -> bool:
    """Whether `path` is a file of `write_packed`; False for what is no safetensors file at all."""
    try:
        with safe_open(path, framework="numpy") as file:
            return _KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def read_packed(path: Path) -> dict[str, torch.Tensor]:
    """Return the weights that `write_packed` wrote, in float32. Raises WeightsError for any other file."""
    if not is_packed(path):
        raise WeightsError(f"{path} holds no packed weights; give the packed.safetensors of `tvm-prune quantize`")
    with safe_open(path, framework="numpy") as file:
        described = json.loads(file.metadata()[_KEY])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    found = {}
    for name, value in tensors.items():
        if name in described:
            shape = tuple(described[name]["shape"])
            scales = tensors[f"{name}.scales"].reshape(-1, *[1] * (len(shape) - 1))
            found[name] = torch.from_numpy(unpack(value, described[name]["bits"], shape) * scales)
        elif not name.endswith(".weight.scales"):
            found[name] = torch.from_numpy(value)
    return found
