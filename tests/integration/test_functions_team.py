"""A key in a team: both are asked and both are charged, whoever the replica thinks the team is."""

import pytest
from msgspec.structs import replace

from gateway.core.call import Bill
from gateway.core.keys import shard_of
from gateway.core.limits import Limits
from gateway.core.pricing import MICRO
from gateway.core.record import Spent, Team
from gateway.core.usage import Detail
from gateway.errors import KeysNotLoaded, RequestsLimited, TeamElsewhere
from gateway.state.inspector import RedisInspector
from gateway.state.limiter import LEASE_MS, TEAM_WORDS, RedisLimiter
from tests.fakes import KEY, STRANGER, Bench, call, credential_of, refused

ONE, OTHER = "0000000000", "TEAM000002"
NOTHING = Spent(month="202611")
BILL = Bill(prompt_tokens=3, completion_tokens=4, paid=True, estimated=False, whole=True, detail=Detail())


async def publish_team(bench: Bench, team_id: str = ONE, **changes: object) -> None:
    bench.version += 1
    team = Team(id=team_id, version=bench.version, metered=True, granted_micro=9 * MICRO)
    await bench.directory.publish_team(replace(team, **changes), NOTHING)


def spent(bench: Bench, team_id: str) -> tuple[str | None, str | None]:
    account = bench.hash("team-account", team_id)
    return account.get("spent:202611"), account.get("charged")


async def test_keys_of_a_team_share_its_limits(bench: Bench) -> None:
    await publish_team(bench, limits=Limits(rate_limit_per_min=2))
    for key in (KEY, STRANGER):
        await bench.publish(Limits(rate_limit_per_min=60), key=key, team_id=ONE)
    await bench.limiter.admit(call(1), "", b"{}")
    await bench.limiter.admit(call(2, credential=credential_of(STRANGER)), "", b"{}")
    error = await refused(bench.limiter.admit(call(3), "", b"{}"))
    assert (type(error), error.retry_after_s, TEAM_WORDS in error.message) == (RequestsLimited, 30, True)


async def test_both_are_charged_each_from_its_own_balance(bench: Bench) -> None:
    await publish_team(bench)
    await bench.publish(Limits(), NOTHING, team_id=ONE, metered=True, granted_micro=5 * MICRO, multiplier_milli=2_000)
    await bench.limiter.admit(call(1), "", b"{}")
    assert bench.hash("team-account", ONE)["credit_held"] == bench.hash("account")["credit_held"] == str(2 * MICRO)
    await bench.limiter.settle(call(1), BILL)
    assert spent(bench, ONE) == ("7", str(2 * MICRO))
    assert bench.hash("account")["charged"] == str(2 * MICRO)
    (event,) = bench.events()
    assert (event["team"], event["credits"], event["team_credits"]) == (ONE, str(2 * MICRO), str(2 * MICRO))


async def test_a_call_is_settled_with_the_team_of_its_admission(bench: Bench) -> None:
    await publish_team(bench, ONE)
    await publish_team(bench, OTHER)
    await bench.publish(Limits(), NOTHING, team_id=ONE)
    await bench.limiter.admit(call(1), "", b"{}")
    await bench.publish(Limits(), NOTHING, team_id=OTHER)
    await bench.limiter.admit(call(2), "", b"{}")
    assert await bench.limiter.renew(call(1), 1, 1) is None
    assert await bench.limiter.settle(call(1), BILL)
    assert await bench.limiter.settle(call(2), BILL)
    await bench.publish(Limits(), NOTHING)
    await bench.limiter.admit(call(3), "", b"{}")
    assert await bench.limiter.settle(call(3), BILL)
    assert spent(bench, ONE) == spent(bench, OTHER) == ("7", str(MICRO))
    assert [event["team"] for event in bench.events()] == [ONE, OTHER, ""]
    for team in (ONE, OTHER):
        assert bench.hash("team-account", team)["credit_held"] == "0"
        assert bench.redis.zcard(f"{{s00}}:team-running:{team}") == 0


@pytest.mark.parametrize("end", ["void", "reap"])
async def test_the_other_ends_find_the_team_of_the_admission_too(bench: Bench, end: str) -> None:
    await publish_team(bench, ONE, limits=Limits(rate_limit_per_min=60))
    await bench.publish(Limits(), NOTHING, team_id=ONE)
    await bench.limiter.admit(call(1), "", b"{}")
    await bench.publish(Limits(), NOTHING)
    if end == "void":
        await bench.limiter.void(call(1))
    else:
        bench.tick(LEASE_MS * 1_000)
        assert await bench.limiter.reap(0, credential_of(KEY).key_id, call(1).id, 0)
    assert bench.hash("team-account", ONE)["credit_held"] == "0"
    assert bench.redis.zcard(f"{{s00}}:team-running:{ONE}") == 0


async def test_a_replica_that_knows_another_team_asks_again_and_remembers(bench: Bench) -> None:
    """Each of two replicas has its own guess; neither refuses for it, and a right guess is one command."""
    await publish_team(bench, ONE)
    await bench.publish(Limits(), NOTHING, team_id=ONE)
    stale, fresh = RedisLimiter(bench.functions, 1), RedisLimiter(bench.functions, 1)
    await stale.admit(call(1), "", b"{}")
    await bench.publish(Limits(), NOTHING)
    commands = bench.redis.info("commandstats")["cmdstat_fcall"]["calls"]
    await fresh.admit(call(2), "", b"{}")
    await stale.admit(call(3), "", b"{}")
    await stale.admit(call(4), "", b"{}")
    assert bench.redis.info("commandstats")["cmdstat_fcall"]["calls"] - commands == 1 + 2 + 1


async def test_a_team_that_redis_does_not_have_is_no_verdict(bench: Bench) -> None:
    await bench.publish(Limits(), NOTHING, team_id=ONE)
    assert type(await refused(bench.limiter.admit(call(1), "", b"{}"))) is KeysNotLoaded


async def test_a_team_in_another_shard_is_no_verdict_and_nothing_is_written(bench: Bench) -> None:
    """SHARDS was raised since the key joined it: then Redis Cluster could not ask both at once."""
    shards = 2
    assert shard_of(credential_of(KEY).key_id, shards) == 0
    far = next(team for team in map("team{:06d}".format, range(99)) if shard_of(team, shards) == 1)
    await publish_team(bench, far)
    await bench.publish(Limits(), NOTHING, team_id=far)
    before = bench.everything()
    limiter = RedisLimiter(bench.functions, shards)
    assert type(await refused(limiter.admit(call(1), "", b"{}"))) is TeamElsewhere
    inspector = RedisInspector(bench.functions, shards, bench.failures)
    assert type(await refused(inspector.statement(credential_of(KEY).key_id))) is TeamElsewhere
    assert bench.everything() == before
