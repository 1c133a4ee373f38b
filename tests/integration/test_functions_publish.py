"""What Redis is told of keys, teams and prices: newer words only, figures only where it has none, all at once."""

from typing import Any

from gateway.core.call import Bill
from gateway.core.limits import Limits
from gateway.core.pricing import ANY, MICRO, Price, PriceList
from gateway.core.record import Spent, Team
from gateway.core.usage import Detail
from gateway.errors import KeysNotLoaded, MonthlyTokensExhausted
from tests.fakes import KEY, Bench, call, credential_of, record, refused
from tests.integration.refusals import TEAM

LIMITS = Limits(rate_limit_per_min=60, tokens_per_min=600, concurrency=9, monthly_token_limit=10_000)
ACCOUNT = f"{{s00}}:account:{credential_of(KEY).key_id}"
BILL = Bill(prompt_tokens=12, completion_tokens=34, paid=True, estimated=False, whole=True, detail=Detail())


def credits(granted_micro: int) -> dict[str, Any]:
    return {"metered": True, "granted_micro": granted_micro}


async def one_call(bench: Bench, number: int = 1) -> None:
    await bench.limiter.admit(call(number), "", b"{}")
    await bench.limiter.settle(call(number), BILL)


async def test_an_older_version_never_replaces_what_is_there(bench: Bench) -> None:
    for _ in range(3):
        await bench.publish(LIMITS)
    state = bench.everything()
    for version in (bench.version - 1, 0):
        await bench.directory.publish(record(Limits(rate_limit_per_min=1), version=version), None)
    assert bench.everything() == state


async def test_the_same_version_with_other_defaults_does(bench: Bench) -> None:
    await bench.publish(LIMITS)
    await bench.directory.publish(record(Limits(rate_limit_per_min=1), version=bench.version), None)
    assert bench.hash("key")["rpm"] == "1"


async def test_without_figures_nobody_is_let_in_metered_or_not(bench: Bench) -> None:
    """A change that is published into an emptied Redis, before the hydration: the month is not known yet."""
    await bench.publish(LIMITS)
    bench.redis.delete(ACCOUNT)
    bench.version += 1
    await bench.directory.publish(record(LIMITS, version=bench.version), None)
    assert isinstance(await refused(bench.limiter.admit(call(1), "", b"{}")), KeysNotLoaded)
    assert isinstance(await refused(bench.inspector.statement(credential_of(KEY).key_id)), KeysNotLoaded)
    await bench.publish(LIMITS, Spent(month="202611", tokens=9_980))
    assert isinstance(await refused(bench.limiter.admit(call(1), "", b"{}")), MonthlyTokensExhausted)


async def test_a_newer_version_replaces_the_whole_record(bench: Bench) -> None:
    await bench.publish(LIMITS)
    await bench.publish(Limits(rate_limit_per_min=1), enabled=False)
    found = bench.hash("key")
    assert (found["rpm"], found["tpm"], found["concurrency"], found["enabled"]) == ("1", "", "", "0")
    assert found["version"] == str(bench.version)


async def test_spent_and_charged_are_taken_only_where_redis_has_none(bench: Bench) -> None:
    await bench.publish(LIMITS, Spent(month="202611", tokens=100), **credits(5 * MICRO))
    await one_call(bench)
    told = Spent(month="202611", tokens=7, credits_micro=3 * MICRO)
    await bench.publish(LIMITS, told, **credits(5 * MICRO))
    account = bench.hash("account")
    assert (account["spent:202611"], account["charged"]) == ("146", str(MICRO))
    bench.redis.delete(ACCOUNT)
    await bench.publish(LIMITS, told, **credits(5 * MICRO))
    assert bench.hash("account") == {"spent:202611": "7", "charged": str(3 * MICRO)}


async def test_the_largest_figures_are_kept_to_the_last_digit(bench: Bench) -> None:
    most = 2**53 - 1
    await bench.publish(LIMITS, Spent(month="202611", tokens=most, credits_micro=most), **credits(most))
    assert bench.hash("account") == {"spent:202611": str(most), "charged": str(most)}


async def test_figures_are_restored_even_where_the_record_is_there(bench: Bench) -> None:
    await bench.publish(LIMITS, Spent(month="202611", tokens=100))
    bench.redis.delete(ACCOUNT)
    bench.version -= 1
    await bench.publish(LIMITS, Spent(month="202611", tokens=7))
    assert bench.hash("account") == {"charged": "0", "spent:202611": "7"}


async def test_a_grant_is_a_version_with_more_granted_and_what_was_charged_stays(bench: Bench) -> None:
    await bench.publish(LIMITS, Spent(month="202611"), **credits(MICRO))
    await one_call(bench)
    for granted in (3 * MICRO, 7 * MICRO):
        await bench.publish(LIMITS, Spent(month="202611"), **credits(granted))
        seen = (await bench.inspector.statement(credential_of(KEY).key_id)).key
        assert (seen.granted_micro, seen.charged_micro) == (granted, MICRO)
    late = record(LIMITS, version=bench.version - 1, **credits(3 * MICRO))
    await bench.directory.publish(late, None)
    assert bench.hash("key")["granted"] == str(7 * MICRO), "grants that arrive out of order end at the newest"


async def test_a_team_is_told_as_a_key_is(bench: Bench) -> None:
    team = Team(id=TEAM, version=5, limits=LIMITS, metered=True, granted_micro=9 * MICRO)
    await bench.directory.publish_team(team, Spent(month="202611", tokens=3, credits_micro=MICRO))
    older = Team(id=TEAM, version=4, limits=Limits(), metered=False)
    await bench.directory.publish_team(older, Spent(month="202611", tokens=8, credits_micro=2 * MICRO))
    assert bench.hash("team-account", TEAM) == {"spent:202611": "3", "charged": str(MICRO)}
    found = bench.hash("team", TEAM)
    assert (found["rpm"], found["granted"], found["metered"], found["version"]) == ("60", str(9 * MICRO), "1", "5")


async def test_an_older_price_list_never_replaces_a_newer_one(bench: Bench) -> None:
    def prices(version: int, *models: str) -> PriceList:
        return PriceList(version, tuple(Price(model=one, valid_from_ms=0, per_request_micro=version) for one in models))

    await bench.directory.publish_prices(prices(5, ANY, "a:1"))
    await bench.directory.publish_prices(prices(4, ANY, "a:1", "b:1"))
    await bench.directory.publish_prices(prices(5, ANY))
    found = bench.redis.hgetall("{s00}:prices")
    assert found == {b"version": b"5", b"*": b"0:5:0:0;", b"a:1": b"0:5:0:0;"}
    await bench.directory.publish_prices(prices(6, ANY))
    assert bench.redis.hgetall("{s00}:prices") == {b"version": b"6", b"*": b"0:6:0:0;"}, "what is not said is gone"
