"""Reconciliation on real ledgers: what agrees is proved, one more or less is found anywhere, what moves is none."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from random import Random

import pytest
from msgspec import Struct
from msgspec.structs import replace

from gateway.admin import credits, stored
from gateway.admin import report as report_module
from gateway.admin.credits import Grant
from gateway.admin.publisher import Publisher
from gateway.admin.reconcile import LOOKS_MAX, Reconciler
from gateway.admin.report import Overdrawn, Report
from gateway.admin.stored import StoredUsage
from gateway.core.charges import Backlog, Owner
from gateway.core.record import ApiKey, Team
from gateway.core.usage import UsageEvent
from gateway.errors import BadRequest, KeysNotLoaded, LimitsUnavailable, StoreUnavailable
from gateway.state import keyspace
from gateway.state.directory import KeyDirectory
from gateway.state.functions import Functions, fleet_source
from gateway.state.ledger import RedisLedger
from gateway.state.pipe import Pipe
from gateway.state.registry import RegistryDirectory
from tests.integration.admin_objects import BY, Stores, beside, opened, team
from tests.integration.usage_events import AT_MS, MONTH, event, fields
from workers.store import UsageStore

SHARDS = 16
CREDIT = 1_000_000
TOKENS = 33
"""of each call"""
DAY = "2026-11-21"
PAST_MONTH, PAST_AT_MS = "202610", AT_MS - 31 * 86_400_000
LOOKS = 5
CALLS_WAITING_MAX = 200
NEXT_MONTH_US = (AT_MS + 15 * 86_400_000) * 1_000
Found = tuple[str, str, str, str | None, int, int | None]


class Ledger(RedisLedger):
    """On a clock that stands still in the month of the events."""

    now = AT_MS * 1_000
    events_max = 100_000
    backlogs = 0

    async def now_us(self) -> int:
        return self.now

    async def backlog(self, at_most: int = 0) -> Backlog:
        self.backlogs += 1
        return await super().backlog(self.events_max)


class Books(Struct, kw_only=True):
    """A key in a team with all ledgers in order: two calls are rows, one is an event in the stream."""

    stores: Stores
    pipe: Pipe
    key: ApiKey
    team: Team
    waiting: UsageEvent
    ledger: Ledger
    pauses: list[Callable[[], Awaitable[object]]] = []
    """what happens in the pauses between two looks, in turn"""
    paused: int = 0

    async def report(self, month: str | None = None) -> Report:
        return await Reconciler(self.stores.credits, StoredUsage(self.stores.postgres), self.ledger, self._pause).run(
            month
        )

    async def differences(self, month: str | None = None) -> list[Found]:
        found = (await self.report(month)).differences
        return [(one.owner.kind, one.what, one.unit, one.day, one.expected, one.found) for one in found]

    async def charge(self, one: UsageEvent, stream: Callable[[int], str] = keyspace.usage) -> None:
        """As settle.lua does, in one step."""
        names, teams = keyspace.KeyNames(one.key_id, SHARDS), keyspace.TeamNames(one.team_id, SHARDS)
        tokens = one.prompt_tokens + one.completion_tokens
        flat = [str(part) if not isinstance(part, bytes) else part for pair in fields(one).items() for part in pair]
        await self.pipe.call(
            "EVAL",
            "redis.call('HINCRBY', KEYS[1], 'charged', ARGV[1]) redis.call('HINCRBY', KEYS[2], 'charged', ARGV[2]) "
            "for i = 1, 2 do redis.call('HINCRBY', KEYS[i], ARGV[3], ARGV[4]) end "
            "redis.call('XADD', KEYS[3], '*', unpack(ARGV, 5))",
            3, names.account, teams.account, stream(names.shard),
            one.credits_micro, one.team_credits_micro, f"spent:{one.month}", tokens, *flat,
        )  # fmt: skip

    async def store(self, *events: UsageEvent) -> None:
        """As the worker does, which forgets them in the stream only afterwards."""
        await UsageStore(self.stores.postgres).insert(events)

    async def forget(self) -> None:
        """What the stream still has of calls that are rows."""
        await self.pipe.call("XTRIM", keyspace.usage(self.shard), "MAXLEN", 0)

    @property
    def shard(self) -> int:
        return keyspace.KeyNames(self.key.id, SHARDS).shard

    @property
    def accounts(self) -> tuple[str, str]:
        return keyspace.KeyNames(self.key.id, SHARDS).account, keyspace.TeamNames(self.team.id, SHARDS).account

    async def _pause(self) -> None:
        self.paused += 1
        if self.pauses:
            await self.pauses.pop(0)()


@pytest.fixture
async def books(migrated_url: str, redis_url: str) -> AsyncIterator[Books]:
    async for stores in opened(migrated_url):
        pipe = Pipe(redis_url, 5_000)
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
    month = await stores.keys.spent([key.id], MONTH)
    await directory.publish(record, month[key.id])
    for shard in range(SHARDS):
        await pipe.call("SET", keyspace.ready(shard), "1")
    for day in ("2026-10-01", "2026-11-01"):
        await stores.value("SELECT make_usage_partition($1::text::date)", day)
    events = [call(key, shared, number) for number in range(3)]
    books = Books(stores=stores, pipe=pipe, key=key, team=shared, waiting=events[2], ledger=Ledger(pipe, SHARDS))
    for one in events:
        await books.charge(one)
    await books.store(*events[:2])
    await pipe.call("XTRIM", keyspace.usage(books.shard), "MAXLEN", 1)
    return books


def call(key: ApiKey, shared: Team, number: int) -> UsageEvent:
    return event(number, key_id=key.id, team_id=shared.id, credits_micro=CREDIT + number, team_credits_micro=CREDIT)


def past(key: ApiKey, shared: Team, number: int) -> UsageEvent:
    return replace(call(key, shared, number), month=PAST_MONTH, at_ms=PAST_AT_MS + number)


async def test_ledgers_in_order_agree(books: Books) -> None:
    report = await books.report()
    assert (report.month, report.keys, report.teams, report.events, report.dead) == (MONTH, 1, 1, 1, 0)
    assert (report.complete, report.rows, report.differing, report.agrees) == (True, "kept", 0, True)
    assert books.paused == 0
    await books.store(books.waiting)  # a row, and in the stream too, as it is before the worker says it is done
    assert (await books.report()).agrees
    await books.forget()
    assert (await books.report()).agrees


async def test_one_more_or_less_in_redis_is_found(books: Books) -> None:
    key, _ = books.accounts
    await books.pipe.call("HINCRBY", key, "charged", 1)
    assert await books.differences() == [("key", "charged", "credits", None, 3 * CREDIT + 3, 3 * CREDIT + 4)]
    assert books.paused == LOOKS_MAX - 1
    await books.pipe.call("HINCRBY", key, "charged", -2)
    assert await books.differences() == [("key", "charged", "credits", None, 3 * CREDIT + 3, 3 * CREDIT + 2)]
    await books.pipe.call("HINCRBY", key, "charged", 1)
    await books.pipe.call("HINCRBY", keyspace.TeamNames(books.team.id, SHARDS).team, "granted", -1)
    assert await books.differences() == [("team", "granted", "credits", None, 50 * CREDIT, 50 * CREDIT - 1)]


@pytest.mark.parametrize("by", [-1, 1])
async def test_a_month_that_redis_counted_wrongly_is_found(books: Books, by: int) -> None:
    key, shared = books.accounts
    await books.pipe.call("HINCRBY", key, f"spent:{MONTH}", by)
    assert await books.differences() == [("key", "tokens", "tokens", None, 3 * TOKENS, 3 * TOKENS + by)]
    await books.pipe.call("HINCRBY", key, f"spent:{MONTH}", -by)
    await books.pipe.call("HINCRBY", shared, f"spent:{MONTH}", by)
    assert await books.differences() == [("team", "tokens", "tokens", None, 3 * TOKENS, 3 * TOKENS + by)]
    assert (await books.report(PAST_MONTH)).agrees, "the other month is none of it"


async def test_a_row_that_is_gone_is_found(books: Books) -> None:
    await books.stores.value("DELETE FROM usage_logs WHERE credits_micro = 1000001")
    assert await books.differences() == [
        ("key", "rows", "calls", DAY, 2, 1),
        ("key", "rows", "prompt_tokens", DAY, 22, 11),
        ("key", "rows", "completion_tokens", DAY, 44, 22),
        ("key", "rows", "credits", DAY, 2 * CREDIT + 1, CREDIT),
        ("team", "rows", "credits", DAY, 2 * CREDIT, CREDIT),
    ]


@pytest.mark.parametrize(
    ("table", "column", "expected"),
    [
        ("usage_logs", "prompt_tokens", [("key", "rows", "prompt_tokens", DAY, 22, 23)]),
        ("usage_logs", "team_credits_micro", [("team", "rows", "credits", DAY, 2 * CREDIT, 2 * CREDIT + 1)]),
        ("usage_hourly", "calls", [("key", "hourly", "calls", DAY, 2, 3)]),
        ("usage_hourly", "credits_micro", [("key", "hourly", "credits", DAY, 2 * CREDIT + 1, 2 * CREDIT + 2)]),
        (
            "usage_daily",
            "completion_tokens",
            [("key", "daily", "completion_tokens", None, 44, 45), ("key", "daily", "completion_tokens", DAY, 44, 45)],
        ),
        (
            "usage_monthly",
            "credits_micro",
            [
                ("key", "charged", "credits", None, 3 * CREDIT + 4, 3 * CREDIT + 3),
                ("key", "daily", "credits", None, 2 * CREDIT + 2, 2 * CREDIT + 1),
            ],
        ),
        (
            "usage_monthly",
            "prompt_tokens",
            [
                ("key", "tokens", "tokens", None, 3 * TOKENS + 1, 3 * TOKENS),
                ("team", "tokens", "tokens", None, 3 * TOKENS + 1, 3 * TOKENS),
                ("key", "daily", "prompt_tokens", None, 23, 22),
            ],
        ),
    ],
)
async def test_what_is_raised_by_one_is_found(books: Books, table: str, column: str, expected: list[Found]) -> None:
    one = "WHERE credits_micro = 1000000" if table == "usage_logs" else ""
    await books.stores.value(f"UPDATE {table} SET {column} = {column} + 1 {one}")
    assert await books.differences() == expected


async def test_sums_of_nobody_are_found(books: Books) -> None:
    """Of a key that no table of keys has, nor the month: the days alone have it."""
    for table in ("usage_daily", "usage_hourly"):
        what = "day" if table == "usage_daily" else "hour"
        await books.stores.value(
            f"INSERT INTO {table} SELECT {what}, 'nobody', '', model, backend, status, calls, estimated_calls, "
            f"0, 0, 0, 0, 0, 0, 0, 0, 0 FROM {table}"
        )
    found = (await books.report()).differences
    assert [(one.owner.id, one.what, one.day, one.expected, one.found) for one in found] == [
        ("nobody", "daily", None, 0, 2),
        ("nobody", "rows", DAY, 2, 0),
    ]


async def test_a_key_that_is_gone_is_compared_in_postgres(books: Books) -> None:
    await books.store(event(50, key_id="gone000001", credits_micro=7))
    assert (await books.report()).agrees
    await books.stores.value("UPDATE usage_monthly SET calls = 5 WHERE api_key_id = 'gone000001'")
    (found,) = (await books.report()).differences
    assert (found.owner, found.what, found.unit, found.expected, found.found) == (
        Owner("key", "gone000001"), "daily", "calls", 5, 1,
    )  # fmt: skip


async def test_an_event_that_is_lost_is_found(books: Books) -> None:
    await books.forget()
    assert [(kind, what) for kind, what, *_ in await books.differences()] == [
        ("key", "charged"),
        ("key", "tokens"),
        ("team", "charged"),
        ("team", "tokens"),
    ]


async def test_a_grant_that_nobody_booked_is_found(books: Books) -> None:
    await books.stores.value("UPDATE api_keys SET credits_granted_micro = credits_granted_micro + 1")
    assert await books.differences() == [
        ("key", "grants", "credits", None, 10 * CREDIT, 10 * CREDIT + 1),
        ("key", "granted", "credits", None, 10 * CREDIT + 1, 10 * CREDIT),
    ]


async def test_a_key_that_redis_lacks_is_found(books: Books) -> None:
    names = keyspace.KeyNames(books.key.id, SHARDS)
    await books.pipe.call("DEL", names.key, names.account)
    assert await books.differences() == [
        ("key", "granted", "credits", None, 10 * CREDIT, None),
        ("key", "charged", "credits", None, 3 * CREDIT + 3, None),
        ("key", "tokens", "tokens", None, 3 * TOKENS, None),
    ]


async def test_a_past_month_is_compared_where_redis_has_it(books: Books) -> None:
    late = [past(books.key, books.team, number) for number in (20, 21)]
    for one in late:
        await books.charge(one)
    await books.store(late[0])
    assert (await books.report(PAST_MONTH)).agrees
    assert (await books.report()).agrees, "charged ever, but not of this month"
    key, shared = books.accounts
    await books.pipe.call("HINCRBY", key, f"spent:{PAST_MONTH}", 1)
    assert await books.differences(PAST_MONTH) == [("key", "tokens", "tokens", None, 2 * TOKENS, 2 * TOKENS + 1)]
    assert (await books.report()).agrees
    for account in (key, shared):
        await books.pipe.call("HDEL", account, f"spent:{PAST_MONTH}")  # as after Redis has lost its data
    assert (await books.report(PAST_MONTH)).agrees
    await books.stores.value("UPDATE usage_hourly SET calls = calls + 1 WHERE hour < '2026-11-01'")
    assert [one[:3] for one in await books.differences(PAST_MONTH)] == [("key", "hourly", "calls")]


async def test_when_the_month_ends_its_events_still_count(books: Books) -> None:
    books.ledger.now = NEXT_MONTH_US
    report = await books.report()
    assert (report.month, report.agrees) == ("202612", True)
    assert (await books.report(MONTH)).agrees
    await books.forget()
    assert [one[1] for one in await books.differences(MONTH)] == ["charged", "tokens"] * 2
    assert [one[1] for one in await books.differences()] == ["charged"] * 2


async def test_a_month_that_has_not_begun_is_refused(books: Books) -> None:
    with pytest.raises(BadRequest, match="not begun"):
        await books.report("202612")


async def test_of_a_month_whose_rows_are_dropped_only_sums_are_compared(books: Books) -> None:
    late = past(books.key, books.team, 20)
    await books.charge(late)
    await books.store(late)
    assert (await books.report(PAST_MONTH)).rows == "kept"
    for table in ("usage_logs", "usage_attempts", "usage_hourly", "usage_timings"):
        await books.stores.value(f"DROP TABLE {table}_{PAST_MONTH}")
    await books.pipe.call("XDEL", keyspace.usage(books.shard), await last_entry(books))
    report = await books.report(PAST_MONTH)
    assert (report.agrees, report.rows) == (True, "dropped")
    assert (await books.report()).rows == "kept"
    await books.stores.value("UPDATE usage_daily SET calls = calls + 1 WHERE day < '2026-11-01'")
    assert await books.differences(PAST_MONTH) == [("key", "daily", "calls", None, 1, 2)]


async def test_hours_are_compared_as_long_as_they_are_kept(books: Books) -> None:
    late = past(books.key, books.team, 20)
    await books.charge(late)
    await books.store(late)
    await books.stores.value(f"DROP TABLE usage_logs_{PAST_MONTH}")
    await books.pipe.call("XDEL", keyspace.usage(books.shard), await last_entry(books))
    assert (await books.report(PAST_MONTH)).agrees
    await books.stores.value("DELETE FROM usage_hourly WHERE hour < '2026-11-01'")
    assert {one[1] for one in await books.differences(PAST_MONTH)} == {"hourly"}


async def test_rows_in_the_default_partition_are_those_of_no_month_yet(books: Books) -> None:
    """The month may have been dropped, and they came late: nothing is to be expected of its other rows."""
    odd = replace(past(books.key, books.team, 20), month="202505", at_ms=AT_MS - 550 * 86_400_000)
    await books.charge(odd)
    await books.store(odd)
    report = await books.report("202505")
    assert (report.agrees, report.rows) == (True, "dropped")
    await books.stores.value("SELECT make_usage_partition('2025-05-01')")
    report = await books.report("202505")
    assert (report.agrees, report.rows) == (True, "kept")
    await books.stores.value("UPDATE usage_logs_202505 SET prompt_tokens = 0")
    assert [one[1:3] for one in await books.differences("202505")] == [("rows", "prompt_tokens")]


async def last_entry(books: Books) -> bytes:
    ((entry, _),) = await books.pipe.call("XREVRANGE", keyspace.usage(books.shard), "+", "-", "COUNT", 1)
    return bytes(entry)


async def test_dead_events_are_told_and_are_no_difference(books: Books) -> None:
    await books.charge(call(books.key, books.team, 30), keyspace.usage_dead)
    ((_, whole),) = await books.pipe.call("XRANGE", keyspace.usage_dead(books.shard), "-", "+")
    await books.pipe.call("XADD", keyspace.usage_dead(3), "*", "dead_reason", "body is gone")
    report = await books.report()
    assert (report.dead, report.events, report.agrees) == (2, 1, True)
    flat = [part for pair in (whole | {b"v": b"7", b"detail": b"{"}).items() for part in pair]
    await books.pipe.call("DEL", keyspace.usage_dead(books.shard))
    for _ in range(2):  # no row can be made of it; once more, and it still counts once
        await books.pipe.call("XADD", keyspace.usage_dead(books.shard), "*", *flat)
        assert (await books.report()).agrees
    await books.pipe.call("DEL", keyspace.usage_dead(books.shard))
    assert [one[1] for one in await books.differences()] == ["charged", "tokens"] * 2


async def test_what_settles_between_two_looks_is_no_difference(books: Books) -> None:
    """A call that is charged but whose event is not there yet does not exist; so the first look is made to see one."""
    late = call(books.key, books.team, 7)
    await books.charge(late)
    await books.pipe.call("XDEL", keyspace.usage(books.shard), await last_entry(books))
    books.pauses = [lambda: books.store(late)]
    assert (await books.report()).agrees
    assert books.paused == 1
    assert await books.pipe.call("HGET", books.accounts[1], "charged") == str(4 * CREDIT).encode()


async def test_calls_that_go_on_are_no_difference(books: Books, seed: str) -> None:
    """Calls settle, a worker stores them and forgets them, some are set aside and put back, all while one looks."""
    traffic = Traffic(books, Random(seed))
    load = [asyncio.create_task(traffic.clients()) for _ in range(3)] + [asyncio.create_task(traffic.worker())]
    reports = [await books.report(month) for _ in range(LOOKS) for month in (None, PAST_MONTH)]
    traffic.done = True
    await asyncio.gather(*load)
    print(f"{len(reports)} reconciliations, {books.paused} second looks, while {traffic.stored} calls became rows")
    assert traffic.stored > CALLS_WAITING_MAX
    assert [report.differences for report in reports] == [()] * len(reports)
    await books.pipe.call("HINCRBY", books.accounts[0], "charged", 1)
    assert [one[1] for one in await books.differences()] == ["charged"]


class Traffic:
    """Calls of the key, of this month and the last, and what becomes of their events."""

    def __init__(self, books: Books, random: Random) -> None:
        self._books, self._random = books, random
        self._numbers = count(100)
        self._waiting = {books.waiting.id: books.waiting}
        self.done = False
        self.stored = 0

    async def clients(self) -> None:
        books = self._books
        while not self.done:
            if len(self._waiting) >= CALLS_WAITING_MAX:
                await asyncio.sleep(0)
                continue
            one = self._random.choice([call, call, past])(books.key, books.team, next(self._numbers))
            self._waiting[one.id] = one
            await books.charge(one, self._random.choice([keyspace.usage] * 9 + [keyspace.usage_dead]))

    async def worker(self) -> None:
        books, stream = self._books, keyspace.usage(self._books.shard)
        while not self.done:
            await self._put_back(stream, keyspace.usage_dead(books.shard))
            entries = await books.pipe.call("XRANGE", stream, "-", "+", "COUNT", self._random.randint(1, 20))
            if entries:
                ids = [body[b"id"].decode() for _, body in entries]
                await books.store(*(self._waiting[one] for one in ids))
                await books.pipe.call("XDEL", stream, *(entry for entry, _ in entries))
                for one in ids:
                    del self._waiting[one]
                self.stored += len(ids)

    async def _put_back(self, stream: str, dead: str) -> None:
        for entry, body in await self._books.pipe.call("XRANGE", dead, "-", "+", "COUNT", 5):
            flat = [part for pair in body.items() for part in pair]
            move = "redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2)) redis.call('XDEL', KEYS[2], ARGV[1])"
            await self._books.pipe.call("EVAL", move, 2, stream, dead, entry, *flat)


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
    report = await books.report()
    assert (report.keys, report.teams, report.events, report.agrees) == (1, 1, 1, True)
    assert books.ledger.backlogs == 1
    await books.pipe.call("HINCRBY", books.accounts[0], "charged", 1)
    assert len((await books.report()).differences) == 1
    assert books.ledger.backlogs == 2 + LOOKS_MAX - 1, "a page that differs is looked at with the events of that moment"


async def test_a_backlog_that_is_too_large_is_said_to_be(books: Books) -> None:
    books.ledger.events_max = 0
    report = await books.report()
    assert (report.complete, report.agrees, report.differences, report.events) == (False, False, (), 1)


async def test_more_than_a_page_is_compared_whole(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credits, "SUMS_ROWS", 1)
    monkeypatch.setattr(stored, "KEYS_A_PAGE", 2)
    await books.store(*(event(60 + number, key_id=f"other{number:05}") for number in range(5)))
    report = await books.report()
    assert (report.keys, report.teams, report.agrees) == (1, 1, True)
    await books.pipe.call("HINCRBY", books.accounts[0], "charged", 1)
    (difference,) = (await books.report()).differences
    assert difference.owner == Owner("key", books.key.id)
    await books.stores.value("UPDATE usage_monthly SET calls = calls + 1 WHERE api_key_id <> $1", books.key.id)
    found = [one.owner.id for one in (await books.report()).differences if one.what == "daily"]
    assert found == [f"other{number:05}" for number in range(5)]


async def test_of_too_many_differences_the_first_are_listed(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "LISTED_MAX", 2)
    await books.store(*(event(60 + number, key_id=f"other{number:05}") for number in range(5)))
    await books.stores.value("UPDATE usage_monthly SET calls = calls + 1")
    found = await books.report()
    assert (found.differing, len(found.differences), found.agrees) == (6, 2, False)


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
