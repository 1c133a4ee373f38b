"""When to come again: one reason, the longest wait, enough and not a microsecond too long, whatever the clock does."""

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.call import Call
from gateway.core.limits import Estimate, Limits
from gateway.core.pricing import MICRO
from gateway.core.record import Spent
from gateway.errors import AllowanceHeld, ConcurrencyLimited, CreditsExhausted, RequestsLimited, TokensLimited
from tests.fakes import KEY, SOURCE, Bench, call, credential_of, refused

PLENTY = Limits(rate_limit_per_min=60)
NOTHING_SPENT = Spent(month="202611")
SECOND_US = 1_000_000


def costing(expected: int, number: int = 1) -> Call:
    """A call that takes so many of its tokens a minute."""
    return call(number, estimate=Estimate(prompt_max=1, prompt_expected=expected, output_max=0))


async def admit(bench: Bench, one: Call) -> Any:
    return await bench.limiter.admit(one, "", b"{}")


async def test_what_waiting_cannot_mend_is_said_before_what_it_can(bench: Bench) -> None:
    await bench.publish(replace(PLENTY, rate_limit_per_min=1), NOTHING_SPENT, metered=True)
    error = await refused(admit(bench, call(1)))
    assert (type(error), error.retry_after_s) == (CreditsExhausted, None)


@pytest.mark.parametrize(
    ("limits", "key"), [({}, {"metered": True, "granted_micro": MICRO}), ({"monthly_token_limit": 125}, {})]
)
async def test_what_running_calls_may_give_back_is_worth_waiting_for(bench: Bench, limits: Any, key: Any) -> None:
    await bench.publish(replace(PLENTY, **limits), NOTHING_SPENT, **key)
    await admit(bench, call(1))
    error = await refused(admit(bench, call(2)))
    assert (type(error), error.retry_after_s) == (AllowanceHeld, 1)
    await bench.limiter.void(call(1))
    await admit(bench, call(2))


@pytest.mark.parametrize(
    ("limits", "kind", "wait_s"),
    [
        ({"rate_limit_per_min": 2}, RequestsLimited, 30),
        ({"rate_limit_per_min": 2, "tokens_per_min": 40}, RequestsLimited, 30),
        ({"rate_limit_per_min": 7, "tokens_per_min": 40, "concurrency": 2}, TokensLimited, 30),
        ({"rate_limit_per_min": 2, "concurrency": 2}, RequestsLimited, 30),
        ({"rate_limit_per_min": 7, "concurrency": 2}, ConcurrencyLimited, 1),
    ],
)
async def test_one_reason_is_given_and_it_is_the_longest_wait(
    bench: Bench, limits: Any, kind: type, wait_s: int
) -> None:
    await bench.publish(replace(PLENTY, **limits))
    for number in (1, 2):
        await admit(bench, costing(20, number))
    error = await refused(admit(bench, costing(20, 3)))
    assert (type(error), error.retry_after_s) == (kind, wait_s)


async def test_a_shorter_wait_never_hides_a_longer_one(bench: Bench) -> None:
    await bench.publish(replace(PLENTY, rate_limit_per_min=90, concurrency=90))
    for number in range(90):
        await admit(bench, call(number))
    error = await refused(admit(bench, call(90)))  # a request in two thirds of a second, a place in one
    assert (type(error), error.retry_after_s) == (ConcurrencyLimited, 1)


@pytest.mark.parametrize("limit", [1, 7, 20, 59, 1_000, 99_999_999])
async def test_after_the_wait_a_call_is_let_in_and_not_a_microsecond_sooner(bench: Bench, limit: int) -> None:
    await bench.publish(replace(PLENTY, rate_limit_per_min=10**6, tokens_per_min=limit))
    await admit(bench, costing(limit))
    exact_us = -(-60 * SECOND_US // limit)
    bench.tick(exact_us - 1)
    error = await refused(admit(bench, costing(1, 2)))
    assert (type(error), error.retry_after_s) == (TokensLimited, 1)
    bench.tick(1)
    await admit(bench, costing(1, 2))


async def test_the_wait_in_whole_seconds_is_enough_and_a_second_less_is_not(bench: Bench) -> None:
    await bench.publish(replace(PLENTY, rate_limit_per_min=7))
    for number in range(7):
        await admit(bench, call(number))
    wait_s = (await refused(admit(bench, call(8)))).retry_after_s
    assert wait_s == 9  # 8.57 s
    bench.tick((wait_s - 1) * SECOND_US)
    await refused(admit(bench, call(8)))
    bench.tick(SECOND_US)
    await admit(bench, call(8))


async def test_a_wait_told_while_the_clock_is_behind_is_long_enough(bench: Bench) -> None:
    """After a failover the clock may be seconds behind the last write: nothing is refilled until it has caught up."""
    await bench.publish(replace(PLENTY, rate_limit_per_min=60))
    for number in range(60):
        await admit(bench, call(number))
    bench.tick(-4 * SECOND_US)
    wait_s = (await refused(admit(bench, call(61)))).retry_after_s
    assert wait_s
    bench.tick(wait_s * SECOND_US)
    await admit(bench, call(61))


async def test_a_clock_that_went_far_back_does_not_lock_a_key_out(bench: Bench) -> None:
    await bench.publish(replace(PLENTY, rate_limit_per_min=60))
    for number in range(60):
        await admit(bench, call(number))
    bench.tick(-3_600 * SECOND_US)
    await refused(admit(bench, call(61)))
    bench.tick(1)
    await refused(admit(bench, call(61)))


async def test_a_clock_that_goes_to_and_fro_makes_no_tokens(bench: Bench) -> None:
    await bench.publish(replace(PLENTY, rate_limit_per_min=60))
    for number in range(60):
        await admit(bench, call(number))
    admitted = 0
    for number in range(100, 130):
        bench.tick(-2 * SECOND_US if number % 2 else 2 * SECOND_US)
        try:
            await admit(bench, call(number))
            admitted += 1
        except RequestsLimited:
            pass
    assert admitted <= 2


@pytest.mark.parametrize(("before", "after"), [(60, 600), (600, 60), (7, 11), (99_999_999, 1), (1, 99_999_999)])
async def test_a_changed_limit_keeps_the_tokens_up_to_the_new_capacity(bench: Bench, before: int, after: int) -> None:
    await bench.publish(replace(PLENTY, tokens_per_min=before))
    took = max(1, before // 2)
    await admit(bench, costing(took))
    await bench.publish(replace(PLENTY, tokens_per_min=after))
    levels = (await bench.inspector.inspect(credential_of(KEY), SOURCE)).key.levels.tokens
    assert levels
    assert (levels.limit, levels.left) == (after, min(after, before - took))
    await bench.publish(replace(PLENTY, tokens_per_min=before))
    again = (await bench.inspector.inspect(credential_of(KEY), SOURCE)).key.levels.tokens
    assert again
    assert again.left == before - took, "a look writes nothing"
