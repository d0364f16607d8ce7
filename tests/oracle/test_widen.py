"""A network as a wider one computes the same; what is shown of it says both counts."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from relay_passes.hoist_weights import weight_entries
from relay_passes.weight_changes import apply_changes
from tests.oracle.quick import IMAGE, compressed, mixed
from tests.relay_passes.graphs import run
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.oracle.lower import Lowered, lower
from tvm_prune.oracle.program import Axis, Program, Task
from tvm_prune.oracle.widen import as_asked, widened


def outputs(lowered: Lowered, model: CompressedModel) -> np.ndarray:
    weights = [apply_changes(lowered.state[entry["name"]], entry["changes"]) for entry in weight_entries(lowered.graph)]
    return run(lowered.graph, *(tensor.numpy() for tensor in model.example_inputs), *weights)[0]


def with_random_inputs(model: CompressedModel) -> CompressedModel:
    torch.manual_seed(0)
    inputs = tuple(torch.randn(tensor.shape) for tensor in model.example_inputs)
    return CompressedModel(module=model.module, example_inputs=inputs)


@pytest.mark.parametrize("width", [7, 15, 23])
def test_a_wider_network_computes_the_same(width: int) -> None:
    model = with_random_inputs(mixed(width))
    lowered = lower(model)
    found = widened(lowered, 8)
    assert found is not None
    wide, widths = found
    assert wide.shapes[next(name for name, layer in wide.placeholders.items() if layer == "first")][0] % 8 == 0
    np.testing.assert_allclose(outputs(wide, model), outputs(lowered, model), rtol=1e-4, atol=1e-5)
    # The image has 3 channels and the output 5 whatever lies between.
    assert widths["stem"] == (width, 3)
    assert widths["first"] == (width, width)
    assert widths["depthwise"] == (width, 1)
    assert [tensor.shape for tensor in wide.inputs] == [tensor.shape for tensor in lowered.inputs]


def test_the_window_of_a_filter_stays() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 7, 7), nn.ReLU(), nn.Conv2d(7, 4, 1))
    lowered = lower(compressed(net, IMAGE))
    found = widened(lowered, 8)
    assert found is not None
    assert sorted(shape for shape in found[0].shapes.values() if len(shape) == 4) == [(4, 8, 1, 1), (8, 3, 7, 7)]


@pytest.mark.parametrize(("width", "multiple"), [(8, 8), (9, 16)], ids=["full vectors", "nearly twice as wide"])
def test_what_would_gain_nothing_is_left_alone(width: int, multiple: int) -> None:
    assert widened(lower(mixed(width)), multiple) is None


class Normalised(nn.Module):
    """What lies between the convolutions looks at all channels together."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 7, 1), nn.Conv2d(7, 4, 1)

    def forward(self, image: torch.Tensor) -> Any:
        return self.last(torch.softmax(self.first(image), 1))


def test_channels_that_are_looked_at_together_keep_their_count() -> None:
    assert widened(lower(compressed(Normalised(), IMAGE)), 8) is None


def row(layers: tuple[str, ...], kind: str = "conv2d") -> tuple[Task, Program]:
    task = Task(hash="1", kind=kind, shape="4x4x16 -> 4x4x16, 3x3 /1", weight=1, layers=layers, macs=1)
    sixteen = Axis(extent=16, padded_extent=16, factors=(1, 16))
    axes = {"out_c": sixteen, "in_c": sixteen if kind == "conv2d" else Axis(extent=1, padded_extent=1, factors=(1,))}
    return task, Program(space="s", space_version=1, variant="v", axes=axes, lanes=16, parallel=1, latency_s=1e-6)


def test_the_table_shows_what_the_network_asked_for() -> None:
    task, program = as_asked(*row(("a",)), {"a": (15, 13)})
    assert task.shape == "4x4x16 -> 4x4x16, 3x3 /1, for 13 -> 15 channels"
    assert program is not None
    assert program.tiles() == "out_c 1x16 (pads 15), in_c 1x16 (pads 13)"
    assert as_asked(row(("a",))[0], None, {"a": (15, 13)})[1] is None
    task, program = as_asked(*row(("a",), "depthwise"), {"a": (15, 1)})
    assert task.shape.endswith("for 15 channels")
    assert program is not None
    assert program.axes["in_c"].padded_extent == program.axes["in_c"].extent == 1


def test_the_table_of_layers_that_run_as_they_are_is_as_it_was() -> None:
    assert as_asked(*row(("b",)), {"a": (15, 13)}) == row(("b",))
