"""Transposes sink through element-wise operators and cancel, so that a convolution and its clip are one kernel."""

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from relay_passes.pipeline import fuse, graph_passes
from relay_passes.sink_transposes import SinkTransposes
from tests.relay_passes.graphs import Emit, graph, kernels_of, operators, run, tensor

TO_LAST, TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


def sunk(module: Any) -> Any:
    return tvm.transform.Sequential([SinkTransposes(), relax.transform.CanonicalizeBindings()])(module)


def unary(body: Any, shape: tuple[int, ...] = (1, 2, 3, 4)) -> Any:
    data = tensor("data", *shape)
    return graph([data], [], lambda emit: body(emit, data))


@pytest.mark.parametrize(
    "operator",
    [lambda x: relax.op.clip(x, 0.0, 6.0), relax.op.nn.relu, relax.op.sigmoid, relax.op.tanh],
    ids=["clip", "relu", "sigmoid", "tanh"],
)
def test_a_pair_around_an_element_wise_operator_goes(operator: Any) -> None:
    def body(emit: Emit, data: Any) -> Any:
        return relax.op.permute_dims(emit(operator(emit(relax.op.permute_dims(data, TO_LAST)))), TO_FIRST)

    before = unary(body)
    after = sunk(before)
    (name,) = operators(after)
    assert operators(before) == ["permute_dims", name, "permute_dims"]
    array = np.random.default_rng(0).standard_normal((1, 2, 3, 4)).astype("float32")
    np.testing.assert_array_equal(run(before, array)[0], run(after, array)[0])


@pytest.mark.parametrize(
    ("reduce", "left"),
    [
        (lambda x: relax.op.mean(x, [2, 3], keepdims=False), ["mean"]),
        (lambda x: relax.op.mean(x, [-1], keepdims=False), ["mean", "permute_dims"]),
        (lambda x: relax.op.mean(x, [2, 3], keepdims=True), ["mean", "permute_dims"]),
        (lambda x: relax.op.nn.adaptive_avg_pool2d(x, 1), ["nn.adaptive_avg_pool2d", "permute_dims"]),
        (lambda x: relax.op.nn.adaptive_avg_pool2d(x, 2), ["nn.adaptive_avg_pool2d", "permute_dims"]),
    ],
    ids=["mean over pixels", "mean over columns", "mean that keeps axes", "one pixel", "two by two pixels"],
)
def test_a_transpose_sinks_through_what_makes_the_image_smaller(reduce: Any, left: list[str]) -> None:
    def body(emit: Emit, data: Any) -> Any:
        return reduce(emit(relax.op.permute_dims(data, TO_FIRST)))

    before = unary(body, (1, 4, 6, 3))
    after = sunk(before)
    assert operators(after) == left
    array = np.random.default_rng(0).standard_normal((1, 4, 6, 3)).astype("float32")
    np.testing.assert_allclose(run(before, array)[0], run(after, array)[0], rtol=1e-5, atol=1e-6)


def test_a_pooling_of_images_in_another_order_is_left() -> None:
    def body(emit: Emit, data: Any) -> Any:
        return relax.op.nn.adaptive_avg_pool2d(emit(relax.op.permute_dims(data, [0, 2, 1, 3])), 1)

    assert operators(sunk(unary(body))) == ["permute_dims", "nn.adaptive_avg_pool2d"]


def test_a_pair_alone_goes() -> None:
    module = sunk(unary(lambda emit, data: relax.op.permute_dims(emit(relax.op.permute_dims(data, TO_LAST)), TO_FIRST)))
    assert operators(module) == []


def test_two_transposes_become_one() -> None:
    def body(emit: Emit, data: Any) -> Any:
        return relax.op.permute_dims(emit(relax.op.permute_dims(data, [1, 0, 2, 3])), TO_LAST)

    before = unary(body)
    after = sunk(before)
    assert operators(after) == ["permute_dims"]
    array = np.random.default_rng(0).standard_normal((1, 2, 3, 4)).astype("float32")
    np.testing.assert_array_equal(run(after, array)[0], array.transpose(1, 0, 2, 3).transpose(0, 2, 3, 1))


def test_a_transpose_without_axes_reverses_them() -> None:
    module = sunk(unary(lambda emit, data: relax.op.permute_dims(emit(relax.op.permute_dims(data)), [3, 2, 1, 0])))
    assert operators(module) == []


def test_an_operator_along_an_axis_stays_where_it_is() -> None:
    def body(emit: Emit, data: Any) -> Any:
        return relax.op.permute_dims(emit(relax.op.nn.softmax(emit(relax.op.permute_dims(data, TO_LAST)))), TO_FIRST)

    module = unary(body)
    assert operators(sunk(module)) == operators(module)


def test_a_convolution_and_its_clip_become_one_kernel() -> None:
    data, weight = tensor("data", 1, 3, 6, 6), tensor("weight", 4, 3, 3, 3)
    second = tensor("second", 4, 4, 1, 1)

    def body(emit: Emit) -> Any:
        made = emit(relax.op.clip(emit(relax.op.nn.conv2d(data, weight, padding=1)), 0.0, 6.0))
        return relax.op.clip(emit(relax.op.nn.conv2d(made, second)), 0.0, 6.0)

    ready = graph_passes()(graph([data], [weight, second], body))
    names = sorted(kernels_of(fuse(ready, tvm.target.Target({"kind": "llvm", "num-cores": 1}))))
    assert names == ["fused_conv2d1_tir_clip", "fused_conv2d_tir_clip", "transpose", "transpose1"]
