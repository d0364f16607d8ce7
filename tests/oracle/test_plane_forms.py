"""Layers of a network in planes of bits: where they are offered, and that they compute what int8's kernels do."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from relay_passes.weight_changes import apply_changes
from relay_passes.weight_form import Planes, WeightForm
from tests.oracle.kernels import the_kernel
from tests.oracle.test_dot_product import HERE, WITHOUT, computed, integer_conv
from tests.relay_passes.graphs import kernels_of
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.jobs.number_formats import QuantizeSettings, in_formats
from tvm_prune.oracle.forms import forms, lowest_by_table
from tvm_prune.oracle.lower import lower
from tvm_prune.oracle.spaces import points
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.tasks import anatomy_of, task_graph
from tvm_prune.oracle.tuner import Group

TWO = Target(threads=2, vector_bits=128)


def form_of(w_bits: int, a_bits: int, *, word: int = 16, lanes: int = 8, target: Target = HERE) -> WeightForm:
    return WeightForm(layout="planes", lanes=lanes, planes=Planes(w_bits, a_bits, word, lowest_by_table(target)))


def offered(bits: tuple[int, int] | None, *, stride: int = 1, target: Target = TWO) -> list[str]:
    kernel = the_kernel(integer_conv(32, 16, stride=stride), target)
    found = forms(anatomy_of(kernel), kernel.function, target, bits)
    return [str(form) for form in found if form.planes is not None]


def test_planes_are_offered_where_few_pairs_of_them_are_multiplied() -> None:
    assert offered((2, 2)) == [
        "planes of 2x2 bits in words of 16 by 8",
        "planes of 2x2 bits in words of 32 by 4",
        "planes of 2x2 bits in words of 64 by 2",
    ]
    assert len(offered((1, 4))) == 3
    assert offered((2, 3)) == []
    assert offered((8, 8)) == []
    assert offered(None) == []
    assert offered((1, 1), stride=2) == offered((1, 1))
    assert offered((1, 1), target=WITHOUT) != []  # without a dot product instruction as well


@pytest.mark.parametrize(("w_bits", "a_bits"), [(1, 1), (1, 2), (2, 2), (2, 1)])
@pytest.mark.parametrize(("word", "stride"), [(16, 1), (64, 1), (32, 2)])
def test_a_kernel_in_planes_computes_what_the_plain_one_does(w_bits: int, a_bits: int, word: int, stride: int) -> None:
    generator = np.random.default_rng(0)
    graph = integer_conv(20, 32, stride=stride)
    data = generator.integers(0, 2**a_bits, (1, 8, 8, 20)).astype("uint8")
    weight = generator.choice([-1, 1] if w_bits == 1 else [-1, 0, 1], (3, 3, 20, 32)).astype("int8")
    offset = generator.integers(-99, 99, (1, 1, 1, 32)).astype("int32")
    expected = computed(the_kernel(graph, HERE).function, HERE, data, weight, offset)
    form = form_of(w_bits, a_bits, word=word)
    kernel = the_kernel(graph, HERE, form=form)
    changed = apply_changes(weight, form.changes())
    assert changed.shape == form.shape(weight.shape)
    assert str(changed.dtype) == form.dtype("int8")
    variants = {point.program.variant: point for point in reversed(list(points(kernel.function, HERE)))}
    assert len(variants) > 1
    for name, point in variants.items():
        found = computed(point.candidate().schedule.mod["main"], HERE, data, changed, offset)
        np.testing.assert_array_equal(found, expected, err_msg=name)


class Chain(nn.Module):
    """Four convolutions, two of them with a shortcut around them. The outer ones stay in eight bits."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(source, 32, 3, padding=1) for source in (3, 32, 32))
        self.last = nn.Conv2d(32, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        start = torch.relu(self.first(x))
        last: torch.Tensor = self.last(torch.relu(self.third(torch.relu(self.second(start))) + start))
        return last


def low(scheme: str) -> CompressedModel:
    torch.manual_seed(0)
    image = torch.randn(1, 3, 8, 8)
    model = CompressedModel(module=Chain().eval(), example_inputs=(image,))
    return in_formats(model, [image], QuantizeSettings(scheme=scheme))


def test_a_lowered_model_knows_the_bits_that_each_weight_is_multiplied_with() -> None:
    lowered = lower(low("w2a2"))
    by_layer = {lowered.placeholders[name]: bits for name, bits in lowered.bits.items()}
    assert by_layer == {"first": (8, 8), "second": (2, 2), "third": (2, 2), "last": (8, 8)}
    assert lower(low("float32")).bits == {}


def variants_in_planes(model: CompressedModel) -> dict[str, int]:
    graph = task_graph(lower(model), TWO)
    return {
        "+".join(task.layers): sum(variant.form.planes is not None for variant in graph.variants[task.hash])
        for task in graph.tasks
        if task.layers
    }


def test_tasks_of_few_bits_have_variants_in_planes_and_others_none() -> None:
    found = variants_in_planes(low("w2a2"))
    assert found == {"first": 0, "second": 3, "third": 3, "last": 0}
    assert set(variants_in_planes(low("int8")).values()) == {0}


def test_a_task_is_tuned_by_itself_where_it_has_other_variants_in_planes() -> None:
    groups = []
    for scheme in ("w2a2", "w1a2", "int8"):
        graph = task_graph(lower(low(scheme)), TWO)
        (task,) = [task for task in graph.tasks if task.layers == ("second",)]
        groups.append(Group(tuple(variant.kernel for variant in graph.variants[task.hash])))
    two, one, eight = groups
    # In bytes the first two are the same, and nothing but the epilogue tells them from the third.
    assert two.kernels[0].key == one.kernels[0].key
    assert two.bodies[0] == eight.bodies[0]
    assert len({group.key for group in groups}) == len({group.bodies for group in groups}) == 3


def outputs(model: CompressedModel, planes: dict[str, WeightForm]) -> Any:
    """Return what the lowered model computes, the weights of some layers in planes."""
    import tvm
    from tvm import relax

    from relay_passes.hoist_weights import weight_entries
    from relay_passes.pipeline import executable_passes

    lowered = lower(model)
    layers = {name: lowered.placeholders[name] for name in lowered.bits}
    chosen = {name: planes[layer] for name, layer in layers.items() if layer in planes}
    module, _ = lowered.fuse(HERE.to_tvm(), chosen)
    names = [name for name in kernels_of(module) if name.startswith("fused_planes")]
    assert len(names) == len(planes)
    weights = [apply_changes(lowered.state[entry["name"]], entry["changes"]) for entry in weight_entries(module)]
    with HERE.to_tvm(), tvm.transform.PassContext(opt_level=3):
        library = relax.build(executable_passes()(module), target=HERE.to_tvm(), relax_pipeline=None)
    main = relax.VirtualMachine(library, tvm.cpu())["main"]
    found = main(*(tvm.runtime.tensor(array) for array in (*lowered.inputs, *weights)))
    return (found if hasattr(found, "numpy") else found[0]).numpy()


@pytest.mark.parametrize("scheme", ["w2a2", "w1a2"])
def test_a_network_in_planes_computes_to_the_last_bit_what_it_does_in_bytes(scheme: str) -> None:
    model = low(scheme)
    bits = (int(scheme[1]), int(scheme[3]))
    expected = outputs(model, {})
    np.testing.assert_array_equal(outputs(model, {"second": form_of(*bits), "third": form_of(*bits)}), expected)
    assert len(np.unique(expected)) > 4
