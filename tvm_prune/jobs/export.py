"""A model as files that other programs run: the compiled bundle, an archive of torch.export, ONNX."""

from collections.abc import Callable
from pathlib import Path

from tvm_prune.errors import ConfigError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.jobs.formats import save_onnx, save_pt2
from tvm_prune.jobs.watcher import Silent, Watcher
from tvm_prune.models.weights import save_weights
from tvm_prune.oracle.bundle import Bundle, export_bundle
from tvm_prune.oracle.compiler import CompilerOracle

__all__ = ["bundler", "export", "write_file"]


def bundler(oracle: CompilerOracle, *, name: str) -> Callable[[CompressedModel, Path], float]:
    """Return what a CPrune job calls to compile its result: a function of model and folder to the parity error."""

    def compiled(model: CompressedModel, folder: Path) -> float:
        return export_bundle(model, folder, oracle=oracle, name=name).parity_max_abs_err

    return compiled


def export(
    model: CompressedModel, oracle: CompilerOracle, *, out: Path | str, name: str, watcher: Watcher | None = None
) -> Bundle:
    """Write ``out/bundle``, ``out/model.pt2`` and ``out/model.onnx``; tune what has no record yet.

    Of a quantized model there is the bundle alone: the others would hold the network in float32.
    Raises ExportError, ParityError, ToolchainError, DiskFullError.
    """
    out, watcher = Path(out), watcher or Silent()
    if model.rounded_layers:
        watcher.note("a quantized model has no .pt2 and no .onnx file: only the bundle computes what it does")
    else:
        watcher.stage("write model.pt2 and model.onnx")
        write_file(model, out / "model.pt2")
        write_file(model, out / "model.onnx")
    watcher.stage("tune and compile the bundle")
    return export_bundle(model, out / "bundle", oracle=oracle, name=name)


def write_file(model: CompressedModel, path: Path) -> None:
    """Write `model` in the format that the suffix of `path` names: .safetensors, .pt2 or .onnx.

    Raises ConfigError for another suffix, and for the last two of a quantized model.
    """
    if model.rounded_layers and path.suffix in (".pt2", ".onnx"):
        raise ConfigError(
            f"{path} would hold the quantized model in float32: compile it with `tvm-prune export`, or write its "
            "weights to a .safetensors file"
        )
    if path.suffix == ".safetensors":
        save_weights(model.module, path)
    elif path.suffix == ".pt2":
        save_pt2(model, path)
    elif path.suffix == ".onnx":
        save_onnx(model, path)
    else:
        raise ConfigError(f"cannot tell the format of {path}; let it end in .safetensors, .pt2 or .onnx")
