"""The trust region in distance: open at first, then as far as the accuracy to spare reaches."""

from hypothesis import given
from hypothesis import strategies as st

from tvm_prune.search.ceiling import Ceiling


def ceiling(*, spare: float) -> Ceiling:
    made = Ceiling()
    made.spare = spare
    return made


def test_it_is_open_until_a_step_has_lost_accuracy() -> None:
    made = ceiling(spare=0.01)
    assert made.allows(1e9)
    made.told(0.5, lost=0.0)
    made.told(0.5, lost=-0.01)
    assert made.allows(1e9)


def test_a_step_may_go_as_far_as_most_of_what_is_to_spare_reaches() -> None:
    made = ceiling(spare=0.10)
    made.told(1.0, lost=0.02)
    assert (made.allows(4.0), made.allows(4.1)) == (True, False)
    made.spare = 0.05
    assert (made.allows(2.0), made.allows(2.1)) == (True, False)
    made.told(3.0, lost=0.02)
    assert (made.allows(4.0), made.allows(4.1)) == (True, False)


@given(
    before=st.lists(st.tuples(st.floats(0.01, 10), st.floats(-0.01, 0.05)), max_size=5),
    distance=st.floats(0.01, 10),
    lost=st.floats(0.051, 0.9),
)
def test_after_a_refusal_nothing_as_far_is_allowed(
    before: list[tuple[float, float]], distance: float, lost: float
) -> None:
    made = ceiling(spare=0.05)
    for earlier in before:
        made.told(earlier[0], lost=earlier[1])
    made.told(distance, lost=lost)
    assert not made.allows(distance)


def test_what_was_not_probed_changes_nothing_and_is_allowed() -> None:
    made = ceiling(spare=0.01)
    made.told(1.0, lost=0.01)
    made.told(None, lost=0.5)
    made.lift([None])
    assert made.allows(None)
    assert (made.allows(0.8), made.allows(0.81)) == (True, False)


def test_a_step_that_lost_without_a_distance_does_not_close_it() -> None:
    made = ceiling(spare=0.01)
    made.told(0.0, lost=0.5)
    assert made.allows(1.0)


def test_it_lifts_to_the_least_of_what_is_left_until_the_next_outcome() -> None:
    made = ceiling(spare=0.01)
    made.told(1.0, lost=1.0)
    made.lift([3.0, 2.0, None])
    assert (made.allows(2.0), made.allows(2.1)) == (True, False)
    made.lift([])
    made.lift([1.0])
    assert made.allows(2.0), "what was let through once must not come back"
    made.told(2.0, lost=0.0)
    assert not made.allows(2.0)
