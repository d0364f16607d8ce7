"""Tasks: which padded counts are worth a try, and when two kernels are one task."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.oracle.kernels import TARGET, the_kernel
from tests.oracle.quick import TwoPorts, compressed
from tests.relay_passes.graphs import conv_graph
from tvm_prune.oracle.forms import _padded_counts, _registers
from tvm_prune.oracle.lower import lower
from tvm_prune.oracle.spaces.anatomy import dissect
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tasks import kernel, task_graph

TARGETS = [Target(vector_bits=bits) for bits in (128, 256, 512)]


@given(channels=st.integers(1, 600), target=st.sampled_from(TARGETS))
def test_padded_counts_fill_fewer_registers_each_and_the_last_whole_vectors(channels: int, target: Target) -> None:
    counts = _padded_counts(channels, target)
    filled = [_registers(count, target.lanes) for count in (channels, *counts)]
    assert filled == sorted(set(filled), reverse=True)
    assert all(channels < count < channels + target.lanes and count % 4 == 0 for count in counts)
    if channels >= 3:
        assert filled[-1] == -(-channels // target.lanes)


@pytest.mark.parametrize(
    ("bits", "channels", "padded"),
    [
        (512, 2, ()),
        (512, 3, (4,)),
        (512, 7, (8,)),
        (512, 11, (16,)),
        (512, 16, ()),
        (512, 17, (20, 32)),
        (512, 31, (32,)),
        (512, 32, ()),
        (512, 44, (48,)),
        (256, 12, (16,)),
        (256, 20, (24,)),
        (256, 26, (32,)),
        (256, 28, (32,)),
        (256, 24, ()),
        (128, 6, (8,)),
        (128, 12, ()),
    ],
)
def test_padded_counts_by_vector_width(bits: int, channels: int, padded: tuple[int, ...]) -> None:
    assert _padded_counts(channels, Target(vector_bits=bits)) == padded


def test_a_kernels_name_is_no_part_of_what_it_computes() -> None:
    found = the_kernel(conv_graph((3, 8)))
    renamed = kernel(found.function.with_attr("global_symbol", "another"))
    assert renamed.key == found.key
    assert the_kernel(conv_graph((3, 8))).key == found.key
    assert the_kernel(conv_graph((3, 8), epilogue=True)).key != found.key


def test_calls_are_in_order_and_count_the_weight_of_a_task() -> None:
    layers = [nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 4)]
    graph = task_graph(lower(compressed(nn.Sequential(*layers), (1, 6))), TARGET)
    assert [(task.kind, task.layers, task.weight) for task in graph.tasks] == [
        ("dense", ("0", "2"), 2),
        ("dense", ("4",), 1),
    ]
    first, second = (task.hash for task in graph.tasks)
    assert graph.calls == (first, first, second)
    assert len(graph.weight_names[first]) == 2
    assert [variant.form.channels for variant in graph.variants[first]] == [None, 8]


def test_multiply_accumulates_are_those_of_one_call() -> None:
    graph = task_graph(lower(compressed(TwoPorts(), (2, 3, 8, 8), (2, 6))), TARGET)
    macs = {task.layers[0]: task.macs for task in graph.tasks if task.layers}
    assert macs == {"left": 2 * 64 * 27 * 8, "right": 2 * 6 * 8}


def test_a_grouped_convolution_is_a_kind_of_its_own() -> None:
    net = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 16, 3, groups=8))
    graph = task_graph(lower(compressed(net, (1, 4, 10, 10))), TARGET)
    kinds = {task.layers[0]: task.kind for task in graph.tasks if task.layers}
    assert kinds == {"0": "grouped", "1": "depthwise", "2": "grouped"}


@pytest.mark.parametrize(("stride", "dilation", "groups"), [(1, 1, 1), (2, 1, 1), (3, 2, 1), (2, 1, 4), (2, 1, 2)])
def test_the_stride_shown_is_the_layers_own(stride: int, dilation: int, groups: int) -> None:
    found = the_kernel(conv_graph((4, 4), size=(9, 9), stride=stride, dilation=dilation, groups=groups))
    assert dissect(found.function).stride == stride


def test_an_unpadded_convolution_does_not_look_strided() -> None:
    graph = task_graph(lower(compressed(nn.Sequential(nn.Conv2d(3, 4, 3)), (1, 3, 5, 5))), TARGET)
    assert [task.shape for task in graph.tasks if task.layers] == ["5x5x3 -> 3x3x4, 3x3 /1"]


def test_a_transposed_convolution_is_linked() -> None:
    net = nn.Sequential(nn.ConvTranspose2d(3, 4, 2, stride=2), nn.ReLU())
    graph = task_graph(lower(compressed(net, (1, 3, 4, 4))), TARGET)
    # An ordinary convolution, and what puts its results side by side and adds the bias.
    assert [(task.kind, task.layers) for task in graph.tasks if task.layers] == [("conv2d", ("0",)), ("other", ("0",))]
