"""The integer program finds the best choice there is; the greedy one goes by harm per second."""

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_prune.errors import GoalError
from tvm_prune.search.format_choice import Choice, FormatOption, Limits, choose, choose_greedily
from tvm_prune.search.format_prices import FormatPrices, Neighbours

FLOAT = FormatOption(format="float32", in_integers=False, harm=0.0, bytes=400)
NAMES = ("a", "b", "c")


def int8(harm: float, size: int = 100) -> FormatOption:
    return FormatOption(format="int8", in_integers=True, harm=harm, bytes=size)


def table(added: dict[str, float], saved: float = 0.0) -> FormatPrices:
    pairs = tuple(Neighbours(first=a, second=b, saved_s=saved) for a, b in pairwise(NAMES))
    total = 1.0 + sum(added.values()) - sum(pair.saved_s for pair in pairs)
    return FormatPrices(integers_s=1.0, floats_s=total, added_s=added, neighbours=pairs)


OPTIONS = {"a": [FLOAT, int8(0.3)], "b": [FLOAT, int8(0.1)], "c": [FLOAT, int8(0.2)]}
TABLE = table({"a": 0.5, "b": 0.5, "c": 0.5})


def floats(choice: Choice) -> str:
    return "".join(layer for layer, name in choice.formats.items() if name == "float32")


def test_a_latency_is_met_with_the_least_harm() -> None:
    found = choose(OPTIONS, TABLE, Limits(latency_s=2.1))
    assert floats(found) == "ac"
    assert (found.latency_s, found.bytes) == (2.0, 900)
    assert found.harm == pytest.approx(0.1)


def test_without_a_goal_the_fastest_is_chosen_and_of_equals_that_of_least_harm() -> None:
    assert floats(choose(OPTIONS, TABLE, Limits())) == ""
    assert floats(choose(OPTIONS, table({"a": -0.2, "b": 0.0, "c": 0.4}), Limits())) == "ab"


def test_harm_is_kept_within_its_limit_at_the_least_latency() -> None:
    assert floats(choose(OPTIONS, TABLE, Limits(harm=0.35))) == "a"


def test_a_size_is_met_too() -> None:
    small = {layer: [*found, int8(1.0, 30)] for layer, found in OPTIONS.items()}
    found = choose(small, TABLE, Limits(bytes=600, latency_s=9.0))
    assert found.bytes == 600
    assert floats(found) == "a"
    assert found.harm == pytest.approx(0.3)


def test_neighbours_are_worth_more_together() -> None:
    # Alone none of the three pays; a and b together do.
    pair = (Neighbours(first="a", second="b", saved_s=0.5),)
    prices = FormatPrices(integers_s=1.0, floats_s=1.1, added_s={"a": 0.1, "b": 0.1, "c": 0.4}, neighbours=pair)
    assert floats(choose(OPTIONS, prices, Limits())) == "ab"


@given(
    st.lists(st.floats(-1, 1), min_size=3, max_size=3),
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.floats(-0.5, 0.5),
    st.floats(0.2, 4),
)
def test_no_other_choice_is_better(added: list[float], harms: list[float], saved: float, limit: float) -> None:
    prices = table(dict(zip(NAMES, added, strict=True)), saved)
    options = {layer: [FLOAT, int8(harm)] for layer, harm in zip(NAMES, harms, strict=True)}
    every = [
        (prices.latency_s(left := [layer for layer, out in zip(NAMES, kept, strict=True) if out]),
         sum(harm for layer, harm in zip(NAMES, harms, strict=True) if layer not in left))
        for kept in product((False, True), repeat=3)
    ]  # fmt: skip
    possible = [harm for latency, harm in every if latency <= limit - 1e-6]
    if not possible:
        return
    found = choose(options, prices, Limits(latency_s=limit))
    assert found.latency_s <= limit + 1e-6
    assert found.harm <= min(possible) + 1e-4


def test_greedily_the_cheapest_second_goes_first() -> None:
    assert floats(choose_greedily(OPTIONS, TABLE, Limits(latency_s=2.1))) == "ac"
    assert floats(choose_greedily(OPTIONS, TABLE, Limits(latency_s=1.6))) == "a"
    assert floats(choose_greedily(OPTIONS, TABLE, Limits())) == "abc"


def test_goals_out_of_reach_say_what_is_in_reach() -> None:
    with pytest.raises(GoalError, match=r"within 500 ms: by the table the fastest takes 1000 ms, .*tvm-prune cprune"):
        choose(OPTIONS, TABLE, Limits(latency_s=0.5))
    with pytest.raises(GoalError, match="the fastest takes 1000 ms"):
        choose_greedily(OPTIONS, TABLE, Limits(latency_s=0.5))
    with pytest.raises(GoalError, match=r"within 3000 ms and 200 bytes and 0\.1 nats: .*the smallest 300 bytes"):
        choose(OPTIONS, TABLE, Limits(latency_s=3.0, bytes=200, harm=0.1))
