"""The trust region in loss: open at first, then between what held and what broke."""

from tvm_prune.search.ceiling import Ceiling


def test_it_starts_open() -> None:
    assert Ceiling().allows(1e9)


def test_a_break_halves_it_and_a_success_widens_it_again() -> None:
    ceiling = Ceiling()
    ceiling.broken(2.0)
    assert (ceiling.allows(1.0), ceiling.allows(1.1)) == (True, False)
    ceiling.held(0.8)
    assert (ceiling.allows(1.6), ceiling.allows(1.7)) == (True, False)
    ceiling.broken(5.0)
    assert (ceiling.allows(0.8), ceiling.allows(0.9)) == (True, False)


def test_what_was_not_probed_changes_nothing_and_is_allowed() -> None:
    ceiling = Ceiling()
    ceiling.broken(1.0)
    ceiling.broken(None)
    ceiling.held(None)
    ceiling.lift([None])
    assert ceiling.allows(None)
    assert (ceiling.allows(0.5), ceiling.allows(0.6)) == (True, False)


def test_a_step_that_broke_without_a_rise_does_not_close_it() -> None:
    ceiling = Ceiling()
    ceiling.broken(-0.1)
    ceiling.broken(0.0)
    assert ceiling.allows(1.0)


def test_it_lifts_to_the_least_of_what_is_left() -> None:
    ceiling = Ceiling()
    ceiling.broken(1.0)
    ceiling.lift([3.0, 2.0, None])
    assert (ceiling.allows(2.0), ceiling.allows(2.1)) == (True, False)
