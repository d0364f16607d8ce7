"""The pruned network for other tools: an archive of torch.export, and ONNX."""

import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from tvm_prune.errors import ExportError
from tvm_prune.files import write_atomically
from tvm_prune.graph.compressed import CompressedModel

__all__ = ["save_onnx", "save_pt2"]


def save_pt2(model: CompressedModel, path: Path) -> None:
    """Write `model` as a ``.pt2`` archive for the shapes of its example inputs. Raises ExportError, DiskFullError."""
    program = _exported(model.module, model.example_inputs)
    _through_a_temporary_file(path, lambda place: torch.export.save(program, place))


def save_onnx(model: CompressedModel, path: Path) -> None:
    """Write `model` as one self-contained ONNX file for the shapes of its example inputs.

    Raises ExportError, DiskFullError.
    """
    module = model.module.eval()
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(module, model.example_inputs, dynamo=True, verbose=False)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ExportError(f"torch.onnx cannot export {type(module).__name__}: {_first_line(error)}") from error
    finally:
        quiet.setLevel(level)
    assert program is not None
    _through_a_temporary_file(path, lambda place: program.save(place, external_data=False))


def _exported(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.export.ExportedProgram:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(module.eval(), inputs)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ExportError(
            f"torch.export cannot export {type(module).__name__}: {_first_line(error)}. Keep Python control flow that "
            "depends on tensor values out of forward(); torch.export.export(model, inputs) alone shows where it stops."
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _through_a_temporary_file(path: Path, save: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / path.name
        save(place)
        write_atomically(path, place.read_bytes())
