"""Bundles: large enough for the bite, and never what was refused."""

from tvm_prune.compress.step import PruneStep
from tvm_prune.search.bundle import Bundle, Refused, choose
from tvm_prune.search.options import Option


def option(name: str) -> Option:
    return Option(steps=(PruneStep(group=name, width=2, keep=(0,)),), loss=1.0, note="")


A, B, C = option("a"), option("b"), option("c")
RANKED = [(A, 0.3), (B, 0.2), (C, 0.1)]


def names(bundle: Bundle | None) -> str:
    return "" if bundle is None else "".join(step.group for step in bundle.steps)


def picked(*, target: float, least: float = 0.01, refused: Refused | None = None) -> str:
    return names(choose(RANKED, target_s=target, least_s=least, refused=refused or Refused()))


def test_a_bundle_grows_until_it_promises_the_target() -> None:
    assert [picked(target=target) for target in (0.0, 0.25, 0.4, 0.55, 9.0)] == ["a", "a", "ab", "abc", "abc"]


def test_a_bundle_that_cannot_clear_the_gate_is_none() -> None:
    assert picked(target=0.0, least=0.4) == "ab"
    assert picked(target=0.0, least=0.7) == ""
    assert choose([], target_s=0.0, least_s=0.0, refused=Refused()) is None


def test_parts_of_a_slow_bundle_are_not_tried() -> None:
    slow = Bundle(options=(A, B), saved_s=0.5)
    assert picked(target=0.0, refused=Refused(slow=[slow])) == "abc"


def test_more_than_an_inaccurate_bundle_is_not_tried() -> None:
    inaccurate = Bundle(options=(A, B), saved_s=0.5)
    assert picked(target=9.0, refused=Refused(inaccurate=[inaccurate])) == "a"


def test_a_failed_bundle_is_not_tried_again() -> None:
    failed = Bundle(options=(A,), saved_s=0.3)
    assert picked(target=0.0, refused=Refused(failed=[failed])) == "ab"
