"""Kernels that were written before are the ones the stock pass writes."""

import pytest
import tvm
import tvm_ffi
from tvm import ir, relax

from relay_passes.legalize_once import LegalizeOnce
from tests.relay_passes.graphs import Emit, conv_graph, graph, kernels_of, matmul_graph, tensor, unary_graph

TARGET = tvm.target.Target({"kind": "llvm", "num-cores": 1})


def legalized(module: ir.IRModule) -> ir.IRModule:
    with TARGET:
        return LegalizeOnce()(module)  # type: ignore[operator]  # the decorator makes it a pass


@pytest.mark.parametrize(
    "module",
    [
        conv_graph((3, 5), epilogue=True),
        conv_graph((4, 4), groups=4, stride=2),
        matmul_graph(2, 3, 4, bias=True),
        unary_graph((1, 4, 4, 3), lambda data: relax.op.nn.max_pool2d(data, pool_size=2, layout="NHWC")),
        unary_graph((2, 6), lambda data: relax.op.reshape(data, (3, 4))),
        unary_graph((2, 6), lambda data: relax.op.split(data, 2, axis=1)),
    ],
    ids=["conv", "depthwise", "matmul", "pool", "reshape", "split"],
)
def test_the_graph_is_that_of_the_stock_pass_the_first_time_and_later(module: ir.IRModule) -> None:
    with TARGET:
        stock = relax.transform.LegalizeOps()(module)
    for _ in range(2):
        assert tvm_ffi.structural_equal(legalized(module), stock)


def test_a_kernels_name_does_not_depend_on_what_was_written_before() -> None:
    first, second = tensor("first", 3, 7), tensor("second", 7, 11)
    data = tensor("data", 2, 3)

    def body(emit: Emit) -> relax.Expr:
        return relax.op.matmul(emit(relax.op.matmul(data, first)), second)

    assert sorted(kernels_of(legalized(graph([data], [first, second], body)))) == ["matmul", "matmul1"]
    assert list(kernels_of(legalized(matmul_graph(2, 7, 11)))) == ["matmul"]


def plus(value: float) -> ir.IRModule:
    return unary_graph((2, 3), lambda data: relax.op.add(data, relax.const(value, "float32")))


def test_the_value_of_a_constant_is_part_of_a_kernel() -> None:
    one, two = (kernels_of(legalized(plus(value)))["add"] for value in (1.0, 2.0))
    assert not tvm_ffi.structural_equal(one, two)
