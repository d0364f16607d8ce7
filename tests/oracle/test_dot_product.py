"""Dot product instructions: what they are said to compute, and what they do compute."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from relay_passes.weight_changes import apply_changes
from relay_passes.weight_form import Layout, WeightForm
from tests.oracle.emulated import call_on_arm, needs_arm, program_for_arm
from tests.oracle.kernels import the_kernel
from tests.relay_passes.graphs import Emit, graph
from tvm_prune.oracle.forms import fits, forms
from tvm_prune.oracle.spaces import dot_product, points
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tasks import anatomy_of

VNNI = Target(cpu="znver4", threads=2, vector_bits=512)
HASWELL = Target(cpu="haswell", triple="x86_64-linux-gnu", threads=2, vector_bits=256)
# One of which no instruction is known.
WITHOUT = Target(triple="riscv64-linux-gnu", threads=2)
HERE = Target.local(threads=2)
# What this processor would use, and what older ones would that this one has as well.
KINDS_OF_HERE = [
    target
    for target in (
        HERE,
        Target(cpu="skylake-avx512", threads=2, vector_bits=512),
        Target(cpu="haswell", threads=2, vector_bits=256),
        Target(threads=2, vector_bits=128),
    )
    if target.vector_bits <= HERE.vector_bits and HERE.architecture == "x86_64"
]


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


def test_schedules_know_the_instruction_of_a_target_by_its_kind_and_lanes() -> None:
    assert dot_product.instruction(VNNI, 16) == "tvm_prune_dot_16_vnni"
    assert dot_product.instruction(VNNI, 3) is None
    assert dot_product.instruction(HASWELL, 8) == "tvm_prune_dot_8_pmaddwd"
    assert dot_product.instruction(HASWELL, 16) is None
    assert dot_product.instruction(WITHOUT, 4) is None


@pytest.mark.parametrize("source", [16, 6])
def test_a_scheduled_kernel_uses_the_instruction(source: int) -> None:
    dot_product.register()
    kernel = the_kernel(integer_conv(source, 32), VNNI, form=WeightForm(layout="dot", lanes=16))
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
    kernel = the_kernel(integer_conv(16, channels, stride=2), VNNI)
    assert [str(form) for form in forms(anatomy_of(kernel), kernel.function, VNNI)] == expected


def filterings(target: Target, source: int = 16, *, stride: int = 1) -> list[str]:
    """Return the layouts by Winograd's filtering that a convolution may take on a target."""
    kernel = the_kernel(integer_conv(source, 16, stride=stride), target)
    return [form.layout for form in forms(anatomy_of(kernel), kernel.function, target) if form.tile]


def test_a_convolution_of_bytes_may_be_filtered_where_words_are_multiplied_fast_enough() -> None:
    assert filterings(VNNI) == ["winograd4_dot"]
    assert filterings(VNNI, stride=2) == []
    assert filterings(HASWELL) == ["winograd4_dot"]
    # Four times fewer products, each of which takes four times as long.
    assert filterings(Target(cpu="neoverse-n2", triple="aarch64-linux-gnu")) == []
    assert filterings(Target(cpu="cortex-a72", triple="aarch64-linux-gnu")) == ["winograd4_dot"]


def test_the_smaller_tile_is_for_weights_that_the_larger_one_may_not_fit() -> None:
    assert filterings(VNNI, 128) == ["winograd4_dot"]  # of words the smaller one's products are not fewer enough
    assert filterings(HASWELL, 114) == ["winograd4_dot"]
    assert filterings(HASWELL, 128) == ["winograd4_dot", "winograd2_dot"]


def test_a_filtering_fits_weights_whose_sums_it_can_tell_apart() -> None:
    filtering = WeightForm(layout="winograd4_dot", lanes=16)
    weight = np.zeros((2, 128, 3, 3), "int8")
    weight[1] = 114
    assert fits(filtering, weight)
    weight[1] = -115
    assert not fits(filtering, weight)
    assert fits(WeightForm(layout="winograd2_dot", lanes=16), weight)
    assert fits(WeightForm(layout="dot", lanes=16), weight)
    assert fits(WeightForm(layout="winograd4", lanes=16), weight.astype("float32"))


def test_without_the_instruction_integers_have_no_other_form() -> None:
    kernel = the_kernel(integer_conv(16, 20), WITHOUT)
    assert list(forms(anatomy_of(kernel), kernel.function, WITHOUT)) == []


def test_vectors_are_no_wider_than_the_instruction_has_them() -> None:
    kernel = the_kernel(integer_conv(16, 20, stride=2), HASWELL)
    assert [str(form) for form in forms(anatomy_of(kernel), kernel.function, HASWELL)] == [
        "padded to 24 channels, dot products by 8",
        "dot products by 4",
    ]


def test_one_thread_is_tried_for_as_much_as_the_instruction_does_in_the_time() -> None:
    alderlake = Target(cpu="alderlake", triple="x86_64-linux-gnu", threads=2, vector_bits=256)
    serial = {}
    for target in (alderlake, HASWELL):
        kernel = the_kernel(integer_conv(32, 32), target, form=WeightForm(layout="dot", lanes=8))
        serial[target] = any(point.program.parallel == 1 for point in points(kernel.function, target))
    assert serial == {alderlake: True, HASWELL: False}


def arrays_of(source: int, lanes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return data, weight, packed weight and offset of `integer_conv`, among them all the extremes of bytes."""
    generator = np.random.default_rng(0)
    data = generator.choice([0, 1, 100, 127, 128, 255], (1, 8, 8, source)).astype("uint8")
    weight = generator.choice([-128, -127, -1, 0, 64, 127], (3, 3, source, 32)).astype("int8")
    offset = generator.integers(-999, 999, (1, 1, 1, 32)).astype("int32")
    packed = np.pad(weight, [(0, 0), (0, 0), (0, -source % 4), (0, 0)])
    packed = packed.reshape(3, 3, -1, 4, 32 // lanes, lanes).transpose(4, 0, 1, 2, 5, 3).copy()
    np.testing.assert_array_equal(packed.shape, WeightForm(layout="dot", lanes=lanes).shape(weight.shape))
    return data, weight, packed, offset


@pytest.mark.skipif(not KINDS_OF_HERE, reason="this is no x86 processor")
@pytest.mark.parametrize("target", KINDS_OF_HERE, ids=str)
@pytest.mark.parametrize(("source", "stride"), [(16, 1), (6, 1), (16, 2)])
def test_its_kernels_compute_exactly_what_the_plain_ones_do(target: Target, source: int, stride: int) -> None:
    dot_product.register()
    graph_of = integer_conv(source, 32, stride=stride)
    data, weight, packed, offset = arrays_of(source, target.lanes)
    expected = computed(the_kernel(graph_of, HERE).function, HERE, data, weight, offset)
    kernel = the_kernel(graph_of, target, form=WeightForm(layout="dot", lanes=target.lanes))
    for _, point in zip(range(6), points(kernel.function, target), strict=False):
        found = computed(point.candidate().schedule.mod["main"], target, data, packed, offset)
        np.testing.assert_array_equal(found, expected)


def filtered(
    target: Target, source: int, *, layout: Layout = "winograd4_dot", extreme: bool = False
) -> tuple[Any, tuple[np.ndarray, ...], np.ndarray]:
    """Return the kernel of `integer_conv` by Winograd's filtering, its arguments, and what it should give."""
    data, weight, _, offset = arrays_of(source, target.lanes)
    if extreme:
        data, weight = np.full_like(data, 255), np.full_like(weight, -128)
    form = WeightForm(layout=layout, lanes=target.lanes)
    expected = computed(the_kernel(integer_conv(source, 32), HERE).function, HERE, data, weight, offset)
    kernel = the_kernel(integer_conv(source, 32), target, form=form)
    return kernel, (data, apply_changes(weight, form.changes()), offset), expected


@pytest.mark.skipif(not KINDS_OF_HERE, reason="this is no x86 processor")
@pytest.mark.parametrize("target", KINDS_OF_HERE, ids=str)
@pytest.mark.parametrize(
    ("source", "layout"), [(16, "winograd4_dot"), (7, "winograd4_dot"), (20, "winograd4_dot"), (16, "winograd2_dot")]
)
def test_winograds_filtering_of_bytes_is_exact(target: Target, source: int, layout: Layout) -> None:
    dot_product.register()
    kernel, arguments, expected = filtered(target, source, layout=layout)
    for _, point in zip(range(3), points(kernel.function, target), strict=False):
        found = computed(point.candidate().schedule.mod["main"], target, *arguments)
        np.testing.assert_array_equal(found, expected)


def test_it_is_exact_for_the_largest_sums_there_are() -> None:
    dot_product.register()
    kernel, arguments, expected = filtered(HERE, 114, extreme=True)
    assert np.abs(expected).max() > 2**24
    point = next(iter(points(kernel.function, HERE)))
    np.testing.assert_array_equal(computed(point.candidate().schedule.mod["main"], HERE, *arguments), expected)


def test_every_way_to_share_a_filtering_among_threads_gives_the_same() -> None:
    dot_product.register()
    kernel, arguments, expected = filtered(HERE, 64)
    by_variant = {point.program.variant: point for point in points(kernel.function, HERE)}
    assert {name.split()[0] for name in by_variant} >= {"rows", "channels", "repeated"}
    for point in by_variant.values():
        found = computed(point.candidate().schedule.mod["main"], HERE, *arguments)
        np.testing.assert_array_equal(found, expected)


def test_a_filtering_of_bytes_uses_the_instruction_for_words() -> None:
    dot_product.register()
    kernel = the_kernel(integer_conv(16, 32), VNNI, form=WeightForm(layout="winograd4_dot", lanes=16))
    point = next(iter(points(kernel.function, VNNI)))
    function = point.candidate().schedule.mod["main"].with_attr("global_symbol", "kernel")
    compiled = tvm.compile(tvm.IRModule({"kernel": function}), target=VNNI.to_tvm())
    assert "vpdpwssd.512" in compiled.mod.inspect_source("ll")
    assert point.program.axes["in_c"].extent == 16


@needs_arm
def test_winograds_filtering_of_bytes_is_exact_on_arm(tmp_path: Path) -> None:
    dot_product.register()
    target = Target(cpu="cortex-a72", triple="aarch64-linux-gnu")
    kernel, arguments, expected = filtered(target, 6)
    function = next(iter(points(kernel.function, target))).candidate().schedule.mod["main"]
    program = program_for_arm(function, target, tmp_path)
    found = call_on_arm(program, *arguments, np.zeros(expected.shape, "int32"))
    np.testing.assert_array_equal(found, expected)


@needs_arm
@pytest.mark.parametrize("cpu", ["neoverse-n2", "cortex-a76", "cortex-a72"])
def test_kernels_for_arm_compute_exactly_what_the_plain_ones_do(cpu: str, tmp_path: Path) -> None:
    dot_product.register()
    target = Target(cpu=cpu, triple="aarch64-linux-gnu")
    data, weight, packed, offset = arrays_of(6, 4)
    expected = computed(the_kernel(integer_conv(6, 32), HERE).function, HERE, data, weight, offset)
    kernel = the_kernel(integer_conv(6, 32), target, form=WeightForm(layout="dot", lanes=4))
    function = next(iter(points(kernel.function, target))).candidate().schedule.mod["main"]
    program = program_for_arm(function, target, tmp_path)
    result = np.zeros(expected.shape, "int32")
    np.testing.assert_array_equal(call_on_arm(program, data, packed, offset, result), expected)
