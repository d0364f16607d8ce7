"""What comes first: seconds per harm, and each group only as deep as it pays."""

from collections.abc import Mapping, Sequence

from tvm_prune.compress.step import PruneStep
from tvm_prune.search.options import Option, prune_to
from tvm_prune.search.ranking import Price, best_first
from tvm_prune.search.trial import ScoredGroup


def group(name: str, scores: tuple[float, ...]) -> ScoredGroup:
    return ScoredGroup(
        name=name,
        width=len(scores),
        prunable=True,
        reason="",
        scores=scores,
        outputs={name: 1},
        inputs={},
    )


def at(latency_s: float, distance: float | None = None) -> Price:
    return Price(latency_s=latency_s, distance=distance)


def option(name: str, keep: int, *, loss: float) -> Option:
    return Option(steps=(prune_to(group(name, (1.0,) * 8), keep),), loss=loss, note="")


def gains(
    options: Sequence[Option], prices: Mapping[tuple[PruneStep, ...], Price | None], *, incumbent: Price
) -> list[tuple[str, float]]:
    """Return what is worth doing, in words, with the seconds saved."""
    ranked = best_first(options, prices, incumbent=incumbent)
    return [(gain.option.text, round(gain.saved_s, 3)) for gain in ranked]


def test_the_best_seconds_per_importance_come_first() -> None:
    first, second = option("a", 6, loss=1.0), option("b", 6, loss=0.1)
    prices = {first.steps: at(0.8), second.steps: at(0.95)}
    assert gains([first, second], prices, incumbent=at(1.0)) == [("b 8 -> 6", 0.05), ("a 8 -> 6", 0.2)]


def test_a_count_that_costs_more_than_a_larger_one_is_never_taken() -> None:
    larger, smaller = option("a", 6, loss=1.0), option("a", 5, loss=0.5)
    prices = {larger.steps: at(0.8), smaller.steps: at(0.9)}
    ranked = best_first([smaller, larger], prices, incumbent=at(1.0))
    assert [gain.option.text for gain in ranked] == ["a 8 -> 6"]


def test_what_cannot_be_built_or_saves_nothing_is_left_out() -> None:
    unbuilt, slower = option("a", 6, loss=1.0), option("b", 6, loss=1.0)
    prices = {unbuilt.steps: None, slower.steps: at(1.0)}
    assert best_first([unbuilt, slower], prices, incumbent=at(1.0)) == []


def test_a_probed_distance_outweighs_the_importance_of_channels() -> None:
    important, harmful = option("a", 6, loss=2.0), option("b", 6, loss=1.0)
    prices = {important.steps: at(0.8, 0.05), harmful.steps: at(0.8, 0.4)}
    ranked = best_first([important, harmful], prices, incumbent=at(1.0))
    assert [gain.option.text for gain in ranked] == ["a 8 -> 6", "b 8 -> 6"]
    prices = {important.steps: at(0.8), harmful.steps: at(0.8)}
    ranked = best_first([important, harmful], prices, incumbent=at(1.0))
    assert [gain.option.text for gain in ranked] == ["b 8 -> 6", "a 8 -> 6"]


def test_a_deeper_cut_of_a_group_is_worth_what_it_adds() -> None:
    shallow, deep, other = option("a", 6, loss=1.0), option("a", 4, loss=4.0), option("b", 6, loss=1.0)
    prices = {shallow.steps: at(0.8), deep.steps: at(0.5), other.steps: at(0.85)}
    found = gains([deep, other, shallow], prices, incumbent=at(1.0))
    assert found == [("a 8 -> 6", 0.2), ("b 8 -> 6", 0.15), ("a 8 -> 4", 0.3)]


def test_a_count_below_the_hull_is_passed_over() -> None:
    shallow, deep = option("a", 6, loss=3.0), option("a", 4, loss=4.0)
    prices = {shallow.steps: at(0.9), deep.steps: at(0.5)}
    assert gains([shallow, deep], prices, incumbent=at(1.0)) == [("a 8 -> 4", 0.5)]


def test_a_deeper_cut_that_harms_less_takes_the_place_of_the_shallower_one() -> None:
    shallow, deep = option("a", 6, loss=0.01), option("a", 4, loss=0.02)
    prices = {shallow.steps: at(0.9, 0.02), deep.steps: at(0.5, 0.01)}
    found = gains([shallow, deep], prices, incumbent=at(1.0))
    assert found == [("a 8 -> 4", 0.5)]


def test_options_that_share_some_groups_exclude_each_other() -> None:
    both = Option(steps=(*option("a", 6, loss=1.0).steps, *option("b", 6, loss=1.0).steps), loss=2.0, note="")
    alone, apart = option("a", 4, loss=2.0), option("c", 6, loss=9.0)
    prices = {both.steps: at(0.5), alone.steps: at(0.6), apart.steps: at(0.9)}
    assert gains([alone, both, apart], prices, incumbent=at(1.0)) == [("a 8 -> 6, b 8 -> 6", 0.5), ("c 8 -> 6", 0.1)]
