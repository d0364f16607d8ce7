"""Weights to a safetensors file and back, strictly: every key, every shape, every type."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from tvm_prune.errors import WeightsError
from tvm_prune.files import write_atomically

__all__ = ["load_tensors", "load_weights", "save_weights", "weights_digest", "weights_file"]


def save_weights(module: nn.Module, path: Path, *, metadata: Mapping[str, str] | None = None) -> None:
    """Write the parameters and buffers of `module` to `path`, whole or not at all."""
    write_atomically(path, weights_file(module, metadata=metadata))


def weights_file(module: nn.Module, *, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return what `save_weights` writes."""
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in module.state_dict().items()}
    return save(tensors, metadata=dict(metadata or {}))


def load_weights(module: nn.Module, path: Path) -> dict[str, str]:
    """Load `path` into `module` in place and return the file's metadata.

    Raises WeightsError for a missing, corrupt or foreign file, and for one that does not fit; the module is then as
    it was.
    """
    if not path.is_file():
        raise WeightsError(f"no weights file {path}; check the path, or train: tvm-prune train MODEL --out {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is not a whole safetensors file ({error}). If it was made by torch.save, convert it: "
            "safetensors.torch.save_file(torch.load(OLD, weights_only=True), NEW)."
        ) from error
    load_tensors(module, tensors, path)
    return metadata


def load_tensors(module: nn.Module, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Load `tensors`, which came from `path`, into `module` in place.

    Raises WeightsError if they do not fit; the module is then as it was.
    """
    _check_fit(module.state_dict(), tensors, path)
    module.load_state_dict(tensors)


def weights_digest(module: nn.Module) -> str:
    """Return sha256 (hex) of the names and values of all parameters and buffers of the state dict."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(json.dumps([name, list(tensor.shape), str(tensor.dtype)]).encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check_fit(wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], path: Path) -> None:
    complaints = []
    if missing := sorted(wanted.keys() - found.keys()):
        complaints.append(f"missing: {_listed(missing)}")
    if unexpected := sorted(found.keys() - wanted.keys()):
        complaints.append(f"unexpected: {_listed(unexpected)}")
    different = [
        f"{name} is {_kind(found[name])}, the model needs {_kind(wanted[name])}"
        for name in sorted(wanted.keys() & found.keys())
        if found[name].shape != wanted[name].shape or found[name].dtype != wanted[name].dtype
    ]
    if different:
        complaints.append(f"different: {_listed(different)}")
    if complaints:
        raise WeightsError(
            f"{path} does not fit the model; {'; '.join(complaints)}. "
            "Name the model and the number of classes it was saved from; a pruned model's weights need its recipe: "
            "evaluate --recipe FILE --weights FILE, or apply/export --recipe FILE --pruned-weights FILE."
        )


def _kind(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _listed(items: list[str], shown: int = 5) -> str:
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(items[:shown]) + more
