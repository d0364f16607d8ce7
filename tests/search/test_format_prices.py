"""A table of prices adds up, common borders counted once."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import pytest
import torch
from torch import nn

from tests.graph.test_stored_tensors import Blocks
from tests.search.test_mixed import NOWHERE
from tvm_prune.compress.calibrate import observe
from tvm_prune.compress.quantize import with_precision
from tvm_prune.errors import ModelError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.scheme import INT8
from tvm_prune.oracle.base import CostOracle
from tvm_prune.oracle.cost import Cost, Failure
from tvm_prune.search.format_prices import neighbours, price_formats, without

CHAIN = ("0", "2", "4")


def chain() -> CompressedModel:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1)]
    model = CompressedModel(module=nn.Sequential(*layers).eval(), example_inputs=(torch.randn(1, 2, 4, 4),))
    seen = observe(model, CHAIN, [torch.randn(4, 2, 4, 4)])
    return with_precision(model, dict.fromkeys(CHAIN, INT8), seen)


@dataclass
class Borders:
    """An oracle to which a layer takes 10 s in float32, 4 s in integers, and a border between the two 1 s."""

    broken: bool = False

    def estimate(self, models: Sequence[CompressedModel]) -> list[Cost | Failure]:
        return [self._price(model) for model in models]

    def _price(self, model: CompressedModel) -> Cost | Failure:
        if self.broken:
            return Failure(stage="build", message="no program")
        kinds = [layer in model.precision for layer in CHAIN]
        seconds = sum(4.0 if integer else 10.0 for integer in kinds)
        seconds += sum(1.0 for one, other in pairwise(kinds) if one != other)
        return Cost(latency_s=seconds, latency_spread_s=0.0, macs=1, params=1, bytes=1, provenance=NOWHERE)


def test_neighbours_have_one_tensor_between_them() -> None:
    assert neighbours(chain()) == [("0", "2"), ("2", "4")]
    torch.manual_seed(0)
    blocks = CompressedModel(module=Blocks().eval(), example_inputs=(torch.randn(1, 3, 8, 8),))
    layers = ["stem", "first", "second", "shortcut", "depthwise", "head"]
    seen = observe(blocks, layers, [torch.randn(2, 3, 8, 8)])
    blocks = with_precision(blocks, dict.fromkeys(layers, INT8), seen)
    assert set(neighbours(blocks)) == {
        ("stem", "first"),
        ("first", "second"),
        ("stem", "shortcut"),
        ("second", "depthwise"),
        ("shortcut", "depthwise"),
        ("depthwise", "head"),
    }


def test_the_table_says_what_any_set_of_layers_costs() -> None:
    table, oracle = price_formats(chain(), cast(CostOracle, Borders())), Borders()
    assert (table.integers_s, table.floats_s) == (12.0, 30.0)
    assert table.added_s == {"0": 7.0, "2": 8.0, "4": 7.0}
    for floats in ([], ["0"], ["2"], ["0", "2"], ["2", "4"], ["0", "4"], list(CHAIN)):
        cost = oracle.estimate([without(chain(), floats)])[0]
        assert isinstance(cost, Cost)
        assert table.latency_s(floats) == cost.latency_s
    assert table.error_s == 0.0


def test_a_network_that_cannot_be_priced_is_an_error() -> None:
    with pytest.raises(ModelError, match="a precision cannot be priced; it fails at the stage 'build': no program"):
        price_formats(chain(), cast(CostOracle, Borders(broken=True)))
