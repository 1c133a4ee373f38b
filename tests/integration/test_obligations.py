"""The proof obligations of the reference (reliability section 5.7), one test each, on a clock that the test moves.

What is random here has the run's seed. The same obligations hold the functions in bulk elsewhere: conservation and the
bound over a million admissions (test_functions_million.py), no phantom over a hundred thousand refusals
(test_functions_refusals.py), idempotence over a hundred thousand pairs (test_functions_pairs.py), all of them step by
step against a model (test_functions_machine.py).
"""

import re
from random import Random
from typing import Any

import pytest

from gateway.core.call import Bill
from gateway.core.limits import Estimate, Limits
from gateway.core.record import Spent, Team
from gateway.core.usage import Detail
from gateway.errors import ConcurrencyLimited, GatewayError, LimitsUnavailable, RequestsLimited, TokensLimited
from gateway.state.functions import source
from gateway.state.limiter import LEASE_MS
from tests.buckets import Kept, kept, per_minute
from tests.fakes import AT_US, TIME_LINE, Bench, call, clocked, refused
from tests.integration.refusals import KEY_ID, REFUSED, TEAM
from tests.ledger import Entry, balance, overshoot

SECOND_US = 1_000_000
BILL = Bill(prompt_tokens=3, completion_tokens=4, paid=True, estimated=False, whole=True, detail=Detail())
each_rate = pytest.mark.parametrize("limit", [1, 7, 60, 999, 1_000_000, 99_999_999])


async def ask(bench: Bench, number: int, cost: int = 1) -> Any:
    """A call that takes so many of the tokens a minute."""
    return await bench.limiter.admit(call(number, estimate=Estimate(1, cost, 0)), "", b"{}")


async def asked(bench: Bench, number: int, cost: int = 1) -> bool:
    """Whether it was let in."""
    try:
        await ask(bench, number, cost)
    except (TokensLimited, RequestsLimited):
        return False
    return True


def tokens(bench: Bench) -> Kept:
    return kept(bench.hash("buckets")["tokens"])


async def some_admissions(bench: Bench, limit: int, chance: Random, count: int) -> list[Entry]:
    """What was let in, with times and levels."""
    await bench.publish(Limits(tokens_per_min=limit))
    entries = []
    for number in range(count):
        bench.tick(chance.choice([0, 1, 999, SECOND_US, 20 * SECOND_US]))
        cost = chance.randint(1, min(limit, chance.choice([1, 10, limit])))
        if await asked(bench, number, cost):
            level = tokens(bench)
            entries.append(Entry(cost, level.at_us, level.level))
    return entries


@each_rate
async def test_obligation_conservation(bench: Bench, limit: int, seed: str) -> None:
    """Taken + left = there before + gained, less what was cut off at full: exactly."""
    entries, rate = await some_admissions(bench, limit, Random(seed), 200), per_minute(limit)
    found = balance(rate, Kept(rate.full, AT_US, rate.den), tokens(bench), entries, len(entries))
    assert found.error == 0
    assert found.taken > 0


@each_rate
async def test_obligation_bound(bench: Bench, limit: int, seed: str) -> None:
    """In any stretch of time no more is let in than a full bucket and what it gains meanwhile."""
    entries = await some_admissions(bench, limit, Random(seed), 200)
    assert overshoot(per_minute(limit), entries) <= 0


@each_rate
async def test_obligation_monotone(bench: Bench, limit: int, seed: str) -> None:
    """What is let in would be with more tokens there, or later, or if it took less."""
    chance = Random(seed)
    rate, number = per_minute(limit), 0
    for _ in range(40):
        level, cost, later = chance.randint(0, rate.full), chance.randint(1, limit), chance.randint(0, 90 * SECOND_US)
        easier = [(level, cost, later), (min(rate.full, level + rate.den), cost, 0), (level, max(1, cost - 1), 0)]
        answers = []
        for there, wanted, after_us in [(level, cost, 0), *easier]:
            bench.redis.flushdb()
            bench.set_clock(AT_US)
            await bench.publish(Limits(tokens_per_min=limit))
            bench.redis.hset(f"{{s00}}:buckets:{KEY_ID}", "tokens", f"{there}:{AT_US}:{rate.den}")
            bench.tick(after_us)
            number += 1
            answers.append(await asked(bench, number, wanted))
        assert not answers[0] or all(answers)


@each_rate
async def test_obligation_liveness(bench: Bench, limit: int, seed: str) -> None:
    """Refused with a wait, and alone, it is let in after the wait, and not a microsecond before the exact one."""
    chance = Random(seed)
    await bench.publish(Limits(tokens_per_min=limit))
    rate = per_minute(limit)
    assert await asked(bench, 0, limit)
    for number in range(1, 21):
        cost = chance.randint(1, limit)
        bucket = tokens(bench)
        short = max(0, cost * rate.den - (bucket.level + (bench.now_us - bucket.at_us) * rate.num))
        exact_us = -(-short // rate.num)
        if exact_us:
            error = await refused(ask(bench, number, cost))
            assert error.retry_after_s == -(-exact_us // SECOND_US)
            bench.tick(exact_us - 1)
            assert not await asked(bench, number, cost)
            bench.tick(1)
        assert await asked(bench, number, cost)


@pytest.mark.parametrize("way", REFUSED.values(), ids=REFUSED)
async def test_obligation_no_phantom(bench: Bench, way: Any) -> None:
    """A refusal, for whatever reason, leaves every key byte-identical."""
    await way.prepare(bench)
    before = bench.everything()
    await refused(bench.limiter.admit(call(1, **way.call), way.objection, b"{}"))
    assert bench.everything() == before


async def test_obligation_idempotence(bench: Bench) -> None:
    """Reserving twice is once, settling twice is once, settling first is nothing, cancelling what is settled too."""
    await bench.publish(Limits(rate_limit_per_min=60, tokens_per_min=600), Spent(month="202611"), metered=True)
    await bench.publish(Limits(rate_limit_per_min=60, tokens_per_min=600), metered=True, granted_micro=10**9)
    nothing = bench.everything()
    assert not await bench.limiter.settle(call(1), BILL)
    assert bench.everything() == nothing

    first = await ask(bench, 1, 50)
    reserved = bench.everything()
    assert await ask(bench, 1, 50) == first
    assert bench.everything() == reserved

    assert await bench.limiter.settle(call(1), BILL)
    settled = bench.everything()
    assert not await bench.limiter.settle(call(1), BILL)
    await bench.limiter.void(call(1))
    assert await bench.limiter.renew(call(1), 9, 9)
    assert not await bench.limiter.reap(0, KEY_ID, call(1).id, 0)
    assert type(await refused(ask(bench, 1, 50))) is LimitsUnavailable
    assert bench.everything() == settled


async def test_obligation_leases(bench: Bench, seed: str) -> None:
    """Never more leases at once than may run, of the key or of its team; none when all is quiet."""
    chance = Random(seed)
    most, of_team = 3, 2
    await bench.directory.publish_team(Team(id=TEAM, limits=Limits(concurrency=of_team)), Spent(month="202611"))
    await bench.publish(Limits(concurrency=most))
    held, peak = 0, 0
    for number in range(300):
        if number == 150:
            await bench.publish(Limits(concurrency=most), team_id=TEAM)
        bench.tick(chance.randint(0, LEASE_MS * 1_000 // 2))
        try:
            await ask(bench, number)
            if chance.random() < 0.7:
                await bench.limiter.settle(call(number), BILL)
        except ConcurrencyLimited:
            held += 1
        now_ms = bench.now_us // 1_000
        alive = bench.redis.zcount(f"{{s00}}:running:{KEY_ID}", f"({now_ms}", "+inf")
        assert alive <= most
        assert bench.redis.zcount(f"{{s00}}:team-running:{TEAM}", f"({now_ms}", "+inf") <= of_team
        peak = max(peak, alive)
    assert (peak, held > 0) == (most, True)
    bench.tick(LEASE_MS * 1_000)
    for number in range(300):
        await bench.limiter.reap(0, KEY_ID, call(number).id, 0)
    assert bench.redis.zcard(f"{{s00}}:running:{KEY_ID}") == bench.redis.zcard("{s00}:leases") == 0
    assert bench.redis.zcard(f"{{s00}}:team-running:{TEAM}") == 0


@each_rate
async def test_obligation_split_is_joint(bench: Bench, limit: int, seed: str) -> None:
    """Refilling a little at a time, with writes of nothing in between, is refilling at once."""
    chance = Random(seed)
    await bench.publish(Limits(tokens_per_min=limit))
    rate, stops = per_minute(limit), sorted(chance.randint(1, 50 * SECOND_US) for _ in range(20))
    levels = []
    for moments in (stops, stops[-1:]):
        bench.redis.delete(f"{{s00}}:buckets:{KEY_ID}")
        bench.set_clock(AT_US)
        first = len(levels) * 100
        await ask(bench, first, limit)
        for number, at_us in enumerate(moments, first + 1):
            bench.set_clock(AT_US + at_us)
            await bench.limiter.admit(call(number, estimate=Estimate(0, 0, 0)), "", b"{}")
        levels.append(tokens(bench))
    assert levels[0] == levels[1] == Kept(min(rate.full, stops[-1] * rate.num), AT_US + stops[-1], rate.den)


def test_obligation_one_clock() -> None:
    """The shipped library goes by Redis' TIME, which stands in it once; the tests' clock replaces that line alone."""
    text = source()
    assert text.count(TIME_LINE) == 1
    shipped, ours = text.splitlines(), clocked(text).splitlines()
    assert len([1 for one, other in zip(shipped, ours, strict=True) if one != other]) == 1
    for word in ("os.time", "os.clock", "os.date"):
        assert word not in text
    assert not re.search(r"(now|at|time|clock)\s*=\s*[^\n]*ARGV", text)


async def test_what_is_no_limit_is_no_refusal(bench: Bench) -> None:
    """Or the obligations above would hold of a limiter that refuses everybody."""
    await bench.publish(Limits())
    for number in range(200):
        try:
            await ask(bench, number, 10**6)
        except GatewayError as error:
            raise AssertionError from error
