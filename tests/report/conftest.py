"""One small run as plain values: a dense and a pruned table, a history, a summary."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from tvm_prune.compress.step import PruneStep
from tvm_prune.oracle.cost import Cost, Provenance, Ratio
from tvm_prune.oracle.program import Axis, Program, Task
from tvm_prune.oracle.table import ProgramTable, Row
from tvm_prune.report.document import RunReport
from tvm_prune.report.plots import Point
from tvm_prune.report.summary import Figures, Summary, TestImages
from tvm_prune.search.trial import Accuracy, Proposal, ScoredGroup, State, Trial

PROVENANCE = Provenance(source="measured", device="local", target="llvm", tvm_version="0.27.0", threads=2, repeats=30)


def cost(latency_ms: float, *, macs: int, params: int) -> Cost:
    return Cost(
        latency_s=latency_ms / 1e3,
        latency_spread_s=latency_ms / 5e4,
        macs=macs,
        params=params,
        bytes=4 * params,
        provenance=PROVENANCE,
    )


def program(channels: int, *, padded: int | None = None, latency_us: float, variant: str = "direct") -> Program:
    padded = padded or channels
    return Program(
        space="conv2d_nhwc",
        space_version=1,
        variant=variant,
        axes={
            "out_c": Axis(extent=channels, padded_extent=padded, factors=(max(1, padded // 16), min(16, padded))),
            "w": Axis(extent=32, padded_extent=32, factors=(4, 8)),
        },
        lanes=min(16, padded),
        parallel=32,
        latency_s=latency_us / 1e6,
    )


def row(
    shape: str,
    layers: tuple[str, ...],
    *,
    macs: int,
    alone_us: float,
    in_place_us: float,
    made: Program | None = None,
    kind: str = "conv2d",
    trials: int = 10,
    weight: int | None = None,
) -> Row:
    return Row(
        task=Task(
            hash=f"{kind}-{shape}-{'-'.join(layers)}",
            kind=kind,
            shape=shape,
            weight=weight or max(1, len(layers)),
            layers=layers,
            macs=macs,
        ),
        program=made,
        isolated_s=alone_us / 1e6,
        in_situ_s=in_place_us / 1e6,
        trials=trials,
    )


@pytest.fixture
def dense_table() -> ProgramTable:
    return ProgramTable(
        rows=(
            row(
                "32x32 3x3 16->16",
                ("stages.0.0.conv1", "stages.0.0.conv2", "stages.0.1.conv1", "stages.0.1.conv2"),
                macs=2_359_296,
                alone_us=22.7,
                in_place_us=23.0,
                made=program(16, latency_us=22.7),
            ),
            row(
                "8x8 3x3 64->64",
                ("stages.2.1.conv1",),
                macs=2_359_296,
                alone_us=22.0,
                in_place_us=40.0,
                made=program(64, latency_us=22.0),
            ),
            row("64->10", ("head",), macs=640, alone_us=0.3, in_place_us=0.4, made=program(10, latency_us=0.3)),
            row("8x8 64", (), macs=0, alone_us=1.0, in_place_us=1.0, kind="avg_pool", trials=0),
        ),
        overhead_s=5e-6,
        whole=cost(0.141, macs=11_796_480, params=46_000),
    )


@pytest.fixture
def pruned_table() -> ProgramTable:
    return ProgramTable(
        rows=(
            row(
                "32x32 3x3 16->11",
                ("stages.0.0.conv1", "stages.0.1.conv1"),
                macs=1_622_016,
                alone_us=18.0,
                in_place_us=18.0,
                made=program(11, padded=16, latency_us=18.0),
            ),
            row(
                "32x32 3x3 11->16",
                ("stages.0.0.conv2", "stages.0.1.conv2"),
                macs=1_622_016,
                alone_us=16.0,
                in_place_us=16.0,
                made=program(16, latency_us=16.0),
            ),
            row(
                "8x8 3x3 64->64",
                ("stages.2.1.conv1",),
                macs=2_359_296,
                alone_us=22.0,
                in_place_us=40.0,
                made=program(64, latency_us=22.0),
            ),
            row("64->10", ("head",), macs=640, alone_us=0.3, in_place_us=0.4, made=program(10, latency_us=0.3)),
            row("8x8 64", (), macs=0, alone_us=1.0, in_place_us=1.0, kind="avg_pool", trials=0),
        ),
        overhead_s=5e-6,
        whole=cost(0.117, macs=8_848_000, params=40_000),
    )


def group(name: str, outputs: tuple[str, ...], inputs: Mapping[str, int], width: int, reason: str = "") -> ScoredGroup:
    return ScoredGroup(
        name=name,
        width=width,
        prunable=not reason,
        reason=reason,
        scores=tuple(float(index) for index in range(width)),
        outputs=dict.fromkeys(outputs, 1),
        inputs=dict(inputs),
    )


@pytest.fixture
def trials(dense_table: ProgramTable, pruned_table: ProgramTable) -> tuple[Trial, ...]:
    step = PruneStep(group="stages.0.0.conv1", width=16, keep=tuple(range(11)))
    proposal = Proposal(parent=0, steps=(step,), max_ratio=0.99, min_accuracy=0.9, finetune_steps=50)
    head = group("head", ("head",), {}, 10, "its channels are an output of the graph")
    first = group("stages.0.0.conv1", ("stages.0.0.conv1",), {"stages.0.0.conv2": 1}, 16)
    dense = Trial(
        number=0,
        proposal=None,
        state=State.ACCEPTED,
        cost=dense_table.whole,
        accuracy=Accuracy(correct=184, total=200),
        table=dense_table,
        groups=(first, head),
        seconds={"tune": 30.0, "evaluate": 1.0},
        measurements=3,
    )
    priced = Trial(number=1, proposal=replace(proposal, price_only=True), state=State.PRICED, seconds={"tune": 2.0})
    slow = Trial(
        number=2,
        proposal=replace(proposal, steps=(replace(step, keep=tuple(range(15))),)),
        state=State.TOO_SLOW,
        cost=cost(0.150, macs=11_000_000, params=45_000),
        ratio=Ratio(
            median=1.06,
            low=1.05,
            high=1.08,
            median_low=1.05,
            median_high=1.07,
            incumbent_s=0.141e-3,
            candidate_s=0.150e-3,
            blocks=20,
        ),
        note="latency gate 0.99 not cleared",
        seconds={"tune": 3.0, "measure": 1.5},
        measurements=1,
    )
    poor = replace(slow, number=3, state=State.INACCURATE, accuracy=Accuracy(correct=150, total=200), note="")
    done = Trial(
        number=4,
        proposal=proposal,
        state=State.ACCEPTED,
        cost=pruned_table.whole,
        ratio=Ratio(
            median=0.83,
            low=0.82,
            high=0.84,
            median_low=0.825,
            median_high=0.835,
            incumbent_s=0.141e-3,
            candidate_s=0.117e-3,
            blocks=20,
        ),
        accuracy=Accuracy(correct=183, total=200),
        table=pruned_table,
        seconds={"tune": 3.0, "measure": 1.5, "finetune": 8.0},
        measurements=2,
    )
    return (dense, priced, slow, poor, done)


@pytest.fixture
def summary() -> Summary:
    dense, pruned = Accuracy(correct=590, total=600), Accuracy(correct=588, total=600)
    return Summary(
        model="resnet20",
        data="digits",
        target="llvm -mcpu=znver4",
        threads=2,
        dense=Figures(latency_ms=0.141, accuracy=dense.fraction, macs=11_796_480, params=46_000),
        pruned=Figures(latency_ms=0.117, accuracy=pruned.fraction, macs=8_848_000, params=40_000),
        uniform=Figures(latency_ms=0.1404, accuracy=pruned.fraction, macs=9_000_000, params=41_000),
        speedup=1.205,
        accuracy_drop_pp=100 * (dense.fraction - pruned.fraction),
        parity_max_abs_err=3.2e-6,
        trials=5,
        measurements=6,
        seconds=321.0,
        test_images=TestImages.of(dense, pruned),
        versus_uniform=1.2,
    )


@pytest.fixture
def run_report(
    summary: Summary, dense_table: ProgramTable, pruned_table: ProgramTable, trials: tuple[Trial, ...]
) -> RunReport:
    return RunReport(
        summary=summary,
        dense=dense_table,
        pruned=pruned_table,
        trials=trials,
        stop_reason="latency goal reached",
        uniform=(Point(latency_ms=0.132, accuracy=0.91, label="12/16"), Point(latency_ms=0.11, accuracy=0.86)),
        envelope=(Point(latency_ms=0.132, accuracy=0.91), Point(latency_ms=0.11, accuracy=0.86)),
        accuracy_floor=0.9,
        notes=("trial 4 was retrained.",),
    )
