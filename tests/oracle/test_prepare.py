"""A network is built as itself unless a slightly wider one, whose extra channels are zeros, is faster."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.oracle.quick import mixed, table_of
from tvm_prune.graph.compressed import CompressedModel
from tvm_prune.oracle.compiler import CompilerOracle
from tvm_prune.oracle.cost import Failure
from tvm_prune.oracle.prepare import Draft
from tvm_prune.oracle.records import Record
from tvm_prune.oracle.tasks import Kernel

NETWORK = mixed(15)


@pytest.fixture
def forgetful(oracle: CompilerOracle) -> Iterator[CompilerOracle]:
    oracle.deepen(trials_per_task=2)
    yield oracle
    oracle.deepen(trials_per_task=2)


def drafts_of(oracle: CompilerOracle, model: CompressedModel) -> list[Draft]:
    drafts = oracle._preparer.drafts(model)
    assert not isinstance(drafts, Failure)
    return drafts


def favour(oracle: CompilerOracle, draft: Draft, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the programs that only `draft` has take no time."""
    others = {
        variant.kernel.key
        for other in drafts_of(oracle, NETWORK)
        if other.widths != draft.widths
        for variants in other.graph.variants.values()
        for variant in variants
    }
    real = oracle.records.best

    def best(key: str) -> Record | None:
        record = real(key)
        seconds = 1e-3 if key in others else 1e-9
        return record and replace(record, program=replace(record.program, latency_s=seconds))

    monkeypatch.setattr(oracle.records, "best", best)


def test_channels_that_fill_no_vectors_are_looked_at_as_they_are_and_rounded_up(forgetful: CompilerOracle) -> None:
    exact, *wider = drafts_of(forgetful, NETWORK)
    assert exact.widths == {}
    assert [draft.widths["first"] for draft in wider] == [(15, 15)] * len(wider)
    assert wider
    assert len(drafts_of(forgetful, mixed(16))) == 1


def test_the_faster_one_is_built_and_computes_what_torch_does(
    forgetful: CompilerOracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    favour(forgetful, drafts_of(forgetful, NETWORK)[-1], monkeypatch)
    assert forgetful.parity(NETWORK) < 1e-3
    shapes = [row.task.shape for row in table_of(forgetful, NETWORK).rows]
    assert any(shape.endswith("for 15 -> 15 channels") for shape in shapes)


def test_one_that_gains_nothing_is_not_built(forgetful: CompilerOracle, monkeypatch: pytest.MonkeyPatch) -> None:
    favour(forgetful, drafts_of(forgetful, NETWORK)[0], monkeypatch)
    shapes = [row.task.shape for row in table_of(forgetful, NETWORK).rows]
    assert not any("for" in shape for shape in shapes)


def test_what_is_nearly_as_fast_meets_before_one_is_chosen(
    forgetful: CompilerOracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = forgetful.records.best

    def alike(key: str) -> Record | None:
        record = real(key)
        return record and replace(record, program=replace(record.program, latency_s=1e-6))

    met: list[list[str]] = []

    def compare(contests: Sequence[Sequence[tuple[Kernel, Record]]]) -> None:
        met.extend([kernel.key for kernel, _ in contest] for contest in contests)

    forgetful.estimate([NETWORK])
    forgetful.deepen(trials_per_task=2)
    monkeypatch.setattr(forgetful.records, "best", alike)
    # They may really have been so close when they were priced, and have met then.
    monkeypatch.setattr(forgetful.records, "settled", lambda key: 0)
    monkeypatch.setattr(forgetful.tuner, "_trials", SimpleNamespace(compare=compare, settings=forgetful.tuner.settings))
    exact, *wider = drafts_of(forgetful, NETWORK)
    forgetful.tuner.meet(list(forgetful._preparer._rivals([exact, *wider])))
    ours = {variant.kernel.key for variants in exact.graph.variants.values() for variant in variants}
    assert met
    assert all(contest[0] in ours and not ours.issuperset(contest[1:]) for contest in met)
