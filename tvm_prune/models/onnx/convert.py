"""An ONNX file as a torch module that can be pruned, trained and compiled like any other.

The file's nodes are walked in order. What none of the handlers can take over is collected: one error names all of it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from torch import nn

from tvm_prune.errors import InputShapeError, ModelError
from tvm_prune.models.onnx.builder import Builder
from tvm_prune.models.onnx.functions import FUNCTIONS
from tvm_prune.models.onnx.layers import LAYERS, with_bias
from tvm_prune.models.onnx.value import OnnxNode, Unsupported, Value

__all__ = ["convert"]


def convert(
    path: Path, *, inputs: Sequence[torch.Tensor] | None, seed: int = 0
) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return the module of an ONNX file and its example inputs, in eval mode.

    `inputs` give the shapes, one per input of the graph; None = those that the file fixes, filled at random. Weights in
    initializers and in Constant or Identity nodes become parameters of layers named after them. Raises ModelError for
    what is no ONNX file or holds operators that cannot be taken over, InputShapeError if a shape is open.
    """
    graph, opset = _read(path)
    constants = {item.name: torch.from_numpy(np.array(numpy_helper.to_array(item))) for item in graph.initializer}
    ports = [port for port in graph.input if port.name not in constants]
    examples = _examples(path, ports, inputs, seed=seed)
    builder = Builder()
    values: dict[str, Value] = {name: Value(tensor) for name, tensor in constants.items()}
    for port, example in zip(ports, examples, strict=True):
        values[port.name] = builder.input(port.name, example)
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(port.name for port in graph.output)
    refused: Counter[str] = Counter()
    unknown: set[str] = set()
    for proto in graph.node:
        if unknown.intersection(proto.input):
            unknown.update(proto.output)
            if proto.op_type not in LAYERS and proto.op_type not in FUNCTIONS:
                refused[proto.op_type] += 1
            continue
        node = _node(proto, values, opset)
        try:
            made = _made(builder, node, uses)
        except Unsupported as error:
            refused[str(error)] += 1
            unknown.update(proto.output)
            continue
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            raise InputShapeError(
                f"{path.name}: the node {node.name or node.outputs[0]} ({node.op}) does not take what reaches it from "
                f"inputs of {_shapes(examples)}: {error}. Give shapes it was made for, for example "
                "--input-shape 1,3,224,224."
            ) from error
        values.update(zip(node.outputs, made, strict=False))
    if refused:
        listed = "; ".join(f"{text} ({count}x)" if count > 1 else text for text, count in sorted(refused.items()))
        raise ModelError(
            f"{path.name} holds operators that cannot be taken over: {listed}. Load the torch model it was exported "
            "from instead: package.module:function."
        )
    outputs = [values[port.name] for port in graph.output]
    return builder.finish(outputs), tuple(examples)


def _read(path: Path) -> tuple[Any, int]:
    if not path.is_file():
        raise ModelError(f"no file {path}; check the path.")
    try:
        model = onnx.load(str(path))
    except (OSError, ValueError, TypeError, RuntimeError, DecodeError) as error:
        raise ModelError(f"{path} is no ONNX file ({error}); export the model again.") from error
    if not model.graph.output:
        raise ModelError(f"{path} is no ONNX file (it holds no graph); export the model again.")
    opset = max((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), default=1)
    return model.graph, int(opset)


def _examples(
    path: Path, ports: Sequence[Any], inputs: Sequence[torch.Tensor] | None, *, seed: int
) -> list[torch.Tensor]:
    if inputs is not None:
        if len(inputs) != len(ports):
            raise InputShapeError(f"{path.name} takes {len(ports)} inputs, {len(inputs)} shapes were given.")
        return list(inputs)
    generator = torch.Generator().manual_seed(seed)
    examples = []
    for port in ports:
        dims: list[Any] = [
            dim.dim_value if dim.dim_value > 0 else dim.dim_param or "?" for dim in port.type.tensor_type.shape.dim
        ]
        # A batch that is left open is one image unless it is said otherwise.
        fixed = [1 if place == 0 and not isinstance(size, int) else size for place, size in enumerate(dims)]
        if not fixed or not all(isinstance(size, int) for size in fixed):
            shape = ",".join(str(size) for size in dims)
            raise InputShapeError(
                f"{path.name} leaves the shape of its input {port.name} open: {shape or '?'}; say what it is to be "
                "compiled for, for example --input-shape 1,3,224,224 (once per input)."
            )
        examples.append(torch.randn(fixed, generator=generator))
    return examples


def _node(proto: Any, values: Mapping[str, Value], opset: int) -> OnnxNode:
    return OnnxNode(
        op=proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}",
        name=proto.name,
        inputs=[values[name] if name else None for name in proto.input],
        input_names=list(proto.input),
        attributes={item.name: _attribute(item) for item in proto.attribute},
        opset=opset,
        outputs=[name for name in proto.output if name],
    )


def _attribute(item: Any) -> Any:
    value = onnx.helper.get_attribute_value(item)
    if isinstance(value, onnx.TensorProto):
        return torch.from_numpy(np.array(numpy_helper.to_array(value)))
    return value.decode() if isinstance(value, bytes) else value


def _made(builder: Builder, node: OnnxNode, uses: Mapping[str, int]) -> list[Value]:
    if node.op == "Add" and (biased := _biased(builder, node, uses)) is not None:
        return [biased]
    if node.op in LAYERS:
        return [LAYERS[node.op](builder, node)]
    if node.op not in FUNCTIONS:
        raise Unsupported(node.op)
    made = FUNCTIONS[node.op](builder, node)
    return made if isinstance(made, list) else [made]


def _biased(builder: Builder, node: OnnxNode, uses: Mapping[str, int]) -> Value | None:
    """Return the output of the layer before an addition, its constant taken in as bias, if that is what it is."""
    for source, constant in ((0, 1), (1, 0)):
        value, added = node.required(source), node.required(constant)
        if added.constant and not value.constant and uses[node.input_names[source]] == 1:
            return with_bias(builder, value, added.tensor)
    return None


def _shapes(examples: Sequence[torch.Tensor]) -> str:
    return " ".join(",".join(map(str, example.shape)) for example in examples)
