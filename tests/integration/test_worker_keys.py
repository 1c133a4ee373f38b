"""Hydration and reaping, against the real functions in Redis and the real rows in Postgres."""

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.admin import store as store_module
from gateway.admin.postgres import Postgres, open_pool
from gateway.admin.store import KeyStore
from gateway.core.keys import shard_of
from gateway.core.limits import Limits
from gateway.core.record import KeyRecord, Spent
from gateway.errors import LimitsUnavailable, Unavailable
from gateway.state import keyspace
from gateway.state.client import Pipe, connect
from gateway.state.directory import KeyDirectory
from gateway.state.functions import Functions
from gateway.telemetry.logs import Log
from tests.integration.test_store import record
from tests.integration.usage_events import event
from workers import hydrate, reaper
from workers.clock import RedisClock, month_of
from workers.hydrate import Hydrator
from workers.migrate import migrate
from workers.reaper import LEASE_GRACE_MS, Reaper
from workers.store import UsageStore

SHARDS = 4
CREDIT = Limits(requests_per_min=20, credits_micro=100_000_000)


class Fleet:
    """Redis as replicas see it, Postgres as the admin API does, and hydrators between them."""

    def __init__(self, pipe: Pipe, postgres: Postgres) -> None:
        self.pipe = pipe
        self.postgres = postgres
        self.store = KeyStore(postgres)
        self.directory = KeyDirectory(pipe, Functions(pipe), SHARDS)
        self.clock = RedisClock(pipe)
        self.out = io.StringIO()
        self.log = Log(lambda: 0.0, self.out)

    def hydrator(self, **parts: Any) -> Hydrator:
        parts = {"truth": self.store, "directory": self.directory, "clock": self.clock} | parts
        return Hydrator(**parts, shards=SHARDS, log=self.log)

    async def known(self, key_id: str) -> dict[bytes, bytes]:
        return dict(await self.pipe.call("HGETALL", keyspace.KeyNames(key_id, SHARDS).key))

    async def account(self, key_id: str) -> dict[bytes, bytes]:
        return dict(await self.pipe.call("HGETALL", keyspace.KeyNames(key_id, SHARDS).account))

    async def ready(self) -> list[bool]:
        return [await self.directory.is_ready(shard) for shard in range(SHARDS)]


@pytest.fixture
async def fleet(redis_url: str, database_url: str) -> AsyncIterator[Fleet]:
    await migrate(database_url)
    pipe, postgres = Pipe(connect(redis_url, 5_000), 5_000), await open_pool(database_url)
    pipe.start()
    yield Fleet(pipe, postgres)
    await pipe.close()
    await postgres.close()


async def test_an_empty_redis_gets_every_key_before_it_is_ready(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PAGE_ROWS", 7)
    monkeypatch.setattr(hydrate, "PUBLISHED_AT_ONCE_MAX", 3)
    for number in range(30):
        await fleet.store.create(record(number))
    assert await fleet.hydrator().run_once() >= 30
    assert await fleet.ready() == [True] * SHARDS
    for number in range(30):
        assert (await fleet.known(record(number).id))[b"digest"] == record(number).digest.encode()


async def test_no_keys_at_all_is_ready_too(fleet: Fleet) -> None:
    assert await fleet.ready() == [False] * SHARDS
    assert await fleet.hydrator().run_once() == 0
    assert await fleet.ready() == [True] * SHARDS


async def test_what_keys_have_spent_comes_back_from_the_rows(fleet: Fleet) -> None:
    month = month_of(await fleet.clock.now_ms())
    spender, idle = record(1, limits=CREDIT), record(2, limits=CREDIT)
    for key in (spender, idle):
        await fleet.store.create(key)
    await UsageStore(fleet.postgres).insert([
        event(1, key_id=spender.id, month=month, prompt_tokens=100, completion_tokens=11, credits_micro=7_000_000),
        event(2, key_id=spender.id, month="202001", prompt_tokens=100, completion_tokens=0, credits_micro=1_000_000),
    ])  # fmt: skip
    await fleet.hydrator().run_once()
    account = await fleet.account(spender.id)
    assert account[b"credit"] == b"92000000"
    assert account[f"spent:{month}".encode()] == b"111"
    assert (await fleet.account(idle.id))[b"credit"] == b"100000000"


async def test_figures_that_redis_has_are_left_alone(fleet: Fleet) -> None:
    key = record(1, limits=CREDIT)
    await fleet.store.create(key)
    await fleet.directory.publish(key, Spent(month="202611", tokens=5, credits_micro=60_000_000))
    await fleet.hydrator().run_once()
    assert (await fleet.account(key.id))[b"credit"] == b"40000000"


async def test_a_change_that_never_reached_redis_is_made_good(fleet: Fleet) -> None:
    """The admin API died between Postgres and Redis: while a hydrator runs, and while none did."""
    await fleet.store.create(record(1))
    running = fleet.hydrator()
    await running.run_once()
    await fleet.store.create(record(2))
    await fleet.store.revoke(record(1).id)
    assert await running.run_once() == 2
    assert (await fleet.known(record(1).id))[b"enabled"] == b"0"
    assert (await fleet.known(record(2).id))[b"enabled"] == b"1"
    assert await running.run_once() == 0  # though still within the overlap
    await fleet.store.revoke(record(2).id)
    assert await fleet.hydrator().run_once() == 2
    assert (await fleet.known(record(2).id))[b"enabled"] == b"0"


async def test_an_older_version_never_replaces_a_newer_one(fleet: Fleet) -> None:
    """The key is revoked between the hydrator's look and its write."""
    await fleet.store.create(record(1))

    class Late:
        async def publish(self, key: KeyRecord, spent: Spent | None) -> None:
            if key.version == 1:
                revoked = await fleet.store.revoke(key.id)
                assert revoked
                await fleet.directory.publish(revoked, None)
            await fleet.directory.publish(key, spent)

        is_ready = fleet.directory.is_ready
        incarnation = fleet.directory.incarnation
        begin = fleet.directory.begin
        mark_ready = fleet.directory.mark_ready

    await fleet.hydrator(directory=Late()).run_once()
    assert (await fleet.known(record(1).id))[b"enabled"] == b"0"


async def test_a_key_made_or_revoked_while_all_are_published_is_there_when_redis_is_ready(fleet: Fleet) -> None:
    for number in range(3):
        await fleet.store.create(record(number))
    done = False

    class Meanwhile:
        """Postgres is changed after the hydrator has read it, and the change does not reach Redis."""

        async def spent(self, key_ids: Any, month: str) -> dict[str, Spent]:
            nonlocal done
            if not done:
                done = True
                await fleet.store.create(record(9))
                await fleet.store.revoke(record(0).id)
            return await fleet.store.spent(key_ids, month)

        changed_since = fleet.store.changed_since
        now_us = fleet.store.now_us

    await fleet.hydrator(truth=Meanwhile()).run_once()
    assert await fleet.ready() == [True] * SHARDS
    assert (await fleet.known(record(0).id))[b"enabled"] == b"0"
    assert (await fleet.known(record(9).id))[b"enabled"] == b"1"


async def test_half_a_hydration_is_none(fleet: Fleet) -> None:
    for number in range(5):
        await fleet.store.create(record(number))
    left = 3

    class Dying:
        async def publish(self, key: KeyRecord, spent: Spent | None) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise LimitsUnavailable
            await fleet.directory.publish(key, spent)

        is_ready = fleet.directory.is_ready
        incarnation = fleet.directory.incarnation
        begin = fleet.directory.begin
        mark_ready = fleet.directory.mark_ready

    hydrator = fleet.hydrator(directory=Dying())
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
        await fleet.store.create(record(number))
    left = 3

    class Forgetting:
        async def publish(self, key: KeyRecord, spent: Spent | None) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                await fleet.pipe.call("FLUSHALL")
            await fleet.directory.publish(key, spent)

        is_ready = fleet.directory.is_ready
        incarnation = fleet.directory.incarnation
        begin = fleet.directory.begin
        mark_ready = fleet.directory.mark_ready

    hydrator = fleet.hydrator(directory=Forgetting())
    await hydrator.run_once()
    assert await fleet.ready() == [False] * SHARDS
    await hydrator.run_once()
    assert await fleet.ready() == [True] * SHARDS
    assert all([await fleet.known(record(number).id) for number in range(5)])
    assert await fleet.pipe.call("TTL", keyspace.ready(0)) == -1


async def test_a_restarted_redis_that_lost_its_last_second_is_told_of_every_key_again(fleet: Fleet) -> None:
    """Its sentinel has survived, so a key it has forgotten would be told that it does not exist."""
    kept, lost = record(1), record(2)
    for key in (kept, lost):
        await fleet.store.create(key)
    run = "first"

    class Restarted:
        publish = fleet.directory.publish
        is_ready = fleet.directory.is_ready
        begin = fleet.directory.begin
        mark_ready = fleet.directory.mark_ready

        async def incarnation(self) -> str:
            return run

    hydrator = fleet.hydrator(directory=Restarted())
    assert await hydrator.run_once() >= 2
    await fleet.pipe.call("DEL", keyspace.KeyNames(lost.id, SHARDS).key)
    await hydrator.run_once()
    assert not await fleet.known(lost.id)
    run = "second"
    await hydrator.run_once()
    assert await fleet.known(lost.id)
    assert await fleet.known(kept.id)


async def test_one_shard_that_lost_its_data_is_filled_again(fleet: Fleet) -> None:
    for number in range(20):
        await fleet.store.create(record(number))
    hydrator = fleet.hydrator()
    await hydrator.run_once()
    lost = [record(n).id for n in range(20) if shard_of(record(n).id, SHARDS) == 1]
    assert lost
    await fleet.pipe.call("DEL", keyspace.ready(1), *(keyspace.KeyNames(key, SHARDS).key for key in lost))
    await hydrator.run_once()
    assert await fleet.ready() == [True] * SHARDS
    assert all([await fleet.known(key) for key in lost])


async def test_hydrators_side_by_side_agree(fleet: Fleet) -> None:
    for number in range(50):
        await fleet.store.create(record(number))
    await asyncio.gather(*(fleet.hydrator().run_once() for _ in range(3)))
    assert await fleet.ready() == [True] * SHARDS
    assert all([await fleet.known(record(number).id) for number in range(50)])


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
    leases = Leases(fleet.pipe)
    worker = Reaper(fleet.pipe, leases, SHARDS, fleet.log, patience_ms=0)
    assert await worker.run_once() == 2
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
