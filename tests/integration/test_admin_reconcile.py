"""Reconciliation on real ledgers: what agrees is proved, a millionth anywhere is found, what moves is no difference."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from msgspec import Struct
from msgspec.structs import replace

from gateway.admin import credits
from gateway.admin.credits import Grant
from gateway.admin.publisher import Publisher
from gateway.admin.reconcile import LOOKS_MAX, Overdrawn, Reconciler, Report, StoredEvents
from gateway.core.books import Owner
from gateway.core.record import ApiKey, Team
from gateway.core.usage import UsageEvent
from gateway.errors import KeysNotLoaded, LimitsUnavailable, StoreUnavailable
from gateway.state import client, keyspace
from gateway.state.client import Pipe
from gateway.state.directory import KeyDirectory
from gateway.state.functions import Functions, fleet_source
from gateway.state.ledger import RedisLedger
from gateway.state.registry import RegistryDirectory
from tests.integration.admin_objects import BY, Stores, beside, opened, team
from tests.integration.usage_events import event, fields
from workers.store import UsageStore

SHARDS = 16
CREDIT = 1_000_000


class Books(Struct, kw_only=True):
    """A key in a team with all three ledgers in order: two calls are rows, one is an event in the stream."""

    stores: Stores
    pipe: Pipe
    key: ApiKey
    team: Team
    waiting: UsageEvent
    pauses: list[Callable[[], Awaitable[object]]] = []
    """what happens in the pauses between two looks, in turn"""
    paused: int = 0

    async def report(self, events_max: int = 100_000) -> Report:
        class Ledger(RedisLedger):
            async def events(self, at_most: int = events_max) -> tuple[list[UsageEvent], bool]:
                return await super().events(at_most)

        stored = StoredEvents(self.stores.postgres)
        return await Reconciler(self.stores.credits, stored, Ledger(self.pipe, SHARDS), self._pause).run()

    async def differences(self) -> list[tuple[str, str, int, int | None]]:
        found = (await self.report()).differences
        return [(one.owner.kind, one.what, one.expected_micro, one.found_micro) for one in found]

    async def charge(self, one: UsageEvent) -> None:
        """As settle.lua does, in one step."""
        names, teams = keyspace.KeyNames(one.key_id, SHARDS), keyspace.TeamNames(one.team_id, SHARDS)
        await self.pipe.call("HINCRBY", names.account, "charged", one.credits_micro)
        await self.pipe.call("HINCRBY", teams.account, "charged", one.team_credits_micro)
        flat = [part for pair in fields(one).items() for part in pair]
        await self.pipe.call("XADD", keyspace.usage(names.shard), "*", *flat)

    async def store(self, one: UsageEvent) -> None:
        """As the worker does, which forgets it in the stream only afterwards."""
        await UsageStore(self.stores.postgres).insert([one])

    async def _pause(self) -> None:
        self.paused += 1
        if self.pauses:
            await self.pauses.pop(0)()


@pytest.fixture
async def books(database_url: str, redis_url: str) -> AsyncIterator[Books]:
    async for stores in opened(database_url):
        pipe = Pipe(client.connect(redis_url, 5_000), 5_000)
        pipe.start()
        yield await made(stores, pipe)
        await pipe.close()


async def made(stores: Stores, pipe: Pipe) -> Books:
    directory = KeyDirectory(pipe, Functions(pipe), SHARDS)
    publisher = Publisher(
        keys=stores.keys,
        teams=stores.teams,
        prices=stores.prices,
        backends=stores.backends,
        directory=directory,
        fleet=RegistryDirectory(Functions(pipe, fleet_source())),
    )
    shared = (await stores.teams.create(BY, team(1), 50 * CREDIT)).what
    key = (await stores.keys.create(BY, beside(shared)[0], 10 * CREDIT)).what
    key = await stores.keys.change(BY, key.id, lambda one: replace(one, team_id=shared.id))
    await publisher.team(shared)
    record = (await stores.keys.records([key]))[0]
    month = await stores.keys.spent([key.id], "202611")
    await directory.publish(record, month[key.id])
    for shard in range(SHARDS):
        await pipe.call("SET", keyspace.ready(shard), "1")
    events = [call(key, shared, number) for number in range(3)]
    books = Books(stores=stores, pipe=pipe, key=key, team=shared, waiting=events[2])
    for one in events:
        await books.charge(one)
    for one in events[:2]:
        await books.store(one)
    await pipe.call("XTRIM", keyspace.usage(keyspace.KeyNames(key.id, SHARDS).shard), "MAXLEN", 1)
    return books


def call(key: ApiKey, shared: Team, number: int) -> UsageEvent:
    return event(number, key_id=key.id, team_id=shared.id, credits_micro=CREDIT + number, team_credits_micro=CREDIT)


async def test_ledgers_in_order_agree(books: Books) -> None:
    report = await books.report()
    assert (report.keys, report.teams, report.events, report.complete, report.agrees) == (1, 1, 1, True, True)
    assert books.paused == 0
    await books.store(books.waiting)  # a row, and in the stream too, as it is before the worker says it is done
    assert (await books.report()).agrees


async def test_a_millionth_in_redis_is_found(books: Books) -> None:
    names = keyspace.KeyNames(books.key.id, SHARDS)
    await books.pipe.call("HINCRBY", names.account, "charged", 1)
    assert await books.differences() == [("key", "charged", 3 * CREDIT + 3, 3 * CREDIT + 4)]
    assert books.paused == LOOKS_MAX - 1
    await books.pipe.call("HINCRBY", names.account, "charged", -2)
    assert await books.differences() == [("key", "charged", 3 * CREDIT + 3, 3 * CREDIT + 2)]
    await books.pipe.call("HINCRBY", names.account, "charged", 1)
    await books.pipe.call("HINCRBY", keyspace.TeamNames(books.team.id, SHARDS).team, "granted", -1)
    assert await books.differences() == [("team", "granted", 50 * CREDIT, 50 * CREDIT - 1)]


async def test_a_row_that_is_gone_or_changed_is_found(books: Books) -> None:
    await books.stores.value(
        "UPDATE usage_logs SET team_credits_micro = team_credits_micro + 1 WHERE credits_micro = 1000000"
    )
    assert await books.differences() == [("team", "charged", 3 * CREDIT + 1, 3 * CREDIT)]
    await books.stores.value("DELETE FROM usage_logs WHERE credits_micro = 1000001")
    assert await books.differences() == [
        ("key", "charged", 2 * CREDIT + 2, 3 * CREDIT + 3),
        ("team", "charged", 2 * CREDIT + 1, 3 * CREDIT),
    ]


async def test_an_event_that_is_lost_is_found(books: Books) -> None:
    stream = keyspace.usage(keyspace.KeyNames(books.key.id, SHARDS).shard)
    await books.pipe.call("XTRIM", stream, "MAXLEN", 0)
    assert [(kind, what) for kind, what, _, _ in await books.differences()] == [("key", "charged"), ("team", "charged")]


async def test_a_grant_that_nobody_booked_is_found(books: Books) -> None:
    await books.stores.value("UPDATE api_keys SET credits_granted_micro = credits_granted_micro + 1")
    assert await books.differences() == [
        ("key", "grants", 10 * CREDIT, 10 * CREDIT + 1),
        ("key", "granted", 10 * CREDIT + 1, 10 * CREDIT),
    ]


async def test_a_key_that_redis_lacks_is_found(books: Books) -> None:
    names = keyspace.KeyNames(books.key.id, SHARDS)
    await books.pipe.call("DEL", names.key, names.account)
    assert await books.differences() == [
        ("key", "granted", 10 * CREDIT, None),
        ("key", "charged", 3 * CREDIT + 3, None),
    ]


async def test_what_settles_between_two_looks_is_no_difference(books: Books) -> None:
    """A call that is charged but whose event is not there yet does not exist; so the first look is made to see one."""
    late = call(books.key, books.team, 7)
    names, teams = keyspace.KeyNames(books.key.id, SHARDS), keyspace.TeamNames(books.team.id, SHARDS)
    await books.charge(late)
    stream = keyspace.usage(names.shard)
    (newest,) = await books.pipe.call("XREVRANGE", stream, "+", "-", "COUNT", 1)
    await books.pipe.call("XDEL", stream, newest[0])
    books.pauses = [lambda: books.store(late)]
    assert (await books.report()).agrees
    assert books.paused == 1
    assert await books.pipe.call("HGET", teams.account, "charged") == str(4 * CREDIT).encode()


async def test_a_balance_below_zero_is_a_remark_and_no_difference(books: Books) -> None:
    assert (await books.report()).overdrawn == ()
    names = keyspace.KeyNames(books.key.id, SHARDS)
    back = Grant(id="back", key_id=books.key.id, amount_micro=-9 * CREDIT)
    await books.stores.credits.grant(BY, back)  # as it is when a call comes in at that very moment
    key = await books.stores.keys.get(books.key.id)
    await books.pipe.call("HSET", names.key, "granted", key.granted_micro)
    report = await books.report()
    assert report.agrees
    assert report.overdrawn == (Overdrawn(Owner("key", key.id), -2 * CREDIT - 3),)
    await books.stores.keys.change(BY, key.id, lambda one: replace(one, metered=False))
    assert (await books.report()).overdrawn == ()


async def test_the_backlog_is_read_once_where_nothing_differs(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credits, "SUMS_ROWS", 1)
    read: list[int] = []

    class Counted(RedisLedger):
        async def events(self, at_most: int = 100_000) -> tuple[list[UsageEvent], bool]:
            read.append(at_most)
            return await super().events(at_most)

    async def pause() -> None:
        pass

    stored = StoredEvents(books.stores.postgres)
    reconciler = Reconciler(books.stores.credits, stored, Counted(books.pipe, SHARDS), pause)
    report = await reconciler.run()
    assert (report.keys, report.teams, report.events, report.agrees) == (1, 1, 1, True)
    assert len(read) == 1
    await books.pipe.call("HINCRBY", keyspace.KeyNames(books.key.id, SHARDS).account, "charged", 1)
    assert len((await reconciler.run()).differences) == 1
    assert len(read) == 2 + LOOKS_MAX - 1, "a page that differs is looked at with the events of that moment"


async def test_a_backlog_that_is_too_large_is_said_to_be(books: Books) -> None:
    report = await books.report(events_max=0)
    assert (report.complete, report.agrees, report.differences) == (False, False, ())


async def test_more_owners_than_a_page_are_all_compared(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credits, "SUMS_ROWS", 1)
    report = await books.report()
    assert (report.keys, report.teams, report.agrees) == (1, 1, True)
    await books.pipe.call("HINCRBY", keyspace.KeyNames(books.key.id, SHARDS).account, "charged", 1)
    (difference,) = (await books.report()).differences
    assert difference.owner == Owner("key", books.key.id)


async def test_nothing_is_proved_while_a_ledger_is_away(books: Books) -> None:
    await books.pipe.call("DEL", keyspace.ready(3))
    with pytest.raises(KeysNotLoaded):
        await books.report()
    await books.pipe.call("SET", keyspace.ready(3), "1")
    await books.pipe.call("SET", keyspace.usage(5), "no stream")
    with pytest.raises(LimitsUnavailable):
        await books.report()
    await books.pipe.call("DEL", keyspace.usage(5))
    await books.stores.postgres.close()
    with pytest.raises(StoreUnavailable):
        await books.report()
