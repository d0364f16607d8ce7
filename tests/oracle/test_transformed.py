"""An oracle that answers for another form of each model."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.oracle.conformance import check, check_failure
from tvm_prune.errors import QuantizationError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.oracle.cost import Cost, Failure
from tvm_prune.oracle.fake import LinearOracle
from tvm_prune.oracle.transformed import TransformedOracle
from tvm_prune.search.stopwatch import Metered


def network(width: int) -> CompressedModel:
    module = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1))
    return CompressedModel(module=module.eval(), example_inputs=(torch.zeros(1, 3, 8, 8),))


def doubled(model: CompressedModel) -> CompressedModel:
    """Stands for a change of form: the network twice as wide; one of 13 channels cannot be had."""
    width = model.module.get_submodule("0").out_channels
    assert isinstance(width, int)
    if width == 13:
        raise QuantizationError("13 channels are unlucky")
    return replace(model, module=network(2 * width).module)


def test_it_keeps_the_contract_of_all_oracles() -> None:
    check(TransformedOracle(LinearOracle(), doubled), network(64), network(32), layers=["0", "2"])


def test_it_answers_for_the_changed_model() -> None:
    found, expected = TransformedOracle(LinearOracle(), doubled), LinearOracle()
    assert found.cost(network(16)) == expected.cost(network(32))
    assert found.estimate([network(16), network(8)]) == expected.estimate([network(32), network(16)])
    assert found.predict([network(16)]) == expected.predict([network(32)])
    assert found.table(network(16)) == expected.table(network(32))
    assert found.compare(network(16), network(8)) == expected.compare(network(32), network(16))


def test_a_model_that_cannot_be_changed_fails_everywhere() -> None:
    oracle = TransformedOracle(LinearOracle(), doubled)
    check_failure(oracle, network(32), network(13))
    first, second, third = oracle.estimate([network(8), network(13), network(16)])
    assert isinstance(first, Cost)
    assert second == Failure(stage="lower", message="13 channels are unlucky")
    assert isinstance(third, Cost)
    assert isinstance(oracle.compare(network(13), network(8)), Failure)


def test_what_a_call_has_spent_is_what_the_oracle_says() -> None:
    inner = LinearOracle()
    oracle = TransformedOracle(inner, doubled)
    assert isinstance(oracle, Metered)
    inner.seconds, inner.measurements = {"tune": 3.0}, 12
    assert (oracle.seconds, oracle.measurements) == ({"tune": 3.0}, 12)


class Deep(LinearOracle):
    trials = 0

    def deepen(self, *, trials_per_task: int) -> None:
        self.trials = trials_per_task


@pytest.mark.parametrize("oracle", [Deep(), LinearOracle()], ids=["one that can", "one that cannot"])
def test_it_is_deepened_where_it_can_be(oracle: LinearOracle) -> None:
    TransformedOracle(oracle, doubled).deepen(trials_per_task=7)
    assert getattr(oracle, "trials", 7) == 7
