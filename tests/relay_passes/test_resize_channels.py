"""A graph with other channel counts is the graph that importing such a network gives."""

from typing import Any

import pytest
import tvm_ffi
from tvm import ir, relax

from relay_passes.hoist_weights import weight_entries, with_weight_entries
from relay_passes.resize_channels import CannotResize, resize_channels
from tests.relay_passes.graphs import Emit, conv_graph, graph, matmul_graph, tensor, unary_graph


def assert_same(found: ir.IRModule, wanted: ir.IRModule) -> None:
    assert tvm_ffi.structural_equal(found["main"], wanted["main"])
    assert weight_entries(found) == weight_entries(wanted)


def test_a_convolution_gets_other_outputs() -> None:
    found = resize_channels(conv_graph((3, 8), stride=2), {"weight": (3, 3, 3, 5)})
    assert_same(found, conv_graph((3, 5), stride=2))


def test_a_matmul_and_its_bias() -> None:
    found = resize_channels(matmul_graph(2, 3, 8, bias=True), {"weight": (3, 5), "bias": (5,)})
    assert_same(found, matmul_graph(2, 3, 5, bias=True))


def chain(middle: int) -> ir.IRModule:
    """A convolution, a depthwise one, a flattening and a product: all follow the width of the first."""
    data = tensor("data", 1, 4, 4, 3)
    first, depth = tensor("first", 3, 3, 3, middle), tensor("depth", 3, 3, 1, middle)
    last = tensor("last", 16 * middle, 7)
    layout: dict[str, Any] = {"padding": 1, "data_layout": "NHWC", "kernel_layout": "HWIO"}

    def body(emit: Emit) -> relax.Expr:
        wide = emit(relax.op.nn.relu(emit(relax.op.nn.conv2d(data, first, **layout))))
        deep = emit(relax.op.nn.conv2d(wide, depth, groups=middle, **layout))
        flat = emit(relax.op.reshape(emit(relax.op.permute_dims(deep, [0, 3, 1, 2])), (1, 16 * middle)))
        return relax.op.matmul(flat, last)

    return graph([data], [first, depth, last], body)


@pytest.mark.parametrize("middle", [1, 5, 12])
def test_groups_and_a_flattening_follow_the_channels(middle: int) -> None:
    shapes = {"first": (3, 3, 3, middle), "depth": (3, 3, 1, middle), "last": (16 * middle, 7)}
    assert_same(resize_channels(chain(8), shapes), chain(middle))


def with_changes(module: ir.IRModule, changes: list[list[Any]]) -> ir.IRModule:
    (entry,) = weight_entries(module)
    module["main"] = with_weight_entries(module["main"], [{**entry, "changes": changes}])
    return module


def test_the_layout_changes_of_a_weight_are_carried_along() -> None:
    permuted = with_changes(conv_graph((3, 8)), [["permute", [2, 3, 1, 0]]])
    wanted = with_changes(conv_graph((3, 5)), [["permute", [2, 3, 1, 0]]])
    assert_same(resize_channels(permuted, {"weight": (5, 3, 3, 3)}), wanted)


def added(channels: int) -> ir.IRModule:
    bias = tensor("weight", 1, channels, 1, 1)
    data = tensor("data", 1, 1, 2, 2)
    return with_changes(
        graph([data], [bias], lambda emit: relax.op.add(data, bias)), [["reshape", [1, channels, 1, 1]]]
    )


def test_a_reshaped_bias_names_its_new_extent() -> None:
    assert_same(resize_channels(added(8), {"weight": (5,)}), added(5))


def test_a_reshape_that_splits_an_axis_is_refused() -> None:
    weight = tensor("weight", 3, 8)
    data = tensor("data", 2, 3)

    def body(emit: Emit) -> relax.Expr:
        return relax.op.reshape(emit(relax.op.matmul(data, weight)), (2, 4, 2))

    split = graph([data], [weight], body)
    with pytest.raises(CannotResize, match=r"a reshape of \[2, 8\] to \[2, 4, 2\] splits an axis"):
        resize_channels(split, {"weight": (3, 6)})
    assert_same(resize_channels(split, {"weight": (3, 8)}), split)


def test_an_operator_whose_attributes_may_name_channels_is_refused() -> None:
    sliced = unary_graph((1, 8), lambda data: relax.op.strided_slice(data, [1], [0], [4]))
    with pytest.raises(CannotResize, match=r"relax\.strided_slice has no rule"):
        resize_channels(sliced, {})


def test_a_weight_that_is_reshaped_over_several_axes_is_refused() -> None:
    folded = with_changes(matmul_graph(2, 6, 4), [["reshape", [6, 4]]])
    with pytest.raises(CannotResize, match=r"weight weight is changed by reshape \[6, 4\]"):
        resize_channels(folded, {"weight": (2, 3, 4)})


def test_channels_that_do_not_fall_into_groups_are_refused() -> None:
    with pytest.raises(CannotResize, match="4 channels do not fall into groups of 3"):
        resize_channels(conv_graph((4, 8), groups=2), {"weight": (3, 3, 3, 8)})
