"""The linear oracle: figures worked by hand, and the contract of all oracles."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.oracle.conformance import check, check_failure
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.graph.fingerprint import fingerprint
from tvm_prune.oracle.cost import Cost, Failure, Ratio
from tvm_prune.oracle.fake import LinearOracle
from tvm_prune.oracle.table import ProgramTable


def network(width: int) -> CompressedModel:
    """Return three convolutions, of which the last two are alike, on 8x8 pixels."""
    module = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1)
    )
    return CompressedModel(module=module.eval(), example_inputs=(torch.zeros(1, 3, 8, 8),))


def test_it_keeps_the_contract_of_all_oracles() -> None:
    check(LinearOracle(), network(64), network(32), layers=["0", "1", "3"])


def test_a_model_that_is_to_fail_fails_everywhere() -> None:
    broken = network(16)
    check_failure(LinearOracle(failing=frozenset({fingerprint(broken)})), network(32), broken)


def test_latency_is_work_on_whole_vectors_plus_launches_and_overhead() -> None:
    oracle = LinearOracle(lanes=16, seconds_per_mac=1e-9, launch_s=1e-3, overhead_s=1e-2)
    cost = oracle.cost(network(20))
    assert isinstance(cost, Cost)
    padded = 64 * (27 * 32 + 2 * 20 * 32)
    assert cost.latency_s == pytest.approx(padded * 1e-9 + 3e-3 + 1e-2)
    assert cost.macs == 64 * (27 * 20 + 2 * 20 * 20)


def test_counts_within_one_vector_cost_the_same_in_the_first_layer() -> None:
    tables = [LinearOracle().table(network(width)) for width in (17, 32, 33)]
    first = [table.row_of("0").in_situ_s for table in tables if isinstance(table, ProgramTable)]
    assert first[0] == first[1] < first[2]


def test_layers_of_one_shape_share_a_task() -> None:
    table = LinearOracle().table(network(32))
    assert isinstance(table, ProgramTable)
    row = table.row_of("1")
    assert row.task.layers == ("1", "3")
    assert row.task.weight == 2
    assert row.program is not None
    assert row.program.axes["out_c"].factors == (2, 16)
    assert table.explained_s == pytest.approx(table.whole.latency_s)


def test_a_ratio_spans_its_spread() -> None:
    ratio = LinearOracle(spread=0.1).compare(network(32), network(32))
    assert isinstance(ratio, Ratio)
    assert (ratio.low, ratio.median, ratio.high) == pytest.approx((0.9, 1.0, 1.1))


def test_calls_and_the_last_calls_spending_are_counted() -> None:
    oracle = LinearOracle(tuning_s=0.5)
    oracle.estimate([network(32), network(16)])
    oracle.cost(network(32))
    assert oracle.calls == {"estimate": 1, "cost": 1}
    assert oracle.measurements == 2
    assert oracle.seconds == {"tune": 1.0, "measure": 0.5}


def test_the_failure_says_that_it_was_asked_for() -> None:
    model = network(16)
    answer = replace(LinearOracle(), failing=frozenset({fingerprint(model)})).cost(model)
    assert answer == Failure(stage="build", message="asked to fail")
