"""Limits in shadow: what would have been refused is counted by its reason, nobody is, and nobody else notices."""

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.call import Bill
from gateway.core.limits import Limits
from gateway.core.pricing import MICRO
from gateway.core.record import Spent, Team
from gateway.core.usage import Detail
from gateway.state.limiter import REFUSALS, RedisLimiter
from tests.fakes import KEY, Bench, call, credential_of, refused
from tests.integration.refusals import MONTH, REFUSED, TEAM, Refused

LIMITS = {"too_large", "credits", "held", "month", "concurrency", "requests", "tokens"}
"""what a shadow keeps quiet about; a key that is unknown stays so"""
OF_LIMITS = {name: way for name, way in REFUSED.items() if way.reason in LIMITS}
OF_OTHERS = {name: way for name, way in REFUSED.items() if way.reason not in LIMITS}
BILL = Bill(prompt_tokens=3, completion_tokens=4, paid=True, estimated=False, whole=True, detail=Detail())


async def counted(bench: Bench) -> dict[str, int]:
    """Refusals that were none, of the key and of its team."""
    told = await bench.inspector.statement(credential_of(KEY).key_id)
    return told.key.shadow | (told.team.shadow if told.team else {})


@pytest.mark.parametrize("way", OF_LIMITS.values(), ids=OF_LIMITS)
async def test_whoever_is_in_shadow_refuses_nobody_and_counts(bench: Bench, way: Refused) -> None:
    shadow: dict[str, Any] = {"shadow": True}
    way = replace(way, team_is=way.team_is | shadow) if way.whose == "team" else replace(way, key=way.key | shadow)
    await way.prepare(bench)
    admitted = await bench.limiter.admit(call(1, **way.call), "", b"{}")
    assert admitted.shadow == way.reason
    assert (await counted(bench))[way.reason] == 1


@pytest.mark.parametrize("way", OF_LIMITS.values(), ids=OF_LIMITS)
async def test_a_gateway_in_shadow_refuses_nobody_whatever_the_keys_say(bench: Bench, way: Refused) -> None:
    await way.prepare(bench)
    limiter = RedisLimiter(bench.functions, 1, shadow=True)
    assert (await limiter.admit(call(1, **way.call), "", b"{}")).shadow == way.reason
    assert (await counted(bench))[way.reason] == 1


@pytest.mark.parametrize("way", OF_OTHERS.values(), ids=OF_OTHERS)
async def test_what_is_no_limit_is_refused_in_shadow_too(bench: Bench, way: Refused) -> None:
    await way.prepare(bench)
    limiter = RedisLimiter(bench.functions, 1, shadow=True, stream_bytes_max=way.stream_bytes_max)
    before = bench.everything()
    error = await refused(limiter.admit(call(1, **way.call), way.objection, b"{}"))
    assert type(error) is REFUSALS[way.reason]
    assert bench.everything() == before


async def test_a_balance_in_shadow_never_goes_below_zero(bench: Bench) -> None:
    await bench.publish(Limits(), Spent(month=MONTH), shadow=True, metered=True, granted_micro=3 * MICRO // 2)
    for number in range(4):
        assert (await bench.limiter.admit(call(number), "", b"{}")).output_tokens_max == 100
    for number in range(4):
        await bench.limiter.settle(call(number), BILL)
    told = (await bench.inspector.statement(credential_of(KEY).key_id)).key
    assert (told.charged_micro, told.credit_held_micro) == (3 * MICRO // 2, 0)
    assert sum(told.shadow.values()) == 3


async def test_a_team_in_shadow_does_not_hide_the_keys_own_limit(bench: Bench) -> None:
    team = Team(id=TEAM, limits=Limits(rate_limit_per_min=1), shadow=True)
    await bench.directory.publish_team(team, Spent(month=MONTH))
    await bench.publish(Limits(rate_limit_per_min=2), team_id=TEAM)
    assert [(await bench.limiter.admit(call(n), "", b"{}")).shadow for n in (1, 2)] == ["", "requests"]
    before = bench.everything()
    assert type(await refused(bench.limiter.admit(call(3), "", b"{}"))) is REFUSALS["requests"]
    assert bench.everything() == before


async def test_of_two_shadows_the_teams_is_told(bench: Bench) -> None:
    team = Team(id=TEAM, limits=Limits(concurrency=1), shadow=True)
    await bench.directory.publish_team(team, Spent(month=MONTH))
    await bench.publish(Limits(rate_limit_per_min=1), team_id=TEAM, shadow=True)
    assert [(await bench.limiter.admit(call(n), "", b"{}")).shadow for n in (1, 2)] == ["", "concurrency"]
    told = await bench.inspector.statement(credential_of(KEY).key_id)
    assert told.team and (told.key.shadow, told.team.shadow) == ({"requests": 1}, {"concurrency": 1})


async def test_out_of_the_shadow_nobody_waits_longer_than_for_a_full_bucket(bench: Bench) -> None:
    await bench.publish(Limits(rate_limit_per_min=6), shadow=True)
    for number in range(100):
        await bench.limiter.admit(call(number), "", b"{}")
    await bench.publish(Limits(rate_limit_per_min=6))
    error = await refused(bench.limiter.admit(call(100), "", b"{}"))
    assert error.retry_after_s == 70
