"""Exported models in int8, ours and ONNX Runtime's, for comparisons of latency.

Both are calibrated on the same noise: what a module takes does not depend on its scales.
"""

import json
from pathlib import Path

import numpy as np
import torch

from tvm_prune.files import write_atomically
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.jobs.number_formats import in_formats
from tvm_prune.oracle.bundle import export_bundle
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.search.mixed import mixed_precision

__all__ = ["FLOAT_LAYERS", "export_integers"]

# Names the layers that "mixed" leaves in float32.
FLOAT_LAYERS = "float_layers.json"

_BATCHES = 8


def _noise(model: CompressedModel) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    (example,) = model.example_inputs
    return [torch.randn(example.shape, generator=generator) for _ in range(_BATCHES)]


def export_integers(model: CompressedModel, oracle: CompilerOracle, *, folder: Path, name: str) -> None:
    """Write ``folder/int8/bundle``, ``folder/mixed/bundle``, and ``model_int8.onnx`` from ``model.onnx``."""
    noise = _noise(model)
    integers = in_formats(model, noise)
    export_bundle(integers, folder / "int8" / "bundle", oracle=oracle, name=name)
    mixed = mixed_precision(integers, oracle).model
    export_bundle(mixed, folder / "mixed" / "bundle", oracle=oracle, name=name)
    left = [layer for layer in integers.integer_layers if layer not in mixed.integer_layers]
    write_atomically(folder / "mixed" / FLOAT_LAYERS, json.dumps(left))
    _onnx(folder, [batch.numpy() for batch in noise])


def _onnx(folder: Path, batches: list[np.ndarray]) -> None:
    """Let ONNX Runtime quantize its model to what VNNI multiplies: unsigned activations, signed weights, as QDQ."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # to mypy, what onnxruntime has is Any
        def __init__(self, name: str) -> None:
            self._feeds = iter([{name: batch} for batch in batches])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._feeds, None)

    source, ready = folder / "model.onnx", folder / "model_ready.onnx"
    quant_pre_process(str(source), str(ready))
    quantize_static(
        str(ready),
        str(folder / "model_int8.onnx"),
        Reader(onnx.load(str(source)).graph.input[0].name),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
