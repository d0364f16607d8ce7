"""Bundles: large enough for the bite, and never what was refused."""

from tvm_prune.compress.step import PruneStep
from tvm_prune.search.bundle import Bundle, Refused, choose
from tvm_prune.search.options import Option
from tvm_prune.search.ranking import Gain


def option(name: str, keep: int = 3) -> Option:
    return Option(steps=(PruneStep(group=name, width=4, keep=tuple(range(keep))),), loss=1.0, note="")


A, B, C = option("a"), option("b"), option("c")
RANKED = [Gain(option=A, saved_s=0.3), Gain(option=B, saved_s=0.2), Gain(option=C, saved_s=0.1)]
DEEPER = option("a", 1)


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


def test_beyond_the_gate_a_bundle_grows_only_while_its_options_are_harmless_together() -> None:
    def grown(most: int, least: float) -> str:
        return names(
            choose(RANKED, target_s=9.0, least_s=least, refused=Refused(), harmless=lambda each: len(each) <= most)
        )

    assert [grown(most, 0.01) for most in (0, 1, 2, 3)] == ["a", "a", "ab", "abc"]
    assert [grown(most, 0.45) for most in (0, 1, 2, 3)] == ["ab", "ab", "ab", "abc"]


def test_parts_of_a_slow_bundle_are_not_tried() -> None:
    slow = Bundle(options=(A, B), saved_s=0.5)
    assert picked(target=0.0, refused=Refused(slow=[slow])) == "abc"


def test_more_than_an_inaccurate_bundle_is_not_tried() -> None:
    inaccurate = Bundle(options=(A, B), saved_s=0.5)
    assert picked(target=9.0, refused=Refused(inaccurate=[inaccurate])) == "a"


def test_a_failed_bundle_is_not_tried_again() -> None:
    failed = Bundle(options=(A,), saved_s=0.3)
    assert picked(target=0.0, refused=Refused(failed=[failed])) == "ab"


def test_a_deeper_cut_takes_the_place_of_the_shallower_one() -> None:
    ranked = [*RANKED[:2], Gain(option=DEEPER, saved_s=0.25)]
    bundle = choose(ranked, target_s=0.7, least_s=0.01, refused=Refused())
    assert bundle is not None
    assert bundle.options == (DEEPER, B)
    assert round(bundle.saved_s, 6) == 0.75


def test_what_goes_deeper_than_an_inaccurate_bundle_is_not_tried() -> None:
    ranked = [*RANKED[:2], Gain(option=DEEPER, saved_s=0.25)]
    inaccurate = Bundle(options=(B, A), saved_s=0.5)
    bundle = choose(ranked, target_s=0.7, least_s=0.01, refused=Refused(inaccurate=[inaccurate]))
    assert bundle is not None
    assert bundle.options == (A,)


def test_what_a_slow_bundle_goes_beyond_is_not_tried() -> None:
    slow = Bundle(options=(DEEPER, B), saved_s=0.5)
    assert picked(target=0.0, refused=Refused(slow=[slow])) == "abc"
