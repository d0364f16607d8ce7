"""The real oracle on small networks: lowered, tuned, built, run and timed on this machine."""

import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.oracle.conformance import check, check_failure
from tests.oracle.quick import BENCH, IMAGE, LAYERS, TUNING, compressed, is_time, mixed, table_of
from tvm_prune.errors import ParityError, ToolchainError
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.models.load import load_model
from tvm_prune.oracle import loaded
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.cost import Cost, Failure, Ratio
from tvm_prune.oracle.module import Blueprint
from tvm_prune.oracle.objects import KernelObjects
from tvm_prune.oracle.target import Target
from tvm_prune.oracle.worker import Worker, WorkerDied

MODEL = mixed()


def test_the_cost_of_a_network_is_measured(oracle: CompilerOracle) -> None:
    cost = oracle.cost(MODEL)
    assert isinstance(cost, Cost), cost
    assert is_time(cost.latency_s)
    assert cost.latency_spread_s >= 0
    assert cost.params == sum(parameter.numel() for parameter in MODEL.module.parameters())
    assert cost.macs == 64 * (27 * 8 + 2 * 72 * 8) + 16 * (9 * 8 + 8 * 16) + 16 * 5
    where = cost.provenance
    assert (where.source, where.device, where.threads) == ("measured", "local", 2)
    assert where.target == str(Target.local(threads=2))
    # A slow machine is read again, and the steady rounds of all readings count.
    assert (BENCH.blocks + 1) // 2 <= where.repeats <= 4 * BENCH.blocks
    assert where.trials == oracle.trials


def test_the_table_links_every_layer_to_its_program(oracle: CompilerOracle) -> None:
    table = table_of(oracle, MODEL)
    assert sorted(layer for row in table.rows for layer in row.task.layers) == sorted(LAYERS)
    assert table.row_of("first") == table.row_of("second")
    assert table.row_of("first").task.weight == 2
    for row in table.rows:
        assert is_time(row.isolated_s)
        assert is_time(row.in_situ_s)
        assert row.program is not None
        assert row.program.latency_s == row.isolated_s
        assert row.trials >= 1
        assert (row.gflops > 0) == bool(row.task.layers)
    stem = table.row_of("stem").program
    assert stem is not None
    assert stem.space == "direct_conv"
    assert (stem.axes["out_c"].extent, stem.axes["in_c"].extent) == (8, 3)
    head = table.row_of("head").program
    assert head is not None
    assert (head.space, head.axes["out_c"].extent) == ("dense", 5)
    assert is_time(table.overhead_s)
    assert is_time(table.whole.latency_s)


def test_a_table_is_measured_once(oracle: CompilerOracle) -> None:
    table = table_of(oracle, MODEL)
    assert table_of(oracle, mixed(seed=7)) is table
    assert oracle.measurements == 0


def test_the_account_is_that_of_the_last_call(oracle: CompilerOracle) -> None:
    for _ in range(2):  # the first call builds the module, unless an earlier test has
        oracle.cost(MODEL)
    assert oracle.measurements >= 1  # a machine that is slow just then is read again
    assert set(oracle.seconds) == {"lower", "tune", "measure"}
    assert all(seconds >= 0 for seconds in oracle.seconds.values())
    oracle.estimate([MODEL])
    assert oracle.measurements == 0


def test_a_price_is_the_sum_of_the_programs(oracle: CompilerOracle) -> None:
    table = table_of(oracle, MODEL)
    (price,) = oracle.estimate([MODEL])
    assert isinstance(price, Cost)
    assert price.provenance.source == "summed"
    programs = sum(row.isolated_s * row.task.weight for row in table.rows)
    assert price.latency_s == pytest.approx(programs)
    assert oracle.estimate([]) == []


def test_two_networks_are_compared_in_one_process(oracle: CompilerOracle) -> None:
    ratio = oracle.compare(MODEL, mixed(4))
    assert isinstance(ratio, Ratio), ratio
    assert 0 < ratio.low <= ratio.median <= ratio.high
    assert 1 <= ratio.blocks <= 4 * 4 * BENCH.blocks
    assert is_time(ratio.incumbent_s)
    assert is_time(ratio.candidate_s)


@pytest.mark.parametrize(("limit", "readings"), [(None, 4), (1.5, 1), (0.5, 1), (1.0, 4)])
def test_a_comparison_is_measured_longer_while_a_limit_is_in_doubt(
    oracle: CompilerOracle, monkeypatch: pytest.MonkeyPatch, limit: float | None, readings: int
) -> None:
    asked = []

    def times(names: Sequence[str], *, patient: bool) -> dict[str, list[float]]:
        asked.append(patient)
        return {names[0]: [1.0] * 10, names[1]: [0.9, 1.1] * 5}

    monkeypatch.setattr(oracle._bench, "times", times)
    ratio = oracle.compare(MODEL, mixed(4), limit=limit)
    assert isinstance(ratio, Ratio), ratio
    # Only the first look at a gate takes a slow machine as it is.
    assert (ratio.blocks, asked) == (10 * readings, [limit is None, True, True, True][:readings])


def test_a_network_is_compared_with_itself_as_two_modules(oracle: CompilerOracle) -> None:
    sources = len(oracle._bench._sources)
    for _ in range(2):
        ratio = oracle.compare(MODEL, mixed(seed=3))
        assert isinstance(ratio, Ratio), ratio
        assert is_time(ratio.median)
    assert len(oracle._bench._sources) <= sources + 1


def test_an_incumbent_outlasts_its_rivals(oracle: CompilerOracle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaded, "_KEPT_MODULES", 2)
    incumbent = compressed(nn.Linear(8, 8), (1, 8))
    for width in (2, 4, 6):
        rival = compressed(nn.Linear(8, width), (1, 8))
        assert isinstance(oracle.compare(incumbent, rival), Ratio)


def test_present_weights_are_the_ones_compiled(oracle: CompilerOracle) -> None:
    assert oracle.parity(mixed(seed=11)) < 1e-4
    assert oracle.parity(mixed(seed=12)) < 1e-4


def test_tasks_are_listed_without_tuning(oracle: CompilerOracle) -> None:
    before = oracle.trials
    graph = oracle.tasks(compressed(nn.Sequential(nn.Conv2d(3, 9, 3)), IMAGE))
    assert [task.layers for task in graph.tasks if task.layers] == [("0",)]
    assert oracle.trials == before


def test_a_second_oracle_on_the_same_records_tries_nothing(tmp_path: Path) -> None:
    model = compressed(nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 3)), IMAGE)
    target = Target.local(threads=2)
    prices = []
    for first in (True, False):
        with CompilerOracle(target, records_folder=tmp_path, tuning=TUNING, bench=BENCH) as oracle:
            (price,) = oracle.estimate([model])
            assert isinstance(price, Cost), price
            assert (oracle.trials > 0) == first
            prices.append(price.latency_s)
    assert prices[0] == prices[1]


class Spare(nn.Module):
    """Has a layer that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Conv2d(3, 6, 3)
        self.spare = nn.Linear(2, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.used(image)
        return found


def test_what_cannot_be_lowered_is_a_failure_that_names_the_stage(oracle: CompilerOracle) -> None:
    broken = compressed(Spare(), IMAGE)
    check_failure(oracle, MODEL, broken)
    failure = oracle.cost(broken)
    assert isinstance(failure, Failure)
    assert failure.stage == "lower"
    assert "no compiled kernel reads the weights of spare" in failure.message


def test_what_cannot_be_built_is_a_failure_beside_good_answers(tmp_path: Path) -> None:
    model = compressed(nn.Sequential(nn.Conv2d(3, 6, 3)), IMAGE)
    broken = compressed(nn.Sequential(nn.Conv2d(3, 10, 3)), IMAGE)
    target = Target.local(threads=2)
    with CompilerOracle(target, records_folder=tmp_path, tuning=TUNING, bench=BENCH) as oracle:
        assert isinstance(oracle.cost(model), Cost)
    hasty = replace(TUNING, build_timeout_s=1e-3)
    with CompilerOracle(target, records_folder=tmp_path, tuning=hasty, bench=BENCH) as oracle:
        check_failure(oracle, model, broken)
        failure = oracle.cost(broken)
        assert isinstance(failure, Failure)
        assert failure.stage == "build"
        assert "tasks have a record" in failure.message
        assert "no answer within 0.000" in failure.message
        with pytest.raises(ParityError, match=r"cannot be compiled: .* tasks have a record"):
            oracle.parity(broken)


def test_untuned_programs_run_where_that_is_allowed(tmp_path: Path) -> None:
    model = compressed(nn.Sequential(nn.Conv2d(3, 6, 3)), IMAGE)
    hasty = replace(TUNING, build_timeout_s=1e-3)
    target = Target.local(threads=2)
    with CompilerOracle(target, records_folder=tmp_path, tuning=hasty, bench=BENCH, allow_untuned=True) as oracle:
        cost = oracle.cost(model)
        assert isinstance(cost, Cost), cost
        assert cost.provenance.source == "untuned"
        assert oracle.parity(model) < 1e-4
        table = table_of(oracle, model)
        assert table.row_of("0").program is None
        assert table.row_of("0").trials == 0


def test_the_compiled_module_runs_on_other_inputs(oracle: CompilerOracle, tmp_path: Path) -> None:
    library = tmp_path / "model.so"
    compiled = oracle.export_library(MODEL, library)
    assert compiled.library == library
    assert len(compiled.calls) == 8
    image = torch.randn(IMAGE)
    name = oracle._bench.add(library, [torch.zeros(IMAGE).numpy()])
    (made,) = oracle._bench.run(name, [image.numpy()])
    oracle._bench.remove(name)
    with torch.no_grad():
        np.testing.assert_allclose(made, MODEL.module(image).numpy(), atol=1e-4)


@pytest.mark.slow
def test_it_keeps_the_contract_of_all_oracles(oracle: CompilerOracle) -> None:
    big, small = mixed(48, size=24), mixed(8, size=8)
    check(oracle, big, small, layers=LAYERS, measures=True)


def test_a_module_that_does_not_compile_whole_is_a_failure(
    oracle: CompilerOracle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refusing(*_: object, **__: object) -> None:
        raise WorkerDied("RuntimeError: cannot link:\nld returned 1 exit status")

    monkeypatch.setattr(Blueprint, "compile", refusing)
    failure = Failure(stage="build", message="compiling the whole module failed: ld returned 1 exit status")
    fresh = mixed(10)
    assert oracle.cost(fresh) == oracle.table(fresh) == oracle.compare(MODEL, fresh) == failure
    with pytest.raises(ParityError, match="cannot be compiled: compiling the whole module failed"):
        oracle.parity(fresh)
    with pytest.raises(ToolchainError, match="run 'tvm-prune doctor' to check compiler and linker"):
        oracle.export_library(fresh, tmp_path / "x.so")


def test_a_pass_that_refuses_a_module_costs_that_module_only(
    oracle: CompilerOracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*_: object, **__: object) -> None:
        raise RuntimeError("Check failed:\nno such buffer")

    monkeypatch.setattr(loaded, "blueprint", refusing)
    failure = Failure(stage="build", message="compiling the whole module failed: no such buffer")
    assert oracle.cost(mixed(12)) == failure


def test_a_compiler_that_crashes_on_a_module_costs_that_module_only(
    oracle: CompilerOracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_really = Blueprint.compile

    def crashing(self: Blueprint, builder: Worker, target: Target, library: Path, *, objects: KernelObjects) -> object:
        compile_really(self, builder, target, library.with_suffix(".before.so"), objects=objects)
        assert builder.process is not None
        # It must die of a request: one that is dead before is replaced.
        os.kill(builder.process.pid, signal.SIGSTOP)
        threading.Timer(0.5, builder.process.kill).start()
        return compile_really(self, builder, target, library, objects=objects)

    monkeypatch.setattr(Blueprint, "compile", crashing)
    failure = oracle.cost(mixed(11))
    assert isinstance(failure, Failure)
    assert failure.stage == "build"
    monkeypatch.setattr(Blueprint, "compile", compile_really)
    assert isinstance(oracle.cost(mixed(11)), Cost)


def test_an_exported_archive_is_tuned_and_compiled(oracle: CompilerOracle, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(MODEL.module, MODEL.example_inputs), path)
    archive = load_model(str(path))
    model = CompressedModel(module=archive.module, example_inputs=archive.example_inputs)
    table = table_of(oracle, model)
    assert sum(row.task.weight for row in table.rows if row.task.kind == "conv2d") == 4
    assert oracle.parity(model) < 1e-4
