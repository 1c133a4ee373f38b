"""Hydration and reaping, against the real functions in Redis and the real rows in Postgres."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from gateway.admin import cursor
from gateway.admin.credits import Grant
from gateway.admin.postgres import open_pool
from gateway.admin.prices import NewPrice
from gateway.admin.publisher import Publisher
from gateway.core.fleet import Alias, Node, Registry
from gateway.core.keys import shard_of
from gateway.core.limits import Limits
from gateway.core.pricing import PriceList
from gateway.core.record import ApiKey, KeyRecord, Spent
from gateway.errors import LimitsUnavailable, Unavailable
from gateway.state import keyspace
from gateway.state.directory import KeyDirectory
from gateway.state.functions import Functions, fleet_source
from gateway.state.pipe import Pipe
from gateway.state.registry import RegistryDirectory
from gateway.telemetry.logs import Log
from gateway.telemetry.worker import WorkerMetrics
from tests.integration.admin_objects import BY, Stores, beside, record, secret, team
from tests.integration.usage_events import event
from workers import changes, hydrate, reaper
from workers.clock import RedisClock, month_of
from workers.hydrate import Hydrator
from workers.reaper import LEASE_GRACE_MS, Reaper
from workers.store import UsageStore

SHARDS = 4
HOUR_MS = 3_600_000


class Fleet:
    """Redis as replicas see it, Postgres as the admin API does, and hydrators between them."""

    def __init__(self, pipe: Pipe, stores: Stores) -> None:
        self.pipe = pipe
        self.stores = stores
        self.directory = KeyDirectory(pipe, Functions(pipe), SHARDS)
        self.clock = RedisClock(pipe)
        self.registry = RegistryDirectory(Functions(pipe, fleet_source()))
        self.publisher = Publisher(
            keys=stores.keys,
            teams=stores.teams,
            prices=stores.prices,
            backends=stores.backends,
            directory=self.directory,
            fleet=self.registry,
        )
        self.out = io.StringIO()
        self.log = Log(lambda: 0.0, self.out)

    def hydrator(self, **parts: Any) -> Hydrator:
        stores = self.stores
        usual = {"keys": stores.keys, "teams": stores.teams, "prices": stores.prices, "backends": stores.backends}
        usual |= {"directory": self.directory, "fleet": self.registry, "clock": self.clock}
        return Hydrator(**(usual | parts), shards=SHARDS, log=self.log)

    async def make(self, key: ApiKey, opening_micro: int | None = None) -> ApiKey:
        return (await self.stores.keys.create(BY, key, opening_micro)).what

    async def known(self, key_id: str) -> dict[bytes, bytes]:
        return dict(await self.pipe.call("HGETALL", keyspace.KeyNames(key_id, SHARDS).key))

    async def account(self, key_id: str) -> dict[bytes, bytes]:
        return dict(await self.pipe.call("HGETALL", keyspace.KeyNames(key_id, SHARDS).account))

    async def known_team(self, team_id: str) -> dict[bytes, bytes]:
        return dict(await self.pipe.call("HGETALL", keyspace.TeamNames(team_id, SHARDS).team))

    async def team_account(self, team_id: str) -> dict[bytes, bytes]:
        return dict(await self.pipe.call("HGETALL", keyspace.TeamNames(team_id, SHARDS).account))

    async def prices(self, shard: int) -> dict[bytes, bytes]:
        return dict(await self.pipe.call("HGETALL", keyspace.prices(shard)))

    async def told_fleet(self) -> Registry | None:
        """The fleet as replicas read it."""
        document = await self.pipe.call("HGET", keyspace.fleet()[0], "document")
        return msgspec.json.decode(document, type=Registry) if document else None

    async def everything(self) -> dict[bytes, dict[bytes, bytes]]:
        """Every record and account, by name."""
        names = [name for name in await self.pipe.call("KEYS", "*") if b":ready" not in name]
        return {name: dict(await self.pipe.call("HGETALL", name)) for name in sorted(names)}

    async def ready(self) -> list[bool]:
        return [await self.directory.is_ready(shard) for shard in range(SHARDS)]


class Between:
    """The directory, with a word of a test's own before a key is published."""

    def __init__(self, fleet: Fleet, before: Callable[[KeyRecord], Any]) -> None:
        self._fleet = fleet
        self._before = before
        self.is_ready = fleet.directory.is_ready
        self.incarnation = fleet.directory.incarnation
        self.begin = fleet.directory.begin
        self.mark_ready = fleet.directory.mark_ready
        self.publish_team = fleet.directory.publish_team
        self.publish_prices = fleet.directory.publish_prices

    async def publish(self, record: KeyRecord, spent: Spent | None) -> None:
        await self._before(record)
        await self._fleet.directory.publish(record, spent)


@pytest.fixture
async def fleet(redis_url: str, migrated_url: str) -> AsyncIterator[Fleet]:
    pipe, postgres = Pipe(redis_url, 5_000), await open_pool(migrated_url)
    pipe.start()
    yield Fleet(pipe, Stores(postgres))
    await pipe.close()
    await postgres.close()


async def test_an_empty_redis_gets_every_key_before_it_is_ready(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursor, "PAGE_ROWS", 7)
    monkeypatch.setattr(changes, "PUBLISHED_AT_ONCE_MAX", 3)
    for number in range(30):
        await fleet.make(record(number))
    assert await fleet.hydrator().run_once() >= 30
    assert await fleet.ready() == [True] * SHARDS
    for number in range(30):
        assert secret(number).digest.encode() in (await fleet.known(record(number).id))[b"digests"]


async def test_no_keys_at_all_is_ready_too(fleet: Fleet) -> None:
    assert await fleet.ready() == [False] * SHARDS
    assert await fleet.hydrator().run_once() == 0
    assert await fleet.ready() == [True] * SHARDS
    assert [(await fleet.prices(shard))[b"*"] for shard in range(SHARDS)] == [b"0:1000000:0:0;"] * SHARDS


async def test_what_keys_and_teams_have_spent_comes_back_from_the_rows(fleet: Fleet) -> None:
    month = month_of(await fleet.clock.now_ms())
    owner = (await fleet.stores.teams.create(BY, team(1), 100_000_000)).what
    (spender,) = beside(owner)
    spender = await fleet.make(replace(spender, team_id=owner.id), 100_000_000)
    idle = await fleet.make(record(900_000), 100_000_000)
    spent = {"key_id": spender.id, "team_id": owner.id}
    await UsageStore(fleet.stores.postgres).insert([
        event(1, **spent, month=month, prompt_tokens=100, completion_tokens=11, credits_micro=7, team_credits_micro=3),
        event(2, **spent, month="202001", prompt_tokens=100, credits_micro=1, team_credits_micro=2),
    ])  # fmt: skip
    await fleet.hydrator().run_once()
    account, team_account = await fleet.account(spender.id), await fleet.team_account(owner.id)
    assert (account[b"charged"], team_account[b"charged"]) == (b"8", b"5")
    assert account[f"spent:{month}".encode()] == team_account[f"spent:{month}".encode()] == b"111"
    assert (await fleet.known(spender.id))[b"granted"] == b"100000000"
    assert (await fleet.known(spender.id))[b"team"] == owner.id.encode()
    assert (await fleet.account(idle.id))[b"charged"] == b"0"


async def test_figures_that_redis_has_are_left_alone(fleet: Fleet) -> None:
    key = await fleet.make(record(1), 100_000_000)
    (known,) = await fleet.stores.keys.records([key])
    await fleet.directory.publish(known, Spent(month="202611", tokens=5, credits_micro=60_000_000))
    await fleet.hydrator().run_once()
    assert (await fleet.account(key.id))[b"charged"] == b"60000000"


async def test_after_all_is_lost_everything_comes_back_as_it_was(fleet: Fleet) -> None:
    """Limits, teams, tiers, prices, balances, month counters: byte for byte."""
    stores = fleet.stores
    limits = Limits(rate_limit_per_min=None, burst=3, concurrency=2)
    owner = (await stores.teams.create(BY, team(1, limits=limits), 9_000_000)).what
    (inside,) = beside(owner)
    inside = await fleet.make(replace(inside, team_id=owner.id, tier="basic", models=("qwen*",)), 5_000_000)
    await stores.credits.grant(BY, Grant(id="more", key_id=inside.id, amount_micro=1_000_000))
    await stores.keys.rotate(BY, inside.id, secret(900_001), 3_600)
    await fleet.make(record(900_002, networks=("10.0.0.0/8",), limits=limits, shadow=True))
    await stores.prices.add(BY, NewPrice(model="qwen:latest", per_1k_prompt_micro=7))
    month = month_of(await fleet.clock.now_ms())
    spent = {"key_id": inside.id, "team_id": owner.id, "month": month}
    await UsageStore(stores.postgres).insert([event(1, **spent, credits_micro=5, team_credits_micro=6)])
    hydrator = fleet.hydrator()
    await hydrator.run_once()
    before = await fleet.everything()
    fleet_keys = [name for name in before if name.startswith(keyspace.FLEET_TAG.encode())]
    assert len(before) - len(fleet_keys) == 6 + SHARDS
    assert keyspace.fleet()[0].encode() in fleet_keys
    await fleet.pipe.call("FLUSHALL")
    assert await fleet.ready() == [False] * SHARDS
    await hydrator.run_once()
    assert await fleet.everything() == before
    assert await fleet.ready() == [True] * SHARDS


async def test_a_change_that_never_reached_redis_is_made_good(fleet: Fleet) -> None:
    """The admin API died between Postgres and Redis: while a hydrator runs, and while none did."""
    stores = fleet.stores
    await fleet.make(record(1))
    running = fleet.hydrator()
    await running.run_once()
    await fleet.make(record(2))
    await stores.keys.revoke(BY, record(1).id)
    assert await running.run_once() == 2
    assert (await fleet.known(record(1).id))[b"enabled"] == b"0"
    assert (await fleet.known(record(2).id))[b"enabled"] == b"1"
    assert await running.run_once() == 0  # though still within the overlap
    await stores.keys.revoke(BY, record(2).id)
    assert await fleet.hydrator().run_once() == 2
    assert (await fleet.known(record(2).id))[b"enabled"] == b"0"


async def test_every_kind_of_change_that_never_reached_redis_is_made_good(fleet: Fleet) -> None:
    stores = fleet.stores
    owner = (await stores.teams.create(BY, team(1), None)).what
    key = await fleet.make(record(1, tier="basic"))
    hydrator = fleet.hydrator()
    await hydrator.run_once()

    await stores.credits.grant(BY, Grant(id="g1", key_id=key.id, amount_micro=7))
    assert await hydrator.run_once() == 1
    known = await fleet.known(key.id)
    assert (known[b"granted"], known[b"metered"], known[b"multiplier"]) == (b"7", b"1", b"2000")

    await stores.keys.rotate(BY, key.id, secret(2), 0)
    assert await hydrator.run_once() == 1
    assert (await fleet.known(key.id))[b"digests"] == secret(2).digest.encode() + b":0"

    limits = Limits(concurrency=5)
    await stores.tiers.change(BY, "basic", lambda tier: replace(tier, limits=limits, multiplier_milli=3, weight=4))
    assert await hydrator.run_once() == 1
    known = await fleet.known(key.id)
    assert (known[b"concurrency"], known[b"multiplier"], known[b"rpm"]) == (b"5", b"3", b"20")
    assert known[b"weight"] == b"4"

    await stores.teams.change(BY, owner.id, lambda team: replace(team, limits=Limits(tokens_per_min=9)))
    await stores.credits.grant(BY, Grant(id="g2", team_id=owner.id, amount_micro=8))
    assert await hydrator.run_once() == 1
    known_team = await fleet.known_team(owner.id)
    assert (known_team[b"tpm"], known_team[b"granted"], known_team[b"metered"]) == (b"9", b"8", b"1")

    price = NewPrice(model="m:latest", valid_from_ms=await fleet.clock.now_ms() + HOUR_MS, per_request_micro=4)
    await stores.prices.add(BY, price)
    assert await hydrator.run_once() == 0
    later = f"{price.valid_from_ms}:4:0:0;".encode()
    assert [(await fleet.prices(shard))[b"m:latest"] for shard in range(SHARDS)] == [later] * SHARDS


async def test_prices_are_published_when_they_change_and_after_a_while(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []

    async def counted(prices: PriceList) -> None:
        told.append(prices.version)
        await fleet.directory.publish_prices(prices)

    async def nothing(record: KeyRecord) -> None: ...

    counting = Between(fleet, nothing)
    counting.publish_prices = counted  # type: ignore[method-assign]
    hydrator = fleet.hydrator(directory=counting)
    for _ in range(3):
        await hydrator.run_once()
    assert len(told) == 1
    await fleet.stores.prices.add(BY, NewPrice(model="m:latest"))
    await hydrator.run_once()
    assert len(told) == 2
    monkeypatch.setattr(hydrate, "WHOLE_EVERY_US", 0)
    await hydrator.run_once()
    assert len(told) == 3


async def test_nodes_and_aliases_are_published_when_they_change_and_when_redis_has_lost_them(fleet: Fleet) -> None:
    stores = fleet.stores
    hydrator = fleet.hydrator()
    await hydrator.run_once()
    empty = await fleet.told_fleet()
    assert empty is not None and (empty.nodes, empty.aliases) == ((), ())
    node = (await stores.backends.add(BY, Node(name="n", url="http://n:1", bearer="b", tags=("x",)))).what
    alias = (await stores.aliases.add(BY, Alias(name="fast:latest", targets=("m:latest",), options={"seed": 1}))).what
    assert await fleet.told_fleet() == empty
    await hydrator.run_once()
    told = await fleet.told_fleet()
    assert told == await stores.backends.registry()
    assert told is not None and (told.nodes, told.aliases) == ((node,), (alias,))
    await fleet.pipe.call("FLUSHALL")
    assert await fleet.told_fleet() is None
    await hydrator.run_once()
    assert await fleet.told_fleet() == told


async def test_a_changed_fleet_is_told_at_once_and_never_an_older_one(fleet: Fleet) -> None:
    await fleet.stores.backends.add(BY, Node(name="n", url="http://n:1"))
    old = await fleet.stores.backends.registry()
    await fleet.stores.backends.change(BY, "n", lambda node: replace(node, draining=True), None)
    await fleet.publisher.fleet()
    new = await fleet.told_fleet()
    assert new is not None and new.nodes[0].draining and new.version > old.version
    await fleet.registry.publish(old)
    assert await fleet.told_fleet() == new


async def test_an_older_version_never_replaces_a_newer_one(fleet: Fleet) -> None:
    """The key is revoked between the hydrator's look and its write."""
    await fleet.make(record(1))

    async def revoked_meanwhile(seen: KeyRecord) -> None:
        if seen.key.version == 1:
            await fleet.publisher.key(await fleet.stores.keys.revoke(BY, seen.key.id))

    await fleet.hydrator(directory=Between(fleet, revoked_meanwhile)).run_once()
    assert (await fleet.known(record(1).id))[b"enabled"] == b"0"


async def test_a_key_made_or_revoked_while_all_are_published_is_there_when_redis_is_ready(fleet: Fleet) -> None:
    for number in range(3):
        await fleet.make(record(number))
    done = False
    keys = fleet.stores.keys

    class Meanwhile:
        """Postgres is changed after the hydrator has read it, and the change does not reach Redis."""

        async def spent(self, key_ids: Any, month: str) -> dict[str, Spent]:
            nonlocal done
            if not done:
                done = True
                await fleet.make(record(9))
                await keys.revoke(BY, record(0).id)
            return await keys.spent(key_ids, month)

        changed_since = keys.changed_since
        records = keys.records
        now_us = keys.now_us

    await fleet.hydrator(keys=Meanwhile()).run_once()
    assert await fleet.ready() == [True] * SHARDS
    assert (await fleet.known(record(0).id))[b"enabled"] == b"0"
    assert (await fleet.known(record(9).id))[b"enabled"] == b"1"


async def test_half_a_hydration_is_none(fleet: Fleet) -> None:
    for number in range(5):
        await fleet.make(record(number))
    left = 3

    async def dying(seen: KeyRecord) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise LimitsUnavailable

    hydrator = fleet.hydrator(directory=Between(fleet, dying))
    with pytest.raises(Unavailable):
        await hydrator.run_once()
    assert await fleet.ready() == [False] * SHARDS
    left = 100
    await hydrator.run_once()
    assert await fleet.ready() == [True] * SHARDS
    assert all([await fleet.known(record(number).id) for number in range(5)])


async def test_redis_that_loses_its_data_under_a_hydration_is_not_called_ready(fleet: Fleet) -> None:
    """Or keys that exist would be told they do not."""
    for number in range(5):
        await fleet.make(record(number))
    left = 3

    async def forgetting(seen: KeyRecord) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            await fleet.pipe.call("FLUSHALL")

    hydrator = fleet.hydrator(directory=Between(fleet, forgetting))
    await hydrator.run_once()
    assert await fleet.ready() == [False] * SHARDS
    await hydrator.run_once()
    assert await fleet.ready() == [True] * SHARDS
    assert all([await fleet.known(record(number).id) for number in range(5)])
    assert await fleet.prices(0)
    assert await fleet.pipe.call("TTL", keyspace.ready(0)) == -1


async def test_a_restarted_redis_that_lost_its_last_second_is_told_of_every_key_again(fleet: Fleet) -> None:
    """Its sentinel has survived, so a key it has forgotten would be told that it does not exist."""
    kept, lost = await fleet.make(record(1)), await fleet.make(record(2))
    owner = (await fleet.stores.teams.create(BY, team(1), None)).what
    run = "first"

    async def nothing(seen: KeyRecord) -> None: ...

    async def incarnation() -> str:
        return run

    restarted = Between(fleet, nothing)
    restarted.incarnation = incarnation  # type: ignore[method-assign]
    hydrator = fleet.hydrator(directory=restarted)
    assert await hydrator.run_once() >= 3
    lost_names = [keyspace.KeyNames(lost.id, SHARDS).key, keyspace.TeamNames(owner.id, SHARDS).team, keyspace.prices(1)]
    for name in lost_names:
        await fleet.pipe.call("DEL", name)
    await hydrator.run_once()
    assert not await fleet.known(lost.id)
    run = "second"
    await hydrator.run_once()
    assert await fleet.known(lost.id)
    assert await fleet.known(kept.id)
    assert await fleet.known_team(owner.id)
    assert await fleet.prices(1)


async def test_one_shard_that_lost_its_data_is_filled_again(fleet: Fleet) -> None:
    for number in range(20):
        await fleet.make(record(number))
    hydrator = fleet.hydrator()
    await hydrator.run_once()
    lost = [record(n).id for n in range(20) if shard_of(record(n).id, SHARDS) == 1]
    assert lost
    await fleet.pipe.call(
        "DEL", keyspace.ready(1), keyspace.prices(1), *(keyspace.KeyNames(key, SHARDS).key for key in lost)
    )
    await hydrator.run_once()
    assert await fleet.ready() == [True] * SHARDS
    assert all([await fleet.known(key) for key in lost])
    assert await fleet.prices(1)


async def test_hydrators_side_by_side_agree(fleet: Fleet) -> None:
    for number in range(50):
        await fleet.make(record(number))
    await asyncio.gather(*(fleet.hydrator().run_once() for _ in range(3)))
    assert await fleet.ready() == [True] * SHARDS
    assert all([await fleet.known(record(number).id) for number in range(50)])


async def test_a_new_key_and_a_new_team_can_be_charged_at_once(fleet: Fleet) -> None:
    owner = (await fleet.stores.teams.create(BY, team(1), 5)).what
    (key,) = beside(owner)
    key = await fleet.make(replace(key, team_id=owner.id), 7)
    await fleet.publisher.team(owner)
    await fleet.publisher.key(key)
    assert (await fleet.account(key.id))[b"charged"] == b"0"
    assert (await fleet.team_account(owner.id))[b"charged"] == b"0"
    assert (await fleet.known(key.id))[b"granted"] == b"7"
    assert (await fleet.known_team(owner.id))[b"granted"] == b"5"


async def test_a_late_repetition_gives_nothing_back(fleet: Fleet) -> None:
    """Redis has lost what the key had spent since it was made, and its first publication is sent once more."""
    key = await fleet.make(record(1), 100)
    await UsageStore(fleet.stores.postgres).insert([event(1, key_id=key.id, credits_micro=60)])
    await fleet.publisher.key(key)
    assert (await fleet.account(key.id))[b"charged"] == b"60"


async def test_a_changed_key_is_published_without_figures(fleet: Fleet) -> None:
    key = await fleet.make(record(1), 100)
    changed = await fleet.stores.keys.change(BY, key.id, lambda one: replace(one, shadow=True))
    await fleet.publisher.key(changed)
    assert await fleet.account(key.id) == {}
    assert (await fleet.known(key.id))[b"shadow"] == b"1"


async def test_a_changed_tier_is_told_to_all_its_keys(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursor, "PAGE_ROWS", 3)
    for number in range(8):
        await fleet.make(record(number, tier="basic"))
    await fleet.make(record(9, tier="premium"))
    await fleet.stores.tiers.change(BY, "basic", lambda tier: replace(tier, multiplier_milli=500))
    await fleet.publisher.tier("basic")
    assert [(await fleet.known(record(n).id))[b"multiplier"] for n in range(8)] == [b"500"] * 8
    assert await fleet.known(record(9).id) == {}


async def test_changed_prices_are_told_to_every_shard(fleet: Fleet) -> None:
    await fleet.stores.prices.add(BY, NewPrice(model="m:latest", per_request_micro=3))
    await fleet.publisher.prices()
    assert all([b"m:latest" in await fleet.prices(shard) for shard in range(SHARDS)])


async def test_an_outage_is_said_to_be_one(fleet: Fleet) -> None:
    key = await fleet.make(record(1, tier="basic"))
    owner = (await fleet.stores.teams.create(BY, team(1), None)).what
    await fleet.pipe.close()
    told = await asyncio.gather(
        fleet.publisher.key(key),
        fleet.publisher.team(owner),
        fleet.publisher.tier("basic"),
        fleet.publisher.prices(),
        fleet.publisher.fleet(),
        return_exceptions=True,
    )
    assert [type(one) for one in told] == [LimitsUnavailable] * 5


class Leases:
    """Settles what it is asked to, but for those it is told to fail at."""

    def __init__(self, pipe: Pipe, failing: dict[str, Exception] | None = None) -> None:
        self.pipe = pipe
        self.asked: list[tuple[int, str, str, int]] = []
        self.failing = failing or {}

    async def reap(self, shard: int, key_id: str, call_id: str, grace_ms: int) -> bool:
        self.asked.append((shard, key_id, call_id, grace_ms))
        if call_id in self.failing:
            raise self.failing[call_id]
        return bool(await self.pipe.call("ZREM", keyspace.leases(shard), f"{key_id}:{call_id}"))


async def lease(fleet: Fleet, shard: int, call_id: str, past_ms: int) -> None:
    deadline = await fleet.clock.now_ms() - past_ms
    await fleet.pipe.call("ZADD", keyspace.leases(shard), deadline, f"key:{call_id}")


async def test_only_leases_past_their_grace_are_settled_in_every_shard(fleet: Fleet) -> None:
    await lease(fleet, 0, "dead", LEASE_GRACE_MS + 1)
    await lease(fleet, 3, "long-dead", 10**9)
    await lease(fleet, 0, "late", 1)
    await lease(fleet, 0, "alive", -60_000)
    leases, metrics = Leases(fleet.pipe), WorkerMetrics()
    worker = Reaper(fleet.pipe, leases, SHARDS, fleet.log, patience_ms=0, metrics=metrics)
    assert await worker.run_once() == 2
    assert metrics.registry.get_sample_value("gateway_worker_reaped_calls_total") == 2
    assert leases.asked == [(0, "key", "dead", LEASE_GRACE_MS), (3, "key", "long-dead", LEASE_GRACE_MS)]
    assert await worker.run_once() == 0


async def test_a_run_is_bounded_and_takes_the_oldest_first(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaper, "CALLS_MAX", 2)
    for number in range(5):
        await lease(fleet, 0, f"call{number}", 10**6 - number)
    leases = Leases(fleet.pipe)
    worker = Reaper(fleet.pipe, leases, SHARDS, fleet.log, patience_ms=0)
    assert [await worker.run_once() for _ in range(4)] == [2, 2, 1, 0]
    assert [call for _, _, call, _ in leases.asked] == [f"call{number}" for number in range(5)]


async def test_a_lease_that_cannot_be_settled_does_not_keep_others_from_it(fleet: Fleet) -> None:
    for number in range(3):
        await lease(fleet, 0, f"call{number}", 10**6 - number)
    leases = Leases(fleet.pipe, {"call0": RuntimeError("secret")})
    worker = Reaper(fleet.pipe, leases, SHARDS, fleet.log, patience_ms=0)
    assert await worker.run_once() == 2
    assert '"reap_failed","call":"call0","error":"RuntimeError"' in fleet.out.getvalue()
    assert "secret" not in fleet.out.getvalue()


async def test_after_its_start_and_after_an_outage_replicas_get_the_time_of_a_lease_to_renew(fleet: Fleet) -> None:
    await lease(fleet, 0, "dead", 10**6)
    leases = Leases(fleet.pipe, {"dead": LimitsUnavailable()})
    await Reaper(fleet.pipe, leases, SHARDS, fleet.log).run_once()
    assert leases.asked == []
    worker = Reaper(fleet.pipe, leases, SHARDS, fleet.log, patience_ms=50)
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable):
            while True:
                await worker.run_once()
        leases.failing.clear()
        assert await worker.run_once() == 0
        while not await worker.run_once():
            pass
    assert len(leases.asked) == 2


async def test_an_outage_ends_the_run(fleet: Fleet) -> None:
    for number in range(3):
        await lease(fleet, 0, f"call{number}", 10**6 - number)
    leases = Leases(fleet.pipe, {"call1": LimitsUnavailable()})
    with pytest.raises(Unavailable):
        await Reaper(fleet.pipe, leases, SHARDS, fleet.log, patience_ms=0).run_once()
    assert len(leases.asked) == 2
