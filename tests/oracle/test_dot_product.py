"""Dot product instructions: what they are said to compute, and what they do compute."""

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax, tirx

from relay_passes.weight_form import WeightForm
from tests.oracle.kernels import the_kernel
from tests.relay_passes.graphs import Emit, graph
from tvm_prune.oracle.forms import forms
from tvm_prune.oracle.spaces import dot_product, points
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tasks import anatomy_of

VNNI = Target(cpu="znver4", threads=2, vector_bits=512)
HERE = Target.local(threads=2)
FORM = WeightForm(layout="dot", lanes=16)


def variable(name: str, kind: str, *shape: int) -> relax.Var:
    return relax.Var(name, relax.TensorType(list(shape), kind))


def integer_conv(source: int, result: int, *, stride: int = 1) -> Any:
    """Return the graph of an integer convolution, 3x3 on 8x8, its sums halved and shifted as an epilogue."""
    data = variable("data", "uint8", 1, 8, 8, source)
    weight = variable("weight", "int8", 3, 3, source, result)
    offset = variable("offset", "int32", 1, 1, 1, result)

    def body(emit: Emit) -> Any:
        layouts = {"data_layout": "NHWC", "kernel_layout": "HWIO", "out_dtype": "int32"}
        return relax.op.add(emit(relax.op.nn.conv2d(data, weight, strides=stride, padding=1, **layouts)), offset)

    return graph([data], [weight, offset], body)


def computed(function: Any, target: Target, *arrays: np.ndarray) -> np.ndarray:
    module = tvm.IRModule({"kernel": function.with_attr("global_symbol", "kernel")})
    result = tvm.runtime.tensor(np.zeros([int(extent) for extent in function.params[-1].shape], "int32"))
    tvm.compile(module, target=target.to_tvm())["kernel"](*(tvm.runtime.tensor(array) for array in arrays), result)
    return np.asarray(result.numpy())


def test_a_target_with_the_instruction_is_known_by_its_processor() -> None:
    assert VNNI.dot_product == "vnni"
    assert dot_product.instruction(VNNI, 16) == "tvm_prune_dot_16_vnni"
    assert dot_product.instruction(VNNI, 3) is None
    without = Target(cpu="skylake-avx512", threads=2, vector_bits=512)
    assert without.dot_product == ""
    assert dot_product.instruction(without, 16) is None


@pytest.mark.parametrize("source", [16, 6])
def test_a_scheduled_kernel_uses_the_instruction(source: int) -> None:
    dot_product.register()
    kernel = the_kernel(integer_conv(source, 32), VNNI, form=FORM)
    point = next(iter(points(kernel.function, VNNI)))
    function = point.candidate().schedule.mod["main"].with_attr("global_symbol", "kernel")
    compiled = tvm.compile(tvm.IRModule({"kernel": function}), target=VNNI.to_tvm())
    assert "vpdpbusd.512" in compiled.mod.inspect_source("ll")
    depth = -(-source // 4) * 4
    assert point.program.axes["in_c"].extent == depth


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        (32, ["dot products by 16"]),
        (
            20,
            [
                "padded to 32 channels, dot products by 16",
                "padded to 24 channels, dot products by 8",
                "dot products by 4",
            ],
        ),
        (6, ["padded to 16 channels, dot products by 16", "padded to 8 channels, dot products by 8"]),
    ],
)
def test_narrower_vectors_are_tried_where_they_compute_fewer_channels_in_vain(
    channels: int, expected: list[str]
) -> None:
    kernel = the_kernel(integer_conv(16, channels), VNNI)
    assert [str(form) for form in forms(anatomy_of(kernel), kernel.function, VNNI)] == expected


def test_without_the_instruction_integers_have_no_other_form() -> None:
    without = Target(cpu="skylake-avx512", threads=2, vector_bits=512)
    kernel = the_kernel(integer_conv(16, 20), without)
    assert list(forms(anatomy_of(kernel), kernel.function, without)) == []


@pytest.mark.skipif(HERE.dot_product == "", reason="this processor has no such instruction")
@pytest.mark.parametrize(("source", "stride"), [(16, 1), (6, 1), (16, 2)])
def test_its_kernels_compute_exactly_what_the_plain_ones_do(source: int, stride: int) -> None:
    dot_product.register()
    generator = np.random.default_rng(0)
    data = generator.integers(0, 256, (1, 8, 8, source)).astype("uint8")
    weight = generator.integers(-127, 128, (3, 3, source, 32)).astype("int8")
    offset = generator.integers(-999, 999, (1, 1, 1, 32)).astype("int32")
    graph_of = integer_conv(source, 32, stride=stride)
    plain = the_kernel(graph_of, HERE)
    packed = np.pad(weight, [(0, 0), (0, 0), (0, -source % 4), (0, 0)])
    packed = packed.reshape(3, 3, -1, 4, 2, 16).transpose(4, 0, 1, 2, 5, 3).copy()
    expected = computed(plain.function, HERE, data, weight, offset)
    form = WeightForm(layout="dot", lanes=16)
    np.testing.assert_array_equal(packed.shape, form.shape(weight.shape))
    kernel = the_kernel(graph_of, HERE, form=form)
    for _, point in zip(range(6), points(kernel.function, HERE), strict=False):
        found = computed(point.candidate().schedule.mod["main"], HERE, data, packed, offset)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.skipif(HERE.dot_product == "", reason="this processor has no such instruction")
def test_the_description_and_the_instruction_agree() -> None:
    generator = np.random.default_rng(1)
    data = generator.integers(0, 256, 4).astype("uint8")
    weights = generator.integers(-128, 128, (16, 4)).astype("int8")
    expected = weights.astype(int) @ data.astype(int)
    for function in (dot_product.description(16), dot_product.implementation(16)):
        sums = np.arange(16, dtype="int32")
        buffer = tvm.runtime.tensor(sums)
        body = tirx.PrimFunc(function.params, function.body).with_attr("global_symbol", "kernel")
        compiled = tvm.compile(tvm.IRModule({"kernel": body}), target=HERE.to_tvm())
        compiled["kernel"](tvm.runtime.tensor(data), tvm.runtime.tensor(weights), buffer)
        np.testing.assert_array_equal(buffer.numpy(), sums + expected)
