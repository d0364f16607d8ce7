"""Every kernel call names the weights it reads, through fusion, padding and hoisting."""

from typing import Any

import tvm
from tvm import relax

from relay_passes.link_layers import CallSite, call_sites
from relay_passes.pipeline import fuse, graph_passes
from relay_passes.weight_form import WeightForm
from tests.relay_passes.graphs import Emit, conv_graph, graph, matmul_graph, tensor, unary_graph

TARGET = tvm.target.Target({"kind": "llvm", "num-cores": 1})


def test_a_fused_kernel_names_all_its_weights_in_order() -> None:
    module = fuse(conv_graph((3, 5), epilogue=True), TARGET)
    assert call_sites(module) == (CallSite("fused_conv2d_add_add1_relu", ("weight", "bias")),)


def test_a_padded_kernel_names_them_too() -> None:
    module = fuse(matmul_graph(1, 4, 5, bias=True), TARGET, {"weight": WeightForm(8)})
    assert call_sites(module) == (CallSite("fused_padded_matmul_add", ("weight", "bias")),)


def test_a_kernel_without_weights_names_none() -> None:
    assert call_sites(fuse(unary_graph((2, 3), relax.op.nn.softmax), TARGET)) == (CallSite("softmax", ()),)


def test_two_calls_of_one_kernel_keep_their_own_weights() -> None:
    data, first, second = tensor("data", 2, 4), tensor("a_b_c", 4, 4), tensor("a_b_c_1", 4, 4)

    def body(emit: Emit) -> Any:
        return relax.op.matmul(emit(relax.op.matmul(data, first)), second)

    sites = call_sites(fuse(graph([data], [first, second], body), TARGET))
    assert sites == (CallSite("matmul", ("a_b_c",)), CallSite("matmul", ("a_b_c_1",)))


def test_a_weight_is_followed_through_its_layout_changes() -> None:
    data, weight = tensor("data", 1, 3, 6, 6), tensor("weight", 4, 3, 3, 3)
    imported = graph([data], [weight], lambda emit: relax.op.nn.conv2d(data, weight, padding=1))
    sites = call_sites(fuse(graph_passes()(imported), TARGET))
    assert [site.weights for site in sites if site.weights] == [("weight",)]
