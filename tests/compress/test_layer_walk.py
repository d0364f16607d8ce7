"""Each rounded layer is seen once, in order, after the changes of those before it."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tvm_prune.compress.layer_walk import Change, Layer, walk
from tvm_prune.compress.quantize import with_precision
from tvm_prune.errors import QuantizationError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.integer_ops import integer_weight
from tvm_prune.graph.scheme import Scheme
from tvm_prune.graph.stored_tensors import reference_module

W3 = Scheme.parse("w3")


@pytest.fixture
def model() -> CompressedModel:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 6, 3), nn.Flatten()
    )
    module.append(nn.Linear(6, 4, bias=False))
    dense = CompressedModel(module=module.eval(), example_inputs=(torch.randn(1, 3, 8, 8),))
    return with_precision(dense, {"0": W3, "5": W3}, {})


def images() -> torch.Tensor:
    return torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_a_layer_is_shown_what_it_reads_and_what_the_float_network_makes(model: CompressedModel) -> None:
    seen: list[Layer] = []

    def keep(layer: Layer) -> Change:
        # relu changes the tensor in place afterwards.
        seen.append(replace(layer, exact=layer.exact.clone(), inputs=layer.inputs.clone()))
        return Change()

    steps: list[tuple[int, int, str]] = []
    walk(model, model.module, images().split(4), keep, told=lambda *step: steps.append(step))
    assert [layer.name for layer in seen] == ["0", "5"]
    assert steps == [(0, 2, "0"), (1, 2, "5")]
    first, last = seen
    assert first.relu
    assert not last.relu
    assert last.bias is None
    torch.testing.assert_close(first.inputs, images())
    with torch.no_grad():
        torch.testing.assert_close(first.exact, model.module[0](images()))  # type: ignore[index]
        torch.testing.assert_close(last.exact, model.module(images()))
        torch.testing.assert_close(last.output(), reference_module(model, any_batch=True)(images()))
    assert not torch.allclose(last.exact, last.output())


def test_later_layers_read_what_changed_ones_make(model: CompressedModel) -> None:
    inputs: dict[str, torch.Tensor] = {}

    def silence(layer: Layer) -> Change:
        inputs[layer.name] = layer.inputs
        if layer.bias is None:
            return Change(weight=2 * integer_weight(layer.weight, 3))
        return Change(weight=torch.zeros_like(layer.weight), bias=torch.zeros_like(layer.bias))

    before = [parameter.clone() for parameter in model.module.parameters()]
    made = walk(model, model.module, [images()], silence)
    second_bias = model.module[3].bias  # type: ignore[index]
    torch.testing.assert_close(inputs["5"], second_bias.expand(6, 6))
    assert not bool(made.get_parameter("0.weight").any())
    torch.testing.assert_close(made.get_parameter("5.weight"), 2 * integer_weight(before[-1], 3))
    assert all(torch.equal(*pair) for pair in zip(model.module.parameters(), before, strict=True))


def test_a_layer_that_is_called_twice_is_not_changed() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 4)
    dense = CompressedModel(module=nn.Sequential(layer, nn.ReLU(), layer).eval(), example_inputs=(torch.randn(1, 4),))
    made = with_precision(dense, {"2": W3}, {})  # export knows it by its last name

    def never(layer: Layer) -> Change:
        raise AssertionError(layer.name)

    walk(made, made.module, [torch.randn(3, 4)], never)


def test_no_data_are_refused(model: CompressedModel) -> None:
    with pytest.raises(QuantizationError, match="there are no calibration data to refine the rounding on; give --data"):
        walk(model, model.module, [], lambda layer: Change())
