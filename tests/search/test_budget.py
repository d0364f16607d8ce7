"""The account of a run: what counts, and when it is spent."""

import pytest

from tvm_prune.errors import ConfigError
from tvm_prune.search.budget import Account, Budget
from tvm_prune.search.trial import Proposal, State, Trial


def trial(number: int, *, price_only: bool = False, seconds: float = 2.0) -> Trial:
    return Trial(
        number=number,
        proposal=Proposal(parent=0, steps=(), price_only=price_only),
        state=State.PRICED if price_only else State.TOO_SLOW,
        seconds={"tune": seconds / 2, "measure": seconds / 2},
        measurements=5,
    )


def test_prices_cost_time_and_measurements_but_are_no_trials() -> None:
    account = Account(Budget())
    account.add(trial(1, price_only=True))
    account.add(trial(2))
    assert (account.seconds, account.trials, account.measurements) == (4.0, 1, 10)


def test_the_dense_model_is_no_trial() -> None:
    account = Account(Budget(trials=1))
    account.add(Trial(number=0, proposal=None, state=State.ACCEPTED))
    assert account.exhausted() == ""


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        (Budget(seconds=4), "the budget of 4 seconds is spent"),
        (Budget(trials=2), "the budget of 2 trials is spent"),
        (Budget(measurements=10), "the budget of 10 measurements is spent"),
        (Budget(seconds=5, trials=3, measurements=11), ""),
        (Budget(), ""),
    ],
)
def test_each_limit_ends_a_run_in_its_own_words(budget: Budget, text: str) -> None:
    account = Account(budget)
    account.add(trial(1))
    account.add(trial(2))
    assert account.exhausted() == text


def test_the_time_left_follows_the_tighter_limit() -> None:
    account = Account(Budget(seconds=100, trials=3))
    assert account.remaining_s() == 100
    account.add(trial(1, seconds=10))
    assert account.remaining_s() == 20
    assert Account(Budget()).remaining_s() is None


def test_a_negative_budget_is_refused() -> None:
    with pytest.raises(ConfigError, match="the budget of trials is -1; give 0 or more"):
        Budget(trials=-1)
