"""A bundle: the compiled library with its parameters, what it takes and gives, a script that runs it without torch."""

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tvm_prune.codec import STRICT, decode, encode
from tvm_prune.errors import ConfigError, InputShapeError, ModelError, ToolchainError
from tvm_prune.files import write_atomically
from tvm_prune.oracle.target import Target

if TYPE_CHECKING:
    from tvm_prune.graph.compressed import CompressedModel
    from tvm_prune.oracle.compiler import CompilerOracle

__all__ = ["Bundle", "Port", "export_bundle", "load_bundle", "open_bundle", "run_bundle"]

Runner = Callable[[Sequence[np.ndarray]], list[np.ndarray]]

FORMAT = 1
_ABOUT = "bundle.json"


@dataclass(frozen=True, kw_only=True)
class Port:
    """Shape and dtype of one input or output."""

    shape: tuple[int, ...]
    dtype: str
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What bundle.json says: the library's file name, its inputs and outputs, where it runs and who made it."""

    format: int
    model: str
    library: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    target: Target
    versions: dict[str, str]
    parity_max_abs_err: float
    __pydantic_config__ = STRICT


def export_bundle(model: "CompressedModel", folder: Path, *, oracle: "CompilerOracle", name: str) -> Bundle:
    """Write the bundle of `model` to `folder`: model-HASH.so (code and parameters), bundle.json, run.py.

    The library that is shipped is the one whose outputs were compared with torch. Raises ParityError.
    """
    import torch

    from tvm_prune.graph.running import evaluating, tensors_of
    from tvm_prune.oracle.toolchain import TVM_PINS

    folder.mkdir(parents=True, exist_ok=True)
    # No name is ever used twice: the loader would answer it with the code it loaded before.
    fresh = folder / f".{uuid.uuid4().hex}.so"
    try:
        oracle.export_library(model, fresh)
        worst = oracle.parity(model, library=fresh)
        library = f"model-{hashlib.sha256(fresh.read_bytes()).hexdigest()[:12]}.so"
        os.replace(fresh, folder / library)
    finally:
        fresh.unlink(missing_ok=True)
    with torch.no_grad(), evaluating(model.module):
        outputs = tensors_of(model.module(*model.example_inputs))
    bundle = Bundle(
        format=FORMAT,
        model=name,
        library=library,
        inputs=tuple(_port(tensor) for tensor in model.example_inputs),
        outputs=tuple(_port(tensor) for tensor in outputs),
        target=oracle.target,
        versions=dict(TVM_PINS),
        parity_max_abs_err=worst,
    )
    write_atomically(folder / _ABOUT, json.dumps(encode(bundle), indent=2) + "\n")
    write_atomically(folder / "run.py", Path(__file__).with_name("run_bundle.py").read_text())
    for old in folder.glob("model*.so"):
        if old.name != library:
            old.unlink()  # a program that has it mapped keeps it
    return bundle


def _port(tensor: Any) -> Port:
    return Port(shape=tuple(tensor.shape), dtype=str(tensor.dtype).removeprefix("torch."))


def load_bundle(folder: Path) -> Bundle:
    """Return what `folder` holds. Raises ModelError saying what is missing or wrong."""
    about = folder / _ABOUT
    if not about.exists():
        raise ModelError(f"{folder} is no bundle: there is no {_ABOUT}. 'tvm-prune export' makes one.")
    try:
        content = json.loads(about.read_text())
        # Before the fields: a newer format has others.
        found = content["format"]
        if found > FORMAT:
            raise ModelError(f"{about} has format {found}, this version reads up to {FORMAT}; update tvm_prune")
        bundle = decode(Bundle, content)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ConfigError) as error:
        raise ModelError(f"{about} cannot be read: {error}. Export the bundle again.") from error
    if not (folder / bundle.library).exists():
        raise ModelError(f"{folder} lacks its library {bundle.library}; export the bundle again")
    return bundle


def run_bundle(folder: Path | str, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the outputs of the bundle in `folder` on `inputs`; imports tvm, never torch.

    Raises InputShapeError for inputs that do not fit, ModelError or ToolchainError when it cannot be loaded.
    """
    _check(load_bundle(Path(folder)), inputs)
    return open_bundle(folder)(inputs)


def _check(bundle: Bundle, inputs: Sequence[np.ndarray]) -> None:
    if len(inputs) != len(bundle.inputs):
        raise InputShapeError(f"the bundle takes {len(bundle.inputs)} inputs, {len(inputs)} were given")
    for number, (array, port) in enumerate(zip(inputs, bundle.inputs, strict=True)):
        if tuple(array.shape) != port.shape:
            raise InputShapeError(
                f"input {number} has shape {list(array.shape)}, the bundle was compiled for {list(port.shape)}"
            )


def open_bundle(folder: Path | str) -> Runner:
    """Return a function of the bundle's inputs to its outputs, loaded once for many calls; else as `run_bundle`."""
    folder = Path(folder)
    bundle = load_bundle(folder)
    os.environ.setdefault("TVM_NUM_THREADS", str(bundle.target.threads))
    import sys

    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]  # else `import tvm` would import it
    try:
        import tvm
        from tvm import relax

        library = tvm.runtime.load_module(str((folder / bundle.library).resolve()))
        main = relax.VirtualMachine(library, tvm.cpu())["main"]
    except (RuntimeError, OSError, AttributeError) as error:
        raise ToolchainError(
            f"{folder / bundle.library} cannot be loaded here ({str(error).splitlines()[0]}); it was compiled for "
            f"{bundle.target} with {bundle.versions}"
        ) from error
    finally:
        if hidden:
            sys.modules.pop("torch", None)

    def call(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        _check(bundle, inputs)
        outputs = main(
            *(tvm.runtime.tensor(array.astype(port.dtype)) for array, port in zip(inputs, bundle.inputs, strict=True))
        )
        return [outputs.numpy()] if hasattr(outputs, "numpy") else [output.numpy() for output in outputs]

    return call
