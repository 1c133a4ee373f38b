"""The retry budget: one call in ten, some at the start, and no more than so many at once."""

import random

from gateway.core.retries import BANK_MAX, CALLS_A_RETRY, RESERVE, RetryBudget


def spent(budget: RetryBudget) -> int:
    count = 0
    while budget.spend():
        count += 1
    return count


def test_the_reserve_is_there_at_the_start_and_no_more() -> None:
    budget = RetryBudget()
    assert spent(budget) == RESERVE
    assert not budget.spend()


def test_ten_calls_earn_one_retry_exactly() -> None:
    budget = RetryBudget()
    spent(budget)
    for _ in range(50):
        for _ in range(CALLS_A_RETRY - 1):
            budget.earn()
            assert not budget.spend()
        budget.earn()
        assert budget.spend()
        assert not budget.spend()


def test_no_more_than_so_many_are_saved_up() -> None:
    budget = RetryBudget()
    for _ in range(BANK_MAX * CALLS_A_RETRY * 3):
        budget.earn()
    assert spent(budget) == BANK_MAX


def test_retries_never_exceed_their_share_however_calls_and_faults_mix(seed: str) -> None:
    chance, budget, calls, retries = random.Random(seed), RetryBudget(), 0, 0
    for _ in range(10_000):
        budget.earn()
        calls += 1
        if chance.random() < 0.4:
            retries += budget.spend()
        assert retries <= RESERVE + calls / CALLS_A_RETRY
    assert retries >= calls / CALLS_A_RETRY - 1, "it is used, too"
