"""What every oracle must do, whatever is behind it. A test gives one and three models; see `check`."""

from collections.abc import Sequence

from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.oracle.base import CostOracle
from tvm_prune.oracle.cost import Cost, Failure, Ratio
from tvm_prune.oracle.table import ProgramTable

__all__ = ["check", "check_failure"]


def check(
    oracle: CostOracle,
    model: CompressedModel,
    smaller: CompressedModel,
    *,
    layers: Sequence[str],
    measures: bool = False,
) -> None:
    """Ask `oracle` all it can be asked about `model` and a clearly faster one; `layers` are those of `model`.

    An oracle that really `measures` is not held to its figures: a busy machine would fail it.
    """
    assert oracle.estimate([]) == []
    prices = oracle.estimate([model, smaller])
    assert all(isinstance(price, Cost) and price.provenance.source == "summed" for price in prices)
    assert isinstance(prices[0], Cost)
    assert isinstance(prices[1], Cost)
    assert measures or prices[1].latency_s < prices[0].latency_s
    assert prices[1].macs < prices[0].macs
    assert prices[1].params < prices[0].params

    assert oracle.predict([]) == []
    predicted = oracle.predict([model, smaller])
    assert all(isinstance(price, Cost) and price.latency_s > 0 for price in predicted)

    cost = oracle.cost(model)
    assert isinstance(cost, Cost)
    assert cost.provenance.source == "measured"
    assert cost.latency_s > 0
    assert cost.latency_spread_s >= 0
    assert not cost.provenance.comparable(prices[0].provenance)

    table = oracle.table(model)
    assert isinstance(table, ProgramTable)
    assert sorted(layer for row in table.rows for layer in row.task.layers) == sorted(layers)
    assert len({row.task.hash for row in table.rows}) == len(table.rows)
    assert table.overhead_s >= 0
    assert measures or 0.8 < table.explained_s / table.whole.latency_s < 1.25
    assert abs(sum(table.share(row) for row in table.rows) + table.overhead_s / table.explained_s - 1) < 1e-9
    for row in table.rows:
        assert row.in_situ_s > 0
        if row.program is not None:
            for axis in row.program.axes.values():
                assert axis.padded_extent >= axis.extent

    ratio = oracle.compare(model, smaller)
    assert isinstance(ratio, Ratio)
    assert 0 < ratio.low <= ratio.median <= ratio.high
    assert measures or ratio.clears(1.0)
    assert ratio.blocks > 0


def check_failure(oracle: CostOracle, model: CompressedModel, broken: CompressedModel) -> None:
    """Ask `oracle` about a model that cannot be built: every answer is a Failure with a text, beside good answers."""
    good, bad = oracle.estimate([model, broken])
    assert isinstance(good, Cost)
    for answer in (bad, oracle.cost(broken), oracle.table(broken), oracle.compare(model, broken)):
        assert isinstance(answer, Failure)
        assert answer.message
