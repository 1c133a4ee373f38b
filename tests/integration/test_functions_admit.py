"""Admission: all or nothing, once a call, and honest about when to come again."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.call import Call
from gateway.core.keys import Credential
from gateway.core.limits import Estimate, Limits
from gateway.core.pricing import MICRO
from gateway.core.record import Spent
from gateway.errors import (
    AllowanceHeld,
    ConcurrencyLimited,
    CreditsExhausted,
    KeysNotLoaded,
    RequestsLimited,
    TokensLimited,
)
from gateway.state.limiter import LEASE_MS, REFUSALS
from tests.fakes import AT_US, KEY, STRANGER, Bench, call, credential_of, refused

PLENTY = Limits(requests_per_min=60)
SECOND_US = 1_000_000
DETAIL = b"{}"


@pytest.fixture
async def bench(redis_url: str) -> AsyncIterator[Bench]:
    one = Bench(redis_url)
    yield one
    one.close()


def costing(expected: int, number: int = 1) -> Call:
    return call(number, estimate=Estimate(prompt_max=1, prompt_expected=1, expected=expected, output_max=10))


async def admit(bench: Bench, one: Call, objection: str = "") -> Any:
    return await bench.limiter.admit(one, objection, DETAIL)


async def unprepared(bench: Bench) -> None:
    pass


async def nothing_loaded(bench: Bench) -> None:
    bench.redis.delete("{s00}:ready", f"{{s00}}:key:{credential_of(KEY).key_id}")


async def no_balance(bench: Bench) -> None:
    bench.redis.hdel(f"{{s00}}:account:{credential_of(KEY).key_id}", "credit")


async def running(bench: Bench) -> None:
    await admit(bench, call(2))


async def settled(bench: Bench) -> None:
    await admit(bench, call(1))
    await bench.limiter.void(call(1))


WRONG = replace(credential_of(KEY), digest="0" * 64)
ABSENT = credential_of(STRANGER)
REFUSED: dict[str, tuple[str, dict[str, Any], Callable[[Bench], Any], dict[str, Any], str]] = {
    "no keys are loaded": ("not_ready", {}, nothing_loaded, {}, ""),
    "its balance is not loaded": ("not_ready", {"credits_micro": MICRO}, no_balance, {}, ""),
    "the key is not known": ("unknown", {}, unprepared, {"credential": ABSENT}, ""),
    "the secret is wrong": ("unknown", {}, unprepared, {"credential": WRONG}, ""),
    "the secret is wrong and nothing can serve it": ("unknown", {}, unprepared, {"credential": WRONG}, "no_backend"),
    "no backend answers": ("no_backend", {}, unprepared, {}, "no_backend"),
    "no backend has the model": ("model_not_found", {}, unprepared, {}, "model_not_found"),
    "the model runs elsewhere": ("cloud", {}, unprepared, {}, "cloud"),
    "it alone is over the limit": ("too_large", {"tokens_per_min": 29}, unprepared, {}, ""),
    "no credits": ("credits", {"credits_micro": MICRO - 1}, unprepared, {}, ""),
    "all credits are held": ("held", {"credits_micro": MICRO}, running, {}, ""),
    "the month is used up": ("month", {"monthly_tokens": 20}, unprepared, {}, ""),
    "what is left of the month is held": ("held", {"monthly_tokens": 140}, running, {}, ""),
    "as many run as may": ("concurrency", {"concurrency": 1}, running, {}, ""),
    "too many requests": ("requests", {"requests_per_min": 1}, running, {}, ""),
    "too many tokens": ("tokens", {"tokens_per_min": 40}, running, {}, ""),
    "the call has ended": ("ended", {}, settled, {}, ""),
}


def test_every_reason_to_refuse_is_tried_here() -> None:
    assert {reason for reason, *_ in REFUSED.values()} == set(REFUSALS)


@pytest.mark.parametrize(("reason", "limits", "before", "changes", "objection"), REFUSED.values(), ids=REFUSED)
async def test_a_refusal_leaves_every_key_as_it_was(
    bench: Bench, reason: str, limits: Any, before: Callable[[Bench], Any], changes: Any, objection: str
) -> None:
    await bench.publish(replace(PLENTY, **limits))
    await before(bench)
    state = bench.everything()
    for _ in range(3):
        assert type(await refused(admit(bench, call(1, **changes), objection))) is REFUSALS[reason]
    assert bench.everything() == state


@pytest.mark.parametrize("changes", [{"enabled": False}, {"expires_at_ms": AT_US // 1_000}, {"digest": "0" * 64}])
async def test_a_key_that_is_revoked_expired_or_rotated_is_unknown(bench: Bench, changes: Any) -> None:
    await bench.publish(PLENTY)
    await admit(bench, call(1))
    await bench.publish(PLENTY, **changes)
    state = bench.everything()
    assert type(await refused(admit(bench, call(2)))) is REFUSALS["unknown"]
    assert bench.everything() == state


async def test_a_key_is_good_until_the_moment_it_expires(bench: Bench) -> None:
    await bench.publish(PLENTY, expires_at_ms=AT_US // 1_000 + 1)
    bench.tick(999)
    await admit(bench, call(1))
    bench.tick(1)
    assert type(await refused(admit(bench, call(2)))) is REFUSALS["unknown"]


async def test_a_stranger_is_not_told_unknown_before_every_key_is_loaded(bench: Bench) -> None:
    stranger = call(credential=Credential(ABSENT.key_id, ABSENT.digest))
    assert type(await refused(admit(bench, stranger))) is KeysNotLoaded
    await bench.publish(PLENTY)
    assert type(await refused(admit(bench, stranger))) is REFUSALS["unknown"]


async def test_admitting_twice_with_one_id_is_admitting_once(bench: Bench) -> None:
    await bench.publish(replace(PLENTY, tokens_per_min=100, credits_micro=MICRO, concurrency=1, monthly_tokens=500))
    first = await admit(bench, call(1))
    state = bench.everything()
    assert await admit(bench, call(1)) == first
    assert await admit(bench, call(1), "no_backend") == first
    assert bench.everything() == state
    bench.tick(SECOND_US)
    again = await admit(bench, call(1))
    assert (again.at_ms, again.output_tokens_max) == (first.at_ms, first.output_tokens_max)


async def test_what_waiting_cannot_mend_is_said_before_what_it_can(bench: Bench) -> None:
    await bench.publish(replace(PLENTY, requests_per_min=1, credits_micro=0))
    error = await refused(admit(bench, call(1)))
    assert (type(error), error.retry_after_s) == (CreditsExhausted, None)


@pytest.mark.parametrize("limits", [{"credits_micro": MICRO}, {"monthly_tokens": 125}])
async def test_what_running_calls_may_give_back_is_worth_waiting_for(bench: Bench, limits: Any) -> None:
    await bench.publish(replace(PLENTY, **limits))
    await admit(bench, call(1))
    error = await refused(admit(bench, call(2)))
    assert (type(error), error.retry_after_s) == (AllowanceHeld, 1)
    await bench.limiter.void(call(1))
    await admit(bench, call(2))


@pytest.mark.parametrize(
    ("limits", "kind", "wait_s"),
    [
        ({"requests_per_min": 2}, RequestsLimited, 30),
        ({"requests_per_min": 2, "tokens_per_min": 40}, RequestsLimited, 30),
        ({"requests_per_min": 7, "tokens_per_min": 40, "concurrency": 2}, TokensLimited, 30),
        ({"requests_per_min": 2, "concurrency": 2}, RequestsLimited, 30),
        ({"requests_per_min": 7, "concurrency": 2}, ConcurrencyLimited, 1),
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
    await bench.publish(replace(PLENTY, requests_per_min=90, concurrency=90))
    for number in range(90):
        await admit(bench, call(number))
    error = await refused(admit(bench, call(90)))  # a request in two thirds of a second, a place in one
    assert (type(error), error.retry_after_s) == (ConcurrencyLimited, 1)


@pytest.mark.parametrize("limit", [1, 7, 20, 59, 1_000, 99_999_999])
async def test_after_the_wait_a_call_is_let_in_and_not_a_microsecond_sooner(bench: Bench, limit: int) -> None:
    await bench.publish(replace(PLENTY, requests_per_min=10**6, tokens_per_min=limit))
    await admit(bench, costing(limit))
    exact_us = -(-60 * SECOND_US // limit)
    bench.tick(exact_us - 1)
    error = await refused(admit(bench, costing(1, 2)))
    assert (type(error), error.retry_after_s) == (TokensLimited, 1)
    bench.tick(1)
    await admit(bench, costing(1, 2))


async def test_the_wait_in_whole_seconds_is_enough_and_a_second_less_is_not(bench: Bench) -> None:
    await bench.publish(replace(PLENTY, requests_per_min=7))
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
    await bench.publish(replace(PLENTY, requests_per_min=60))
    for number in range(60):
        await admit(bench, call(number))
    bench.tick(-4 * SECOND_US)
    wait_s = (await refused(admit(bench, call(61)))).retry_after_s
    assert wait_s
    bench.tick(wait_s * SECOND_US)
    await admit(bench, call(61))


async def test_a_clock_that_went_far_back_does_not_lock_a_key_out(bench: Bench) -> None:
    await bench.publish(replace(PLENTY, requests_per_min=60))
    for number in range(60):
        await admit(bench, call(number))
    bench.tick(-3_600 * SECOND_US)
    await refused(admit(bench, call(61)))
    bench.tick(1)
    await refused(admit(bench, call(61)))


async def test_a_clock_that_goes_to_and_fro_makes_no_tokens(bench: Bench) -> None:
    await bench.publish(replace(PLENTY, requests_per_min=60))
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
    levels = (await bench.limiter.inspect(credential_of(KEY))).levels.tokens
    assert levels
    assert (levels.limit, levels.left) == (after, min(after, before - took))
    await bench.publish(replace(PLENTY, tokens_per_min=before))
    again = (await bench.limiter.inspect(credential_of(KEY))).levels.tokens
    assert again
    assert again.left == before - took, "a look writes nothing"


async def test_the_output_is_cut_to_what_is_left_of_the_month(bench: Bench) -> None:
    await bench.publish(replace(PLENTY, monthly_tokens=150))
    assert (await admit(bench, call(1))).output_tokens_max == 100  # and 20 of prompt at most
    assert (await admit(bench, call(2))).output_tokens_max == 10
    assert type(await refused(admit(bench, call(3)))) is AllowanceHeld


async def test_a_lease_counts_until_the_millisecond_it_ends(bench: Bench) -> None:
    await bench.publish(replace(PLENTY, concurrency=1))
    await admit(bench, call(1))
    bench.tick(LEASE_MS * 1_000 - 1)
    await refused(admit(bench, call(2)))
    bench.tick(1)
    await admit(bench, call(2))


async def test_the_levels_told_are_those_after_the_call(bench: Bench) -> None:
    await bench.publish(replace(PLENTY, requests_per_min=20, tokens_per_min=6_000))
    levels = (await admit(bench, costing(500))).levels
    requests, tokens = levels.requests, levels.tokens
    assert (requests.limit, requests.left, requests.reset_ms) == (20, 19, 3_000)
    assert (tokens.limit, tokens.left, tokens.reset_ms) == (6_000, 5_500, 5_000)


MONTHS = [
    (datetime(2026, 11, 30, 23, 59, 59, 999_999, UTC), "202611", "202612"),
    (datetime(2026, 12, 31, 23, 59, 59, 999_999, UTC), "202612", "202701"),
    (datetime(2027, 2, 28, 23, 59, 59, 999_999, UTC), "202702", "202703"),
    (datetime(2028, 2, 28, 23, 59, 59, 999_999, UTC), "202802", "202802"),
    (datetime(2028, 2, 29, 23, 59, 59, 999_999, UTC), "202802", "202803"),
    (datetime(2100, 2, 28, 23, 59, 59, 999_999, UTC), "210002", "210003"),
    (datetime(2000, 2, 28, 23, 59, 59, 999_999, UTC), "200002", "200002"),
]


def unix_us(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@pytest.mark.parametrize(("last", "month", "following"), MONTHS, ids=lambda value: str(value)[:10])
async def test_the_month_turns_at_midnight_utc_by_the_clock_of_redis(
    bench: Bench, last: datetime, month: str, following: str
) -> None:
    await bench.publish(PLENTY)
    bench.set_clock(unix_us(last))
    assert (await bench.limiter.inspect(credential_of(KEY))).month == month
    bench.tick(1)
    assert (await bench.limiter.inspect(credential_of(KEY))).month == following


async def test_every_day_of_a_century_has_its_month(bench: Bench) -> None:
    await bench.publish(PLENTY)
    first = datetime(1999, 12, 31, 12, tzinfo=UTC)
    for day in (first + timedelta(days=17 * number) for number in range(2_200)):
        bench.set_clock(unix_us(day))
        assert (await bench.limiter.inspect(credential_of(KEY))).month == f"{day:%Y%m}"


async def test_a_new_month_is_a_new_allowance(bench: Bench) -> None:
    bench.set_clock(unix_us(MONTHS[0][0]))
    await bench.publish(replace(PLENTY, monthly_tokens=120), Spent(month="202611", tokens=100))
    assert type(await refused(admit(bench, call(1)))) is REFUSALS["month"]
    bench.tick(1)
    await admit(bench, call(1))
    statement = await bench.limiter.inspect(credential_of(KEY))
    assert (statement.month, statement.tokens_spent, statement.tokens_held) == ("202612", 0, 120)


async def test_a_look_changes_nothing_and_sees_what_is_held(bench: Bench) -> None:
    limits = replace(PLENTY, tokens_per_min=900, credits_micro=3 * MICRO, concurrency=4, monthly_tokens=500)
    await bench.publish(limits, Spent(month="202611", tokens=40, credits_micro=MICRO))
    await admit(bench, call(1))
    state = bench.everything()
    seen = await bench.limiter.inspect(credential_of(KEY))
    assert bench.everything() == state
    assert (seen.tokens_spent, seen.tokens_held, seen.monthly_tokens) == (40, 120, 500)
    assert (seen.credit_micro, seen.credit_held_micro, seen.concurrency, seen.running) == (2 * MICRO, MICRO, 4, 1)


async def test_a_look_without_the_key_is_refused_like_a_call(bench: Bench) -> None:
    assert type(await refused(bench.limiter.inspect(credential_of(KEY)))) is KeysNotLoaded
    await bench.publish(PLENTY)
    assert type(await refused(bench.limiter.inspect(WRONG))) is REFUSALS["unknown"]
    assert type(await refused(bench.limiter.inspect(ABSENT))) is REFUSALS["unknown"]
