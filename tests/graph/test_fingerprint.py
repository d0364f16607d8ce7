"""Fingerprints: what changes them and what does not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.graph.networks import built
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.fingerprint import family, fingerprint
from tvm_prune.graph.scheme import Scheme
from tvm_prune.graph.surgery import prune_groups
from tvm_prune.models.load import load_model
from tvm_prune.models.weights import weights_digest


def model(name: str = "residual") -> CompressedModel:
    module, inputs = built(name)
    return CompressedModel(module=module, example_inputs=inputs)


class Ordered(nn.Module):
    """Two equal layers called in a given order."""

    def __init__(self, order: tuple[str, str]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.order = order

    def forward(self, x: torch.Tensor) -> Any:
        for name in self.order:
            x = self.get_submodule(name)(x)
        return x


def test_weight_values_and_training_flags_do_not_change_it() -> None:
    one, other = model(), model()
    nn.init.normal_(other.module.get_parameter("stem.weight"))
    other.module.train()
    assert fingerprint(one) == fingerprint(other)
    assert other.module.training
    assert len(fingerprint(one)) == 64


def test_pruning_precision_and_inputs_change_it() -> None:
    base = model()
    pruned = replace(base, module=prune_groups(base.module, base.example_inputs, {"inner": [0, 1]}))
    quantized = replace(base, precision={"stem": Scheme(weight_bits=8)})
    larger = replace(base, example_inputs=(torch.zeros(1, 3, 16, 16),))
    assert len({fingerprint(one) for one in (base, pruned, quantized, larger)}) == 4


def test_settings_of_a_layer_change_it() -> None:
    networks = [nn.Sequential(nn.Conv2d(3, 4, 1, padding=padding)) for padding in ((0, 1), (1, 0))]
    one, other = (CompressedModel(module=module, example_inputs=(torch.zeros(1, 3, 4, 4),)) for module in networks)
    assert fingerprint(one) != fingerprint(other)


def test_the_order_of_calls_changes_it() -> None:
    inputs = (torch.zeros(1, 4),)
    one, other = (CompressedModel(module=Ordered(order), example_inputs=inputs) for order in (("a", "b"), ("b", "a")))
    assert fingerprint(one) != fingerprint(other)


def test_the_order_of_precision_entries_does_not_change_it() -> None:
    schemes = {"stem": Scheme(weight_bits=8), "inner": Scheme()}
    one = replace(model(), precision=schemes)
    other = replace(model(), precision=dict(reversed(schemes.items())))
    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_digest_of_weights_changes_with_any_value(kind: torch.dtype) -> None:
    module = built("residual")[0].to(kind)
    before = weights_digest(module)
    assert before == weights_digest(built("residual")[0].to(kind))
    with torch.no_grad():
        module.inner_bn.running_mean[3] += 1
    assert weights_digest(module) != before


def test_the_code_of_an_exported_program_counts(tmp_path: Path) -> None:
    inputs = (torch.zeros(1, 3, 4, 4),)
    found = []
    for number, size in enumerate(((2, 3), (3, 2))):
        module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(size, stride=1), nn.AdaptiveAvgPool2d(1)).eval()
        torch.export.save(torch.export.export(module, inputs), tmp_path / f"{number}.pt2")
        archive = load_model(str(tmp_path / f"{number}.pt2"))
        found.append(CompressedModel(module=archive.module, example_inputs=archive.example_inputs))
    one, other = found
    assert fingerprint(one) != fingerprint(other)
    assert family(one) != family(other)


def test_pruned_networks_are_of_one_family() -> None:
    base = model()
    pruned = replace(base, module=prune_groups(base.module, base.example_inputs, {"inner": [0, 1]}))
    assert family(pruned) == family(base)
    assert fingerprint(pruned) != fingerprint(base)


def test_a_depthwise_layer_keeps_its_family_when_it_gets_narrower() -> None:
    networks = [nn.Sequential(nn.Conv2d(3, wide, 1), nn.Conv2d(wide, wide, 3, groups=wide)) for wide in (4, 6)]
    one, other = (CompressedModel(module=module, example_inputs=(torch.zeros(1, 3, 4, 4),)) for module in networks)
    assert family(one) == family(other)


def test_settings_order_precision_and_image_size_make_another_family() -> None:
    base = model()

    def around(module: nn.Module, *shape: int) -> CompressedModel:
        return CompressedModel(module=module, example_inputs=(torch.zeros(shape),))

    strides = [around(nn.Sequential(nn.Conv2d(3, 4, 1, stride=stride)), 1, 3, 4, 4) for stride in (1, 2)]
    orders = [around(Ordered(order), 1, 4) for order in (("a", "b"), ("b", "a"))]
    others = [
        replace(base, precision={"stem": Scheme(weight_bits=8)}),
        replace(base, example_inputs=(torch.zeros(1, 3, 16, 16),)),
    ]
    assert len({family(one) for one in (base, *strides, *orders, *others)}) == 7
