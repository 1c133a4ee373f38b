"""Admission: all or nothing, once a call, and honest about when to come again."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.call import Call
from gateway.core.limits import Estimate, Limits
from gateway.core.pricing import MICRO
from gateway.core.record import Secret, Spent
from gateway.errors import (
    AllowanceHeld,
    KeysNotLoaded,
)
from gateway.state.limiter import LEASE_MS, REFUSALS
from tests.fakes import AT_US, KEY, SOURCE, STRANGER, Bench, call, credential_of, refused

PLENTY = Limits(rate_limit_per_min=60)
NOTHING_SPENT = Spent(month="202611")
SECOND_US = 1_000_000
DETAIL = b"{}"
OTHER = (Secret(digest="0" * 64, last_four="0000", created_at_ms=0),)
WRONG = replace(credential_of(KEY), digests=("0" * 64,))
ABSENT = credential_of(STRANGER)


def costing(expected: int, number: int = 1) -> Call:
    """A call that takes so many of its tokens a minute."""
    return call(number, estimate=Estimate(prompt_max=1, prompt_expected=expected, output_max=0))


async def admit(bench: Bench, one: Call, objection: str = "") -> Any:
    return await bench.limiter.admit(one, objection, DETAIL)


@pytest.mark.parametrize("changes", [{"enabled": False}, {"expires_at_ms": AT_US // 1_000}, {"secrets": OTHER}])
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
    stranger = call(credential=ABSENT)
    assert type(await refused(admit(bench, stranger))) is KeysNotLoaded
    await bench.publish(PLENTY)
    assert type(await refused(admit(bench, stranger))) is REFUSALS["unknown"]


async def test_admitting_twice_with_one_id_is_admitting_once(bench: Bench) -> None:
    limits = replace(PLENTY, tokens_per_min=200, concurrency=1, monthly_token_limit=500)
    await bench.publish(limits, NOTHING_SPENT, metered=True, granted_micro=MICRO)
    first = await admit(bench, call(1))
    state = bench.everything()
    assert await admit(bench, call(1)) == first
    assert await admit(bench, call(1), "no_backend") == first
    assert bench.everything() == state
    bench.tick(SECOND_US)
    again = await admit(bench, call(1))
    assert (again.at_ms, again.output_tokens_max) == (first.at_ms, first.output_tokens_max)


async def test_the_output_is_cut_to_what_is_left_of_the_month(bench: Bench) -> None:
    await bench.publish(replace(PLENTY, monthly_token_limit=150))
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
    await bench.publish(replace(PLENTY, rate_limit_per_min=20, tokens_per_min=6_000))
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
    assert (await bench.inspector.inspect(credential_of(KEY), SOURCE)).month == month
    bench.tick(1)
    assert (await bench.inspector.inspect(credential_of(KEY), SOURCE)).month == following


async def test_every_day_of_a_century_has_its_month(bench: Bench) -> None:
    await bench.publish(PLENTY)
    first = datetime(1999, 12, 31, 12, tzinfo=UTC)
    for day in (first + timedelta(days=17 * number) for number in range(2_200)):
        bench.set_clock(unix_us(day))
        assert (await bench.inspector.inspect(credential_of(KEY), SOURCE)).month == f"{day:%Y%m}"


async def test_a_new_month_is_a_new_allowance(bench: Bench) -> None:
    bench.set_clock(unix_us(MONTHS[0][0]))
    await bench.publish(replace(PLENTY, monthly_token_limit=120), Spent(month="202611", tokens=100))
    assert type(await refused(admit(bench, call(1)))) is REFUSALS["month"]
    bench.tick(1)
    await admit(bench, call(1))
    statement = await bench.inspector.inspect(credential_of(KEY), SOURCE)
    assert (statement.month, statement.key.tokens_spent, statement.key.tokens_held) == ("202612", 0, 120)


async def test_a_look_changes_nothing_and_sees_what_is_held(bench: Bench) -> None:
    limits = replace(PLENTY, tokens_per_min=900, concurrency=4, monthly_token_limit=500)
    spent = Spent(month="202611", tokens=40, credits_micro=MICRO)
    await bench.publish(limits, spent, metered=True, granted_micro=3 * MICRO)
    await admit(bench, call(1))
    state = bench.everything()
    seen = (await bench.inspector.inspect(credential_of(KEY), SOURCE)).key
    assert bench.everything() == state
    assert (seen.tokens_spent, seen.tokens_held, seen.monthly_tokens) == (40, 120, 500)
    assert (seen.granted_micro, seen.charged_micro, seen.credit_held_micro) == (3 * MICRO, MICRO, MICRO)
    assert (seen.concurrency, seen.running) == (4, 1)


async def test_a_look_without_the_key_is_refused_like_a_call(bench: Bench) -> None:
    assert type(await refused(bench.inspector.inspect(credential_of(KEY), SOURCE))) is KeysNotLoaded
    await bench.publish(PLENTY)
    assert type(await refused(bench.inspector.inspect(WRONG, SOURCE))) is REFUSALS["unknown"]
    assert type(await refused(bench.inspector.inspect(ABSENT, SOURCE))) is REFUSALS["unknown"]
