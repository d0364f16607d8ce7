"""Layers stay in float32 where that makes the whole network faster."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest
import torch
from torch import nn

from tvm_prune.errors import ModelError
from tvm_prune.graph.compressed import CompressedModel, StoredAs
from tvm_prune.graph.scheme import INT8
from tvm_prune.oracle.base import CostOracle
from tvm_prune.oracle.cost import Cost, Failure, Provenance
from tvm_prune.search.mixed import mixed_precision

NOWHERE = Provenance(source="summed", device="local", target="fake", tvm_version="0", threads=1, repeats=0, trials=0)


@dataclass
class Priced:
    """An oracle to which a network takes 100 s in floats; integer layers save (or add) what `gains_s` says."""

    gains_s: dict[str, float]
    together_s: float = 0.0
    asked: list[int] = field(default_factory=list)

    def estimate(self, models: Sequence[CompressedModel]) -> list[Cost | Failure]:
        self.asked.append(len(models))
        return [self._price(model) for model in models]

    def _price(self, model: CompressedModel) -> Cost | Failure:
        if "broken" in model.precision:
            return Failure(stage="build", message="no program")
        missing = len(self.gains_s) - len(model.precision)
        seconds = 100.0 - sum(self.gains_s[layer] for layer in model.precision)
        seconds += self.together_s if missing > 1 and model.precision else 0.0
        return Cost(latency_s=seconds, latency_spread_s=0.0, macs=1, params=1, bytes=1, provenance=NOWHERE)


def model(*layers: str) -> CompressedModel:
    return CompressedModel(
        module=nn.Identity(),
        example_inputs=(torch.zeros(1),),
        precision=dict.fromkeys(layers, INT8),
        stored={"x": StoredAs(scale=1.0, zero_point=0)},
    )


def chosen(oracle: Priced) -> set[str]:
    return set(mixed_precision(model(*oracle.gains_s), cast(CostOracle, oracle)).model.precision)


def test_layers_that_cost_more_as_integers_stay_float() -> None:
    oracle = Priced({"a": 20.0, "b": -5.0, "c": 10.0, "d": -9.0})
    found = mixed_precision(model(*oracle.gains_s), cast(CostOracle, oracle))
    assert set(found.model.precision) == {"a", "c"}
    assert (found.latency_s, found.integers_s, found.floats_s) == (70.0, 84.0, 100.0)
    assert [price.layer for price in found.prices] == ["a", "b", "c", "d"]
    # All single layers are priced in one call, so that their new tasks are tuned together.
    assert oracle.asked == [6, 1]


def test_what_is_within_the_noise_stays_integer() -> None:
    assert chosen(Priced({"a": 20.0, "b": -0.5})) == {"a", "b"}


def test_where_two_floats_cost_more_than_one_only_the_better_one_is_taken() -> None:
    assert chosen(Priced({"a": 20.0, "b": -5.0, "c": -6.0}, together_s=30.0)) == {"a", "b"}


def test_a_network_that_is_faster_in_floats_stays_in_floats() -> None:
    found = mixed_precision(model("a", "b"), cast(CostOracle, Priced({"a": -30.0, "b": -20.0})))
    assert found.model.precision == {}
    assert found.model.stored == {}
    assert found.latency_s == 100.0


def test_a_network_that_cannot_be_priced_is_an_error() -> None:
    with pytest.raises(ModelError, match="a precision cannot be priced; it fails at the stage 'build': no program"):
        mixed_precision(model("broken"), cast(CostOracle, Priced({"broken": 1.0})))
