"""What one incumbent leaves to the next: in which order its options are worth pricing again."""

from collections.abc import Mapping

import pytest

from tvm_prune.compress.step import PruneStep
from tvm_prune.search.bundle import Bundle
from tvm_prune.search.findings import Findings
from tvm_prune.search.options import Option
from tvm_prune.search.ranking import Price


def option(group: str, *keep: int, width: int = 4) -> Option:
    return Option(steps=(PruneStep(group=group, width=width, keep=keep),), loss=1.0, note="")


A, B, C = option("a", 0, 1), option("b", 0, 1), option("c", 0, 1)


def priced(findings: Findings, latencies_s: Mapping[Option, float | None]) -> Findings:
    findings.prices[()] = Price(latency_s=1.0)
    for found, latency_s in latencies_s.items():
        findings.prices[found.steps] = None if latency_s is None else Price(latency_s=latency_s)
    return findings


def test_all_is_priced_for_the_first_incumbent_itself_first() -> None:
    first = Findings(latency_s=1.0, window=1)
    assert first.unpriced([A, B]) == [(), A.steps, B.steps]
    assert priced(first, {A: 0.9}).unpriced([A, B]) == [B.steps]
    assert first.hopeful([A], count=5) == []


def test_the_next_incumbent_prices_the_most_promising_again_a_few_at_a_time() -> None:
    first = Findings(latency_s=1.0, window=1)
    first.unpriced([A, B, C])
    hopes = priced(first, {A: 0.9, B: 0.5, C: 0.7}).leave_hopes()
    second = Findings(latency_s=1.0, window=1, hopes=hopes)
    assert second.unpriced([A, B, C]) == []
    assert second.hopeful([A, B, C], count=2) == [(), B.steps, C.steps]
    assert priced(second, {B: 0.5, C: 0.7}).hopeful([A, B, C], count=2) == [A.steps]


def test_what_promises_more_than_the_bundle_in_hand_is_priced_first() -> None:
    first = Findings(latency_s=1.0, window=1)
    first.unpriced([A, B, C])
    hopes = priced(first, {A: 0.9, B: 0.5, C: 0.7}).leave_hopes()
    second = Findings(latency_s=1.0, window=1, hopes=hopes)
    priced(second, {C: 0.8})
    in_hand = Bundle(options=(C,), saved_s=0.2)
    assert second.least_worth(in_hand) == pytest.approx(0.2)
    assert second.hopeful([A, B, C], count=8, better_than=second.least_worth(in_hand)) == [B.steps]


def test_other_channels_of_the_same_count_are_the_same_hope() -> None:
    first = Findings(latency_s=1.0, window=1)
    first.unpriced([A])
    second = Findings(latency_s=1.0, window=1, hopes=priced(first, {A: 0.9}).leave_hopes())
    others, fewer, narrower = option("a", 2, 3), option("a", 3), option("a", 0, 1, width=3)
    assert second.unpriced([others]) == []
    assert second.unpriced([others, fewer, narrower]) == [(), fewer.steps, narrower.steps]


def test_hopes_are_handed_on_and_renewed() -> None:
    first = Findings(latency_s=1.0, window=1)
    first.unpriced([A, B])
    second = Findings(latency_s=1.0, window=1, hopes=priced(first, {A: 0.9, B: 0.5}).leave_hopes())
    second.unpriced([A, B])
    hopes = priced(second, {B: 0.95}).leave_hopes()
    assert hopes[A.counts] > hopes[B.counts]


def test_what_could_not_be_built_is_no_hope_and_is_asked_for_again() -> None:
    first = Findings(latency_s=1.0, window=1)
    first.unpriced([A])
    second = Findings(latency_s=1.0, window=1, hopes=priced(first, {A: None}).leave_hopes())
    assert second.unpriced([A]) == [(), A.steps]
