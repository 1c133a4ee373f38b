"""Dead events: listed as they are, put back once each, and made rows when what was wrong with them is gone."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from redis.asyncio import Redis

from gateway.admin.author import Author
from gateway.admin.postgres import Postgres, open_pool
from gateway.admin.replays import ACTION, NAMED_MAX, OBJECT, Replays
from gateway.core.usage import Tried
from gateway.errors import IdempotencyMismatch, StoreUnavailable
from gateway.state import dead as state
from gateway.state import keyspace
from gateway.state.dead import FIELDS, FIRST, DeadEvents, id_of, place_of
from gateway.state.functions import Functions
from gateway.state.pipe import Pipe
from gateway.telemetry.logs import Log
from tests.commands import functions_of
from tests.integration.usage_events import AT_MS, DETAIL, event, fields
from tests.world import POLL_S, World
from workers.batch import BatchPolicy
from workers.store import UsageStore
from workers.stream import UsageStream
from workers.usage import UsageWorker

SHARDS = 3
TIMEOUT_MS = 5_000
WAIT_S = 60.0
CURSE = "ALTER TABLE usage_logs ADD CONSTRAINT no_curses CHECK (model <> 'cursed')"
LIFTED = "ALTER TABLE usage_logs DROP CONSTRAINT no_curses"
BY = Author(name="ann", request_id="r1")


class Bench:
    """Streams of three shards, the database, and what works on them."""

    def __init__(self, redis: Redis, pipe: Pipe, postgres: Postgres) -> None:
        self.redis = redis
        self.postgres = postgres
        self.dead = DeadEvents(pipe, Functions(pipe), SHARDS)
        self.replays = Replays(postgres, self.dead)

    async def bury(self, shard: int, *entries: dict[Any, Any], reason: str = "tokens out of range") -> list[str]:
        """As a worker does it; the ids that operators see."""
        found = []
        for number, entry in enumerate(entries):
            died = {"dead_reason": reason, "dead_entry": f"{AT_MS}-{number}"}
            found.append((await self.redis.xadd(keyspace.usage_dead(shard), {**entry, **died})).decode())
        return [id_of((shard, one)) for one in found]

    async def work(self) -> None:
        """A worker for each shard, until nothing waits."""
        for shard in range(SHARDS):
            stream = UsageStream(
                self.redis, functions_of(self.redis), shard, "w", BatchPolicy(), Log(lambda: 0.0), block_ms=20
            )
            worker = UsageWorker(stream, UsageStore(self.postgres), Log(lambda: 0.0))
            async with asyncio.timeout(WAIT_S):
                while await self.redis.xlen(keyspace.usage(shard)):
                    await worker.run_once()

    async def sql(self, text: str) -> list[asyncpg.Record]:
        async with self.postgres.transaction() as connection:
            found: list[asyncpg.Record] = await connection.fetch(text)
            return found

    async def stored(self) -> list[str]:
        return [str(row["id"]) for row in await self.sql("SELECT id FROM usage_logs ORDER BY created_at, id")]

    async def all(self) -> list[str]:
        return [one.id for one in await self.dead.page(FIRST, 10_000)]

    async def waiting(self) -> list[dict[bytes, bytes]]:
        return [entry for shard in range(SHARDS) for _, entry in await self.redis.xrange(keyspace.usage(shard))]


@pytest.fixture
async def bench(redis_url: str, migrated_url: str) -> AsyncIterator[Bench]:
    redis, postgres = Redis.from_url(redis_url), await open_pool(migrated_url)
    pipe = Pipe(redis_url, TIMEOUT_MS)
    pipe.start()
    yield Bench(redis, pipe, postgres)
    await pipe.close()
    await redis.aclose()
    await postgres.close()


async def test_an_event_is_shown_with_its_own_fields_and_no_others(bench: Bench) -> None:
    long = "x" * (state.VALUE_CHARS_MAX + 1)
    entry = fields(event(1, team_id="team000001"), prompt=long.encode(), completion=b"\xff") | {"prompt_text": "secret"}
    (id_,) = await bench.bury(1, entry, reason="postgres 23514 no_curses")
    (found,) = await bench.dead.page(FIRST, 10)
    assert (found.id, found.place[0], found.reason) == (id_, 1, "postgres 23514 no_curses")
    assert found.entry == f"{AT_MS}-0"
    assert tuple(found.fields) == FIELDS and found.others == 1
    assert (found.fields["id"], found.fields["key"]) == (event(1).id, "abcDEF1234")
    assert (found.fields["prompt"], found.fields["completion"]) == (long[:-1], "\\xff")
    assert "secret" not in repr(found)
    assert abs(found.died_ms - 1000 * (await bench.redis.time())[0]) < 60_000


@pytest.mark.parametrize("page", [1, 2, 7, 100])
async def test_all_are_listed_once_shard_by_shard_whatever_the_page(bench: Bench, page: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(state, "EVENTS_A_LOOK", 3)
    buried = [await bench.bury(shard, *(fields(event(9 * shard + n)) for n in range(7))) for shard in (0, 2)]
    found, after = [], FIRST
    while some := await bench.dead.page(after, page):
        assert len(some) <= page
        found += [one.id for one in some]
        after = some[-1].place
    assert found == [one for ids in buried for one in ids]
    assert await bench.dead.count() == 14


@pytest.mark.parametrize("text", ["", "0", "1-0", "0:1", "0:1-", "3:1-0", "-1:1-0", "0:1-0 ", "0:٣-0", f"0:{2**64}-0"])
def test_what_names_no_place_is_none(text: str) -> None:
    assert place_of(text, SHARDS) is None


def test_a_place_is_read_as_it_is_written() -> None:
    for place in ((0, "0-0"), (2, f"{2**64 - 1}-{2**64 - 1}")):
        assert place_of(id_of(place), SHARDS) == place


async def test_chosen_events_are_put_back_whole_and_once(bench: Bench) -> None:
    entries = [fields(event(number)) for number in range(4)]
    zero, two = await bench.bury(0, *entries[:2]), await bench.bury(2, *entries[2:])
    places = [place for one in (zero[1], two[0]) if (place := place_of(one, SHARDS))]
    assert await bench.dead.replay([*places, (1, "5-5")]) == 2
    as_written = [{name.encode(): str(value).encode() if not isinstance(value, bytes) else value
                   for name, value in entries[number].items()} for number in (1, 2)]  # fmt: skip
    assert await bench.waiting() == as_written
    assert await bench.dead.replay(places) == 0
    assert await bench.all() == [zero[0], two[1]]
    assert len(await bench.waiting()) == 2


async def test_all_are_put_back_but_those_that_are_nothing(bench: Bench, monkeypatch: Any) -> None:
    """An entry without a body, and one with more fields than a function could pass on."""
    monkeypatch.setattr(state, "REPLAYED_AT_ONCE", 4)
    nothing = await bench.bury(1, {})
    huge = await bench.bury(1, {f"f{number}": 1 for number in range(5_000)})
    for shard in range(SHARDS):
        await bench.bury(shard, *(fields(event(100 * shard + number)) for number in range(10)))
    assert await bench.dead.replay_all() == 30
    assert await bench.all() == [*nothing, *huge]
    assert await bench.dead.replay([place for one in (*nothing, *huge) if (place := place_of(one, SHARDS))]) == 0
    await bench.work()
    assert len(await bench.stored()) == 30


async def test_one_request_puts_back_only_so_many(bench: Bench, monkeypatch: Any) -> None:
    monkeypatch.setattr(state, "REPLAYED_MAX", 5)
    monkeypatch.setattr(state, "REPLAYED_AT_ONCE", 2)
    for shard in range(SHARDS):
        await bench.bury(shard, *(fields(event(10 * shard + number)) for number in range(3)))
    assert [await bench.dead.replay_all() for _ in range(3)] == [5, 4, 0]


async def test_a_replay_is_in_the_audit_log_and_carried_out_once_for_each_idempotency_key(bench: Bench) -> None:
    ids = await bench.bury(0, *(fields(event(number)) for number in range(NAMED_MAX + 5)))
    places = [place for one in ids[:2] if (place := place_of(one, SHARDS))]
    by = msgspec.structs.replace(BY, idempotency_key="k", fingerprint="f")
    first = await bench.replays.replay(by, places)
    assert (first.replayed, first.left) == (2, NAMED_MAX + 3)
    assert await bench.replays.replay(by, places) == first
    with pytest.raises(IdempotencyMismatch):
        await bench.replays.replay(msgspec.structs.replace(by, fingerprint="g"), None)
    await bench.replays.replay(BY, None)
    entries = await bench.sql("SELECT actor, action, object, before, after, request_id FROM audit_log ORDER BY id")
    assert [tuple(row)[:3] for row in entries] == [("ann", ACTION, OBJECT)] * 2
    told = [(msgspec.json.decode(row["before"]), msgspec.json.decode(row["after"])) for row in entries]
    assert told == [
        ({"dead": NAMED_MAX + 5}, {"dead": NAMED_MAX + 3, "replayed": 2, "asked": ids[:2]}),
        ({"dead": NAMED_MAX + 3}, {"dead": 0, "replayed": NAMED_MAX + 3, "asked": "all"}),
    ]


async def test_nothing_is_put_back_while_no_row_could_be_made(bench: Bench) -> None:
    await bench.bury(0, fields(event(1)))
    away = await open_pool("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(StoreUnavailable):
        await Replays(away, bench.dead).replay(BY, None)
    await away.close()
    assert await bench.dead.count() == 1
    assert await bench.waiting() == []


def poison(number: int, chance: random.Random) -> dict[Any, Any]:
    """One of twenty kinds of events that no row can be made of."""
    one = event(BAD + number)

    def told(**changes: Any) -> dict[Any, Any]:
        return fields(msgspec.structs.replace(one, detail=msgspec.structs.replace(DETAIL, **changes)))

    kinds: list[dict[Any, Any]] = [
        {"strange": "entry"},
        fields(one, v=b"2"),
        fields(one, id=b"not a uuid"),
        fields(one, prompt=b"many"),
        fields(one, prompt=b"9223372036854775808"),
        fields(one, completion=b"-1"),
        fields(one, credits=b"-5"),
        fields(one, team_credits=b"9" * 30),
        fields(one, month=b"2026-11"),
        fields(one, at=b"1"),
        fields(one, key=b"a\0b"),
        fields(one, team=b"\xff"),
        fields(one, detail=b"{"),
        fields(one, detail=b'{"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}"),
        fields(one, detail=b'{"end_user":"\\u0000"}'),
        fields(one, detail=b'{"load_ms":-1}'),
        told(attempts=(Tried("n", "s", 1, 1),) * 33),
        told(model="".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=20_000))),  # too long for an index
        {name: value for name, value in fields(one).items() if name != "at"},
        told(model="cursed"),  # until the constraint is gone
    ]
    assert len(kinds) == KINDS
    return kinds[number % KINDS]


KINDS = 20
EACH = 1_000
"""one event in so many is poison"""
BAD = 10**6
"""numbers of bad events begin here"""


class Poisoned:
    """So many events in the first shard's stream, of which one in a thousand is poison, each kind in turn."""

    def __init__(self, bench: Bench, events: int, chance: random.Random) -> None:
        self._bench = bench
        self._chance = chance
        self._events = events
        self.bad = {EACH * number + chance.randrange(EACH): number for number in range(events // EACH)}
        self.good = [event(number).id for number in range(events) if number not in self.bad]
        self.healed = [event(BAD + number).id for number in self.bad.values() if number % KINDS == KINDS - 1]

    async def emit(self) -> None:
        await self._bench.sql(CURSE)
        pipeline = self._bench.redis.pipeline(transaction=False)
        for number in range(self._events):
            bad = self.bad.get(number)
            entry = fields(event(number)) if bad is None else poison(bad, self._chance)
            pipeline.xadd(keyspace.usage(0), entry)
        await pipeline.execute()

    async def is_sorted_out(self) -> None:
        """Every good one is a row, every bad one dead, with a reason."""
        assert await self._bench.stored() == self.good
        assert await self._bench.dead.count() == len(self.bad)
        reasons = [one.reason for one in await self._bench.dead.page(FIRST, 10_000)]
        assert all(reasons) and reasons.count("postgres 23514 no_curses") == len(self.healed)

    async def heal(self) -> None:
        """Of the dead, only what a constraint refused can be a row now."""
        await self._bench.sql(LIFTED)
        await self._bench.replays.replay(BY, None)

    async def is_healed(self) -> None:
        assert set(await self._bench.stored()) == {*self.good, *self.healed}
        assert await self._bench.dead.count() == len(self.bad) - len(self.healed)
        (sums,) = await self._bench.sql("SELECT sum(calls)::int AS calls FROM usage_monthly")
        assert sums["calls"] == len(self.good) + len(self.healed)


@pytest.mark.timeout(180)
async def test_one_poison_in_a_thousand_costs_no_good_row_and_the_healed_come_back(bench: Bench, seed: str) -> None:
    """F21: of twenty kinds one each."""
    poisoned = Poisoned(bench, KINDS * EACH, random.Random(seed))
    await poisoned.emit()
    await bench.work()
    await poisoned.is_sorted_out()
    await poisoned.heal()
    await bench.work()
    await poisoned.is_healed()


@pytest.mark.timeout(180)
async def test_a_worker_process_sorts_out_the_same(
    bench: Bench, redis_url: str, migrated_url: str, short_dir: Path, seed: str
) -> None:
    world = World(redis_url, migrated_url, [], short_dir)
    poisoned = Poisoned(bench, KINDS * EACH, random.Random(seed))
    await poisoned.emit()
    world.add_worker()
    try:
        await _drained(bench)
        await poisoned.is_sorted_out()
        await poisoned.heal()
        await _drained(bench)
        await poisoned.is_healed()
    finally:
        await world.stop()
    assert not any(word in world.log("worker-0") for word in ("cursed", "not a uuid"))


async def _drained(bench: Bench) -> None:
    async with asyncio.timeout(WAIT_S):
        while await bench.redis.xlen(keyspace.usage(0)):
            await asyncio.sleep(POLL_S)
