"""Small ONNX files, and what ONNX Runtime says they compute (ONNX's own reference gets uneven borders wrong)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

__all__ = ["expected", "model_of", "node", "save", "values_of"]


def values_of(*shape: int) -> np.ndarray:
    """Return the same random float32 values each time."""
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> onnx.NodeProto:
    """Return a node."""
    return helper.make_node(op, list(inputs), list(outputs), **attributes)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    *,
    shape: Sequence[int | str] = (1, 4, 6, 6),
    constants: Mapping[str, np.ndarray] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
) -> onnx.ModelProto:
    """Return a model of one input ``x`` of `shape` whose constants are initializers."""
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        initializer=[numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def save(model: onnx.ModelProto, folder: Path) -> Path:
    """Write a model to `folder`; return its path."""
    path = folder / "small.onnx"
    onnx.save(model, str(path))
    return path


def expected(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    """Return what ONNX Runtime computes of `x`."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, {"x": x})]
