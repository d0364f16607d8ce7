"""ONNX operators become torch modules that compute what ONNX Runtime computes."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from tests.models.onnx.graphs import expected, model_of, node, save
from tvm_prune.errors import InputShapeError, ModelError
from tvm_prune.models.load import load_model
from tvm_prune.models.onnx.convert import convert

_RANDOM = np.random.default_rng(0)


def values(*shape: int) -> np.ndarray:
    return _RANDOM.standard_normal(shape).astype("float32")


def ints(*numbers: int) -> np.ndarray:
    return np.asarray(numbers, "int64")


@dataclass(frozen=True)
class Case:
    """One operator on an input ``x``: its other inputs are constants, in order (None = left out)."""

    op: str
    constants: Sequence[np.ndarray | None] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    shape: Sequence[int] = (2, 4, 6, 6)
    outputs: Sequence[str] = ("y",)
    opset: int = 17

    def model(self) -> onnx.ModelProto:
        names = [f"c{place}" if value is not None else "" for place, value in enumerate(self.constants)]
        constants = {name: value for name, value in zip(names, self.constants, strict=True) if value is not None}
        made = node(self.op, ["x", *names], self.outputs, **self.attributes)
        return model_of([made], shape=self.shape, constants=constants, outputs=self.outputs, opset=self.opset)


UNARY = ("Abs", "Ceil", "Erf", "Exp", "Floor", "HardSwish", "Identity", "Neg", "Relu", "Sigmoid", "Softplus", "Tanh")
BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min")
LINE = (2, 4, 6)

CASES = {
    **{op: Case(op) for op in UNARY},
    **{op: Case(op, [values(1, 4, 1, 1)]) for op in BINARY},
    "Pow": Case("Pow", [np.asarray(2.0, "float32")]),
    "Sqrt of squares": Case("Sqrt", shape=(1, 2)),
    "Reciprocal": Case("Reciprocal"),
    "Sum": Case("Sum", [values(2, 4, 6, 6), values(1)]),
    "Dropout": Case("Dropout"),
    "Elu": Case("Elu", attributes={"alpha": 0.5}),
    "LeakyRelu": Case("LeakyRelu", attributes={"alpha": 0.2}),
    "Gelu": Case("Gelu", attributes={"approximate": "tanh"}, opset=20),
    "HardSigmoid": Case("HardSigmoid", attributes={"alpha": 0.3, "beta": 0.4}),
    "Clip by inputs": Case("Clip", [np.asarray(-0.5, "float32"), np.asarray(0.5, "float32")]),
    "Clip from below": Case("Clip", [np.asarray(0.1, "float32")]),
    "Clip to 6": Case("Clip", [np.asarray(0.0, "float32"), np.asarray(6.0, "float32")]),
    "Clip by attributes": Case("Clip", attributes={"min": -0.2, "max": 0.7}, opset=9),
    "PRelu": Case("PRelu", [values(4, 1, 1)]),
    "Softmax": Case("Softmax", attributes={"axis": 1}),
    "old Softmax": Case("Softmax", shape=(2, 5), opset=11),
    "LRN": Case("LRN", attributes={"size": 3, "alpha": 0.1, "beta": 0.7, "bias": 1.5}),
    "Conv": Case("Conv", [values(6, 4, 3, 3), values(6)], {"pads": [1, 1, 1, 1], "strides": [2, 1]}),
    "Conv, dilated groups": Case("Conv", [values(8, 2, 3, 3)], {"group": 2, "dilations": [2, 1]}),
    "Conv, uneven border": Case("Conv", [values(3, 4, 3, 3)], {"pads": [0, 1, 2, 1]}),
    "Conv, same upper": Case("Conv", [values(3, 4, 3, 3)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "Conv, same lower": Case("Conv", [values(3, 4, 4, 3)], {"auto_pad": "SAME_LOWER"}),
    "Conv, valid": Case("Conv", [values(3, 4, 3, 3)], {"auto_pad": "VALID"}),
    "Conv of a line": Case("Conv", [values(3, 4, 3)], shape=LINE),
    "ConvTranspose": Case(
        "ConvTranspose",
        [values(4, 3, 3, 3), values(3)],
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
    ),
    "BatchNormalization": Case(
        "BatchNormalization", [values(4), values(4), values(4), np.abs(values(4)) + 0.5], {"epsilon": 1e-3}
    ),
    "LayerNormalization": Case("LayerNormalization", [values(6), values(6)], {"axis": -1}),
    "Gemm": Case("Gemm", [values(3, 5), values(3)], {"transB": 1, "alpha": 0.5, "beta": 2.0}, shape=(2, 5)),
    "Gemm, one number added": Case("Gemm", [values(5, 3), values(1)], shape=(2, 5)),
    "Gemm of the transposed": Case("Gemm", [values(2, 3)], {"transA": 1}, shape=(2, 5)),
    "MatMul": Case("MatMul", [values(6, 3)]),
    "MatMul of many": Case("MatMul", [values(4, 6, 3)]),
    "MaxPool": Case("MaxPool", attributes={"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "MaxPool, uneven border": Case("MaxPool", attributes={"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}),
    "AveragePool": Case("AveragePool", attributes={"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    "AveragePool, border counts": Case(
        "AveragePool", attributes={"kernel_shape": [2, 2], "pads": [0, 0, 1, 1], "count_include_pad": 1}
    ),
    "GlobalAveragePool": Case("GlobalAveragePool"),
    "GlobalAveragePool of a line": Case("GlobalAveragePool", shape=LINE),
    "ReduceMean": Case("ReduceMean", attributes={"axes": [2, 3], "keepdims": 0}),
    "ReduceMean of all": Case("ReduceMean"),
    "ReduceSum": Case("ReduceSum", [ints(1)]),
    "Reshape": Case("Reshape", [ints(0, -1, 3)]),
    "Flatten": Case("Flatten"),
    "Flatten late": Case("Flatten", attributes={"axis": 2}),
    "Transpose": Case("Transpose", attributes={"perm": [0, 2, 3, 1]}),
    "Transpose all": Case("Transpose", shape=LINE),
    "Squeeze": Case("Squeeze", [ints(2)], shape=(2, 4, 1, 1)),
    "old Squeeze": Case("Squeeze", attributes={"axes": [2]}, shape=(2, 4, 1, 1), opset=11),
    "Squeeze all": Case("Squeeze", shape=(2, 4, 1, 1)),
    "Unsqueeze": Case("Unsqueeze", [ints(0, -1)], shape=LINE),
    "Concat": Case("Concat", [values(2, 1, 6, 6)], {"axis": 1}),
    "Slice": Case("Slice", [ints(1, 0), ints(3, 6), ints(1, 2), ints(1, 2)]),
    "old Slice": Case("Slice", attributes={"starts": [0], "ends": [-1], "axes": [3]}, opset=9),
    "Split": Case("Split", [ints(1, 3)], {"axis": 1}, outputs=("y", "z")),
    "Split evenly": Case("Split", attributes={"axis": 1}, outputs=("y", "z")),
    "Gather one": Case("Gather", [np.asarray(2)], {"axis": 1}),
    "Gather some": Case("Gather", [ints(2, 0)], {"axis": 1}),
    "Expand": Case("Expand", [ints(2, 4, 6)], shape=(1, 4, 6)),
    "Pad": Case("Pad", [ints(0, 0, 1, 0, 0, 0, 0, 2), np.asarray(0.5, "float32")]),
    "Pad, reflected": Case("Pad", [ints(0, 0, 1, 1, 0, 0, 1, 1)], {"mode": "reflect"}),
    "old Pad": Case("Pad", attributes={"pads": [0, 1, 0, 0, 0, 0, 0, 0], "value": 2.0}, opset=9),
    "Resize nearest": Case(
        "Resize",
        [None, np.asarray([1, 1, 2, 2], "float32")],
        {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    ),
    "Resize linear": Case("Resize", [None, None, ints(2, 4, 9, 3)], {"mode": "linear"}),
    "Resize to corners": Case(
        "Resize",
        [None, None, ints(2, 4, 12, 9)],
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    ),
    "Upsample": Case("Upsample", [np.asarray([1, 1, 2, 3], "float32")], opset=9),
    "Cast": Case("Cast", attributes={"to": 1}),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operator_computes_what_onnx_runtime_says(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    model = case.model()
    x = np.abs(values(*case.shape)) if "squares" in name else values(*case.shape)
    module, _ = convert(save(model, tmp_path), inputs=[torch.from_numpy(x)])
    with torch.no_grad():
        found = module(torch.from_numpy(x))
    found = [found] if isinstance(found, torch.Tensor) else list(found)
    for mine, reference in zip(found, expected(model, x), strict=True):
        np.testing.assert_allclose(mine.numpy(), reference, rtol=1e-5, atol=1e-5)
    assert not module.training


def test_weights_in_constant_and_identity_nodes_become_layers(tmp_path: Path) -> None:
    weight, shift = values(5, 4, 1, 1), values(1, 5, 1, 1)
    held = onnx.numpy_helper.from_array(weight)
    nodes = [
        node("Constant", [], ["held"], value=held),
        node("Identity", ["held"], ["conv_7.w_0"]),
        node("Conv", ["x", "conv_7.w_0"], ["c"]),
        node("Add", ["c", "shift"], ["y"]),
    ]
    module, inputs = convert(save(model_of(nodes, constants={"shift": shift}), tmp_path), inputs=None)
    (name, layer), *others = [item for item in module.named_modules() if isinstance(item[1], nn.Conv2d)]
    assert (name, others) == ("conv_7", [])
    assert layer.bias is not None
    np.testing.assert_array_equal(layer.bias.detach().numpy(), shift.flatten())
    np.testing.assert_allclose(
        module(*inputs).detach().numpy(),
        expected(model_of(nodes, constants={"shift": shift}), inputs[0].numpy())[0],
        atol=1e-5,
    )


def test_a_constant_added_to_what_others_read_too_is_no_bias(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("Add", ["c", "shift"], ["d"]),
        node("Mul", ["c", "d"], ["y"]),
    ]
    model = model_of(nodes, constants={"w": values(4, 4, 1, 1), "shift": values(1, 4, 1, 1)})
    module, inputs = convert(save(model, tmp_path), inputs=None)
    np.testing.assert_allclose(module(*inputs).detach().numpy(), expected(model, inputs[0].numpy())[0], atol=1e-5)


def test_arithmetic_on_shapes_is_computed_away_and_any_batch_goes_through(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Slice", ["s", "zero", "one"], ["batch"]),
        node("Concat", ["batch", "rest"], ["shape"], axis=0),
        node("Reshape", ["x", "shape"], ["y"]),
    ]
    constants = {"zero": ints(0), "one": ints(1), "rest": ints(-1)}
    module, _ = convert(save(model_of(nodes, constants=constants), tmp_path), inputs=None)
    assert module(torch.zeros(3, 4, 6, 6)).shape == (3, 144)
    assert isinstance(module, torch.fx.GraphModule)
    assert [each.target for each in module.graph.nodes if each.op == "call_function"] == [torch.flatten]


def test_a_converted_module_fails_without_a_page_of_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = {"w": values(3, 4, 1, 1)}
    module, _ = convert(save(model_of([node("Conv", ["x", "w"], ["y"])], constants=weights), tmp_path), inputs=None)
    for each in (module, copy.deepcopy(module)):
        with pytest.raises(RuntimeError, match="to have 4 channels"):
            each(torch.zeros(1, 5, 6, 6))
    assert capsys.readouterr() == ("", "")


def test_one_error_names_every_operator_that_cannot_be_taken_over(tmp_path: Path) -> None:
    nodes = [
        node("NonZero", ["x"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("Einsum", ["b"], ["c"], equation="i->i"),
        node("Slice", ["x", "one", "zero", "axis", "back"], ["d"]),
        node("Einsum", ["d"], ["y"], equation="i->i"),
    ]
    constants = {"one": ints(1), "zero": ints(0), "axis": ints(1), "back": ints(-1)}
    path = save(model_of(nodes, constants=constants), tmp_path)
    with pytest.raises(ModelError) as caught:
        convert(path, inputs=None)
    assert str(caught.value) == (
        "small.onnx holds operators that cannot be taken over: Einsum (2x); NonZero; Slice backwards. Load the torch "
        "model it was exported from instead: package.module:function."
    )


REFUSED = {
    "a computed weight": (
        [node("Relu", ["x"], ["w"]), node("Conv", ["x", "w"], ["y"])],
        "Conv with a weight that is computed from the inputs",
    ),
    "a limit that depends on the input": (
        [node("ReduceMean", ["x"], ["m"], keepdims=0), node("Clip", ["x", "m"], ["y"])],
        "a shape, axis or limit that depends on the values of the inputs",
    ),
    "places": ([node("MaxPool", ["x"], ["y", "z"], kernel_shape=[2, 2])], "MaxPool that also returns places"),
    "cubic": (
        [node("Resize", ["x", "", "scale"], ["y"], mode="cubic")],
        "Resize of mode cubic and coordinates half_pixel",
    ),
    "another domain": ([node("Fancy", ["x"], ["y"], domain="com.example")], "com.example.Fancy"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_counterpart_is_named(name: str, tmp_path: Path) -> None:
    nodes, text = REFUSED[name]
    path = save(model_of(nodes, constants={"scale": np.asarray([1, 1, 2, 2], "float32")}), tmp_path)
    with pytest.raises(ModelError, match=text):
        convert(path, inputs=None)


def test_a_shape_that_the_file_leaves_open_must_be_given(tmp_path: Path) -> None:
    path = save(model_of([node("Relu", ["x"], ["y"])], shape=("N", 3, "H", "W")), tmp_path)
    with pytest.raises(InputShapeError, match=r"small.onnx leaves the shape of its input x open: N,3,H,W; say what"):
        load_model(str(path))
    model = load_model(str(path), input_shapes=[(1, 3, 8, 8)])
    assert [tuple(value.shape) for value in model.example_inputs] == [(1, 3, 8, 8)]


def test_an_open_batch_is_one(tmp_path: Path) -> None:
    path = save(model_of([node("Relu", ["x"], ["y"])], shape=("N", 3, 8, 8)), tmp_path)
    assert tuple(load_model(str(path)).example_inputs[0].shape) == (1, 3, 8, 8)
    assert tuple(load_model(str(path), batch=4).example_inputs[0].shape) == (4, 3, 8, 8)


def test_inputs_that_do_not_fit_are_told_with_the_node(tmp_path: Path) -> None:
    path = save(model_of([node("Conv", ["x", "w"], ["y"])], constants={"w": values(3, 5, 1, 1)}), tmp_path)
    with pytest.raises(
        InputShapeError, match=r"the node y \(Conv\) does not take what reaches it from inputs of 1,4,6,6"
    ):
        load_model(str(path))
    with pytest.raises(InputShapeError, match=r"takes 1 inputs, 2 shapes were given"):
        load_model(str(path), input_shapes=[(1, 4, 6, 6), (1, 4)])


@pytest.mark.parametrize("content", [b"no model", b"", bytes(range(256))])
def test_what_is_no_onnx_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"broken.onnx is no ONNX file"):
        load_model(str(path))
    with pytest.raises(ModelError, match=r"no file .*missing.onnx"):
        load_model(str(tmp_path / "missing.onnx"))


def test_a_loaded_file_is_known_by_its_hash(tmp_path: Path) -> None:
    path = save(model_of([node("Relu", ["x"], ["y"])]), tmp_path)
    model = load_model(str(path))
    assert (model.name, model.prunable, len(model.file_sha256 or "")) == ("small", True, 64)
