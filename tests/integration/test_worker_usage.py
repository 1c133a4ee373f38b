"""Usage rows: exactly one a call, whatever dies, repeats or is poison on the way from the stream into Postgres."""

import asyncio
import io
import random
import signal
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from itertools import product
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from redis.asyncio import Redis

from gateway.admin.postgres import Postgres, open_pool
from gateway.core.usage import Tried, UsageEvent
from gateway.dev.postgres import EmbeddedPostgres
from gateway.errors import StoreUnavailable, Unavailable
from gateway.state import keyspace
from gateway.telemetry.logs import Log
from tests.commands import functions_of
from tests.integration.usage_events import AT_MS, DETAIL, event, fields
from workers.batch import Bad, BatchPolicy
from workers.failpoint import STEPS, Failpoint, go_on
from workers.migrate import migrate
from workers.store import UsageStore
from workers.stream import UsageStream
from workers.upkeep import Upkeep
from workers.usage import UsageWorker

STREAM, DEAD = keyspace.usage(0), keyspace.usage_dead(0)
POLICY = BatchPolicy(rows_max=100, wait_ms_max=20)
WAIT_S = 30.0


class Bench:
    """One shard's stream, one database, and workers between them."""

    def __init__(self, redis: Redis, postgres: Postgres) -> None:
        self.redis = redis
        self.postgres = postgres
        self.out = io.StringIO()
        self.log = Log(lambda: 0.0, self.out)

    def worker(self, name: str = "w", failpoint: Failpoint = go_on, **bounds: int) -> UsageWorker:
        bounds = {"block_ms": 20, "claim_idle_ms": 0} | bounds
        stream = UsageStream(self.redis, functions_of(self.redis), 0, name, POLICY, self.log, **bounds)
        return UsageWorker(stream, UsageStore(self.postgres, failpoint), self.log, failpoint)

    async def emit(self, *entries: dict[Any, Any]) -> list[bytes]:
        pipeline = self.redis.pipeline(transaction=False)
        for entry in entries:
            pipeline.xadd(STREAM, entry)
        ids: list[bytes] = await pipeline.execute()
        return ids

    async def rows(self, what: str = "*", where: str = "true") -> list[asyncpg.Record]:
        async with self.postgres.transaction() as connection:
            return await connection.fetch(f"SELECT {what} FROM usage_logs WHERE {where} ORDER BY created_at, id")

    async def all(self, table: str) -> list[asyncpg.Record]:
        """Every row of a table, in the order of its columns."""
        async with self.postgres.transaction() as connection:
            found: list[asyncpg.Record] = await connection.fetch(f"SELECT * FROM {table} AS t ORDER BY t")
            return found

    async def waiting(self) -> int:
        return int(await self.redis.xlen(STREAM))

    async def pending(self) -> int:
        return int((await self.redis.xpending(STREAM, keyspace.USAGE_GROUP))["pending"])

    async def dead(self) -> list[dict[bytes, bytes]]:
        return [entry for _, entry in await self.redis.xrange(DEAD)]

    async def drain(self, worker: UsageWorker) -> int:
        settled = 0
        deadline = time.monotonic() + WAIT_S
        while await self.waiting():
            assert time.monotonic() < deadline
            settled += await worker.run_once()
        return settled


@pytest.fixture
async def bench(redis_url: str, migrated_url: str) -> AsyncIterator[Bench]:
    redis, postgres = Redis.from_url(redis_url), await open_pool(migrated_url)
    yield Bench(redis, postgres)
    await redis.aclose()
    await postgres.close()


class Crash(BaseException):
    """Ends a worker where it stands."""


def crash(where: str) -> Failpoint:
    def failpoint(step: str) -> None:
        if step == where:
            raise Crash

    return failpoint


async def test_every_column_gets_its_own_value(bench: Bench) -> None:
    detail = msgspec.structs.replace(
        DETAIL, status="client_gone", http_status=499, streamed=True, finish_reason="stop", response_time_ms=1,
        first_token_ms=2, load_ms=3, prompt_ms=4, eval_ms=5, end_user="用户", dialect="openai", queue_ms=10,
        address_hash="0123456789abcdef", attempts=(Tried("other", "backend_unreachable", 11, 12),),
    )  # fmt: skip
    one = event(
        1, prompt_tokens=6, completion_tokens=7, credits_micro=8, estimated=True, detail=detail, team_id="team000001",
        team_credits_micro=9,
    )  # fmt: skip
    await bench.emit(fields(one))
    assert await bench.drain(bench.worker()) == 1
    row = dict((await bench.rows())[0])
    at = row.pop("created_at")
    assert round(at.timestamp() * 1000) == one.at_ms and at.microsecond % 1000 == 0
    assert str(row.pop("id")) == one.id
    assert row.pop("api_key_id") == one.key_id
    assert (row.pop("total_tokens"), row.pop("gpu_ms")) == (13, 12)
    names = (
        "prompt_tokens",
        "completion_tokens",
        "credits_micro",
        "estimated",
        "month",
        "team_id",
        "team_credits_micro",
    )
    top = {name: getattr(one, name) for name in names}
    told = msgspec.structs.asdict(detail)
    (tried,) = told.pop("attempts")
    assert row == top | told
    (attempt,) = await bench.all("usage_attempts")
    expected = {"call_id": attempt["call_id"], "created_at": at, "number": 1} | msgspec.structs.asdict(tried)
    assert (dict(attempt), str(attempt["call_id"])) == (expected, one.id)


async def test_committed_first_acknowledged_after(bench: Bench) -> None:
    seen: list[tuple[str, int, int]] = []

    class Watching(UsageStore):
        async def insert(self, events: Any) -> Any:
            seen.append(("before", len(await bench.rows()), await bench.pending()))
            inserted = await super().insert(events)
            seen.append(("after", len(await bench.rows()), await bench.pending()))
            return inserted

    stream = UsageStream(bench.redis, functions_of(bench.redis), 0, "w", POLICY, bench.log, block_ms=20)
    worker = UsageWorker(stream, Watching(bench.postgres), bench.log)
    await stream.ensure_group()
    await bench.emit(*(fields(event(number)) for number in range(5)))
    assert await worker.run_once() == 5
    assert seen == [("before", 0, 5), ("after", 5, 5)]
    assert (await bench.waiting(), await bench.pending()) == (0, 0)
    assert await worker.run_once() == 0


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("step", sorted(set(STEPS) - {"reap"}))
async def test_a_crash_at_any_step_loses_and_doubles_nothing(bench: Bench, side: str, step: str) -> None:
    events = [event(number) for number in range(30)]
    await bench.emit(*(fields(one) for one in events), fields(event(99), prompt=b"poison"))
    assert await bench.worker("crashed").run_once() == 0  # makes the group
    with pytest.raises(Crash):
        await bench.worker("crashed", crash(f"{side} {step}")).run_once()
    await bench.drain(bench.worker("heir"))
    assert [str(row["id"]) for row in await bench.rows()] == [one.id for one in events]
    assert len(await bench.dead()) == 1
    assert (await bench.waiting(), await bench.pending()) == (0, 0)


KILLED = textwrap.dedent("""
    import asyncio, os, signal, sys, time
    from redis.asyncio import Redis
    from gateway.admin.postgres import open_pool
    from gateway.telemetry.logs import Log
    from workers.batch import BatchPolicy
    from workers.store import UsageStore
    from workers.stream import UsageStream
    from workers.usage import UsageWorker
    from tests.commands import functions_of

    async def main(redis_url, migrated_url, step):
        def failpoint(done):
            if done == step:
                os.kill(os.getpid(), signal.SIGKILL)
        redis = Redis.from_url(redis_url)
        stream = UsageStream(redis, functions_of(redis), 0, "killed", BatchPolicy(), Log(time.time))
        store = UsageStore(await open_pool(migrated_url), failpoint)
        worker = UsageWorker(stream, store, Log(time.time), failpoint)
        while True:
            await worker.run_once()

    asyncio.run(main(*sys.argv[1:]))
""")


@pytest.mark.parametrize("step", ["after read", "after insert", "after commit"])
async def test_kill_minus_nine_between_read_and_ack_makes_no_double_row(
    bench: Bench, redis_url: str, migrated_url: str, step: str
) -> None:
    await bench.emit(*(fields(event(number)) for number in range(500)))
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, redis_url, migrated_url, step)
    assert await asyncio.wait_for(process.wait(), WAIT_S) == -signal.SIGKILL
    assert len(await bench.rows()) == (500 if step == "after commit" else 0)
    assert (await bench.waiting(), await bench.pending()) == (500, 500)
    assert await bench.drain(bench.worker("heir")) == 500
    assert len(await bench.rows()) == 500
    assert (await bench.waiting(), await bench.pending()) == (0, 0)


async def test_an_id_counts_once_and_the_first_one_stays(bench: Bench) -> None:
    first, other = event(1, prompt_tokens=1), event(1, prompt_tokens=999)
    await bench.emit(fields(first), fields(other), fields(event(2)), fields(first))
    await bench.drain(bench.worker())
    await bench.emit(fields(other))
    await bench.drain(bench.worker())
    assert [row["prompt_tokens"] for row in await bench.rows()] == [1, 11]


def poison() -> list[dict[Any, Any]]:
    """Entries no row can be made of: those that `decode` finds, and those that only Postgres does."""
    rng = random.Random(1)
    long = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=20_000))  # too long for an index, even packed
    return [
        {"strange": "entry"},
        fields(event(901), v=b"2"),
        fields(event(902), id=b"not a uuid"),
        fields(event(903), prompt=b"many"),
        fields(event(904), prompt=b"9223372036854775808"),
        fields(event(905), completion=b"-1"),
        fields(event(906), credits=b"-5"),
        fields(event(907), month=b"2026-11"),
        fields(event(908), at=b"1"),
        fields(event(909), key=b"a\0b"),
        fields(event(910), detail=b"{"),
        fields(event(911), detail=b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        fields(event(912), detail=b'{"end_user":"\\u0000"}'),
        fields(event(913), detail=b'{"load_ms":-1}'),
        fields(event(914, detail=msgspec.structs.replace(DETAIL, model=long))),
        fields(event(915, detail=msgspec.structs.replace(DETAIL, model="cursed"))),
        fields(event(916, detail=msgspec.structs.replace(DETAIL, model="cursed"))),
    ]


async def test_poison_is_set_aside_with_its_reason_and_the_rest_is_committed(bench: Bench, migrated_url: str) -> None:
    connection = await asyncpg.connect(migrated_url)
    await connection.execute("ALTER TABLE usage_logs ADD CONSTRAINT no_curses CHECK (model <> 'cursed')")
    await connection.close()
    bad = poison()
    good = [event(number) for number in range(150)]
    entries = [fields(one) for one in good]
    for place, entry in enumerate(bad):
        entries.insert(place * 9, entry)
    ids = await bench.emit(*entries)
    assert await bench.drain(bench.worker()) == len(entries)
    assert [str(row["id"]) for row in await bench.rows()] == [one.id for one in good]
    dead = {entry.pop(b"dead_entry"): (entry.pop(b"dead_reason").decode(), entry) for entry in await bench.dead()}
    assert set(dead) == {ids[entries.index(entry)] for entry in bad}
    reasons = sorted(reason for reason, _ in dead.values())
    assert [reason for reason in reasons if reason.startswith("postgres")] == [
        "postgres 23514 no_curses",
        "postgres 23514 no_curses",
        "postgres 54000 ProgramLimitExceededError",
    ]
    whole = {b"strange": b"entry"}
    assert whole in [entry for _, entry in dead.values()]
    assert "cursed" not in bench.out.getvalue() and "many" not in bench.out.getvalue()
    assert (await bench.waiting(), await bench.pending()) == (0, 0)


async def test_an_entry_whose_body_is_gone_is_counted_and_not_a_crash(bench: Bench) -> None:
    worker = bench.worker("w", crash("after read"))
    ids = await bench.emit(*(fields(event(number)) for number in range(3)))
    await worker.run_once()
    with pytest.raises(Crash):
        await worker.run_once()
    await bench.redis.xdel(STREAM, ids[1])
    assert await bench.drain(bench.worker("w")) == 3  # its own
    assert [entry[b"dead_reason"] for entry in await bench.dead()] == [b"body is gone"]
    assert len(await bench.rows()) == 2
    assert await bench.pending() == 0


async def test_an_entry_deleted_under_a_dead_worker_is_reported(bench: Bench) -> None:
    ids = await bench.emit(*(fields(event(number)) for number in range(3)))
    crashed = bench.worker("crashed", crash("after read"))
    await crashed.run_once()
    with pytest.raises(Crash):
        await crashed.run_once()
    await bench.redis.xdel(STREAM, ids[1])
    await bench.drain(bench.worker("heir"))
    assert '"usage_lost"' in bench.out.getvalue()
    assert len(await bench.rows()) == 2
    assert await bench.pending() == 0


async def test_what_a_dead_worker_held_is_claimed_to_the_last_entry(bench: Bench) -> None:
    """More than a page of XAUTOCLAIM, behind a stretch that is not idle long enough."""
    events = [event(number) for number in range(250)]
    await bench.emit(*(fields(one) for one in events))
    stream = UsageStream(
        bench.redis,
        functions_of(bench.redis),
        0,
        "dead",
        BatchPolicy(rows_max=250, wait_ms_max=1),
        bench.log,
        block_ms=20,
    )
    await stream.ensure_group()
    held = await stream.read()
    assert len(held) == 250
    long_idle = [one.id for one in held[120:]]
    await bench.redis.xclaim(STREAM, keyspace.USAGE_GROUP, "dead", 0, long_idle, idle=60_000, justid=True)
    heir = bench.worker("heir", claim_idle_ms=30_000)
    assert [await heir.run_once(), await heir.run_once(), await heir.run_once()] == [100, 30, 0]
    assert [str(row["id"]) for row in await bench.rows()] == [one.id for one in events[120:]]
    assert await bench.pending() == 120  # still with the one that may live


async def test_two_workers_side_by_side_make_one_row_a_call(bench: Bench) -> None:
    events = [event(number, key_id=f"key{number % 7}") for number in range(2_000)]
    numbers = [number for number in range(2_000) for _ in range(1 + (number % 10 == 0))]
    random.shuffle(numbers)
    await bench.emit(*(fields(events[number]) for number in numbers))
    settled = await asyncio.gather(*(bench.drain(bench.worker(name)) for name in ("one", "two", "three")))
    assert sum(settled) >= len(numbers)  # an entry that was claimed from a live worker is settled twice
    rows = await bench.rows("id")
    assert [str(row["id"]) for row in rows] == [one.id for one in events]
    assert (await bench.waiting(), await bench.pending()) == (0, 0)


async def test_redis_that_lost_everything_gets_its_group_again(bench: Bench) -> None:
    worker = bench.worker()
    await bench.emit(fields(event(1)))
    await bench.drain(worker)
    await bench.redis.flushall()
    await bench.emit(fields(event(2)))  # before the worker notices
    await bench.drain(worker)
    assert len(await bench.rows()) == 2


async def test_a_late_event_goes_to_its_own_months_partition(bench: Bench) -> None:
    august, september = 1_787_000_000_000, 1_788_220_800_000  # 2026-08-18, 2026-09-01 00:00 UTC
    async with bench.postgres.transaction() as connection:
        for day in ("2026-08-01", "2026-09-01"):
            await connection.execute(f"SELECT make_usage_partition('{day}')")
    await bench.emit(
        fields(event(1, at_ms=august, month="202608")),
        fields(event(2, at_ms=september - 1, month="202608")),
        fields(event(3, at_ms=september, month="202609")),
    )
    await bench.drain(bench.worker())
    placed = await bench.rows("tableoid::regclass::text AS place, month")
    assert [tuple(row) for row in placed] == [
        ("usage_logs_202608", "202608"),
        ("usage_logs_202608", "202608"),
        ("usage_logs_202609", "202609"),
    ]


async def test_rows_without_a_partition_wait_in_the_default_one_until_upkeep(bench: Bench) -> None:
    at = {"202507": 1_752_000_000_000, "202611": AT_MS}
    await bench.emit(*(fields(event(n, at_ms=ms, month=month)) for n, (month, ms) in enumerate(at.items())))
    await bench.drain(bench.worker())
    assert len(await bench.rows("id", "tableoid = 'usage_logs_default'::regclass")) == 2
    upkeep = Upkeep(bench.postgres, bench.log)
    assert await upkeep.run_once() >= 4
    assert '"usage_in_default_partition","months":["202507"' in bench.out.getvalue()
    assert await upkeep.run_once() == 0
    assert not await bench.rows("id", "tableoid = 'usage_logs_default'::regclass")
    placed = {row["month"]: row["place"] for row in await bench.rows("tableoid::regclass::text AS place, month")}
    assert placed == {month: f"usage_logs_{month}" for month in at}
    await bench.emit(*(fields(event(n, at_ms=ms, month=month)) for n, (month, ms) in enumerate(at.items())))
    await bench.drain(bench.worker())
    assert len(await bench.rows()) == 2  # redelivered after the move: still the same rows


async def test_upkeep_makes_this_month_and_the_next_three(bench: Bench) -> None:
    upkeep = Upkeep(bench.postgres, bench.log)
    made = await asyncio.gather(upkeep.run_once(), upkeep.run_once())
    assert sum(made) == 4
    async with bench.postgres.transaction() as connection:
        names = await connection.fetch("SELECT inhrelid::regclass::text AS name FROM pg_inherits ORDER BY 1")
        month = await connection.fetchval("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMM')")
    assert f"usage_logs_{month}" in {row["name"] for row in names}


async def test_a_row_on_its_way_while_its_partition_appears_is_no_poison(bench: Bench, migrated_url: str) -> None:
    """It was routed to the default partition, waits for the lock, and may no longer go there when it gets it."""
    await bench.emit(fields(event(1)))
    worker = bench.worker()
    await worker.run_once()
    maker, observer = await asyncpg.connect(migrated_url), await asyncpg.connect(migrated_url)
    async with maker.transaction():
        await maker.execute("SELECT make_usage_partition('2026-11-01')")
        working = asyncio.create_task(worker.run_once())
        deadline = time.monotonic() + WAIT_S
        while not await observer.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)
    assert await working == 1
    assert await bench.dead() == []
    assert await bench.rows("id", "tableoid = 'usage_logs_202611'::regclass")
    await maker.close()
    await observer.close()


async def test_writing_goes_on_while_partitions_are_made(bench: Bench) -> None:
    days_ms = 24 * 3_600_000
    events = [event(n, at_ms=1_893_456_000_000 + n % 700 * days_ms) for n in range(4_000)]  # 2030 and 2031
    await bench.emit(*(fields(one) for one in events))

    async def make() -> None:
        for year, month in product((2030, 2031), range(1, 13)):
            async with bench.postgres.transaction() as connection:
                await connection.execute(f"SELECT make_usage_partition('{year}-{month:02d}-01')")

    await asyncio.gather(make(), bench.drain(bench.worker("one")), bench.drain(bench.worker("two")))
    assert await bench.dead() == []
    assert len(await bench.rows("id")) == len(events)


async def test_while_postgres_is_down_nothing_is_acknowledged_and_then_all_is(redis_url: str, short_dir: Path) -> None:
    server = EmbeddedPostgres(short_dir / "p", fsync=False)
    await server.start()
    redis, postgres = Redis.from_url(redis_url), await open_pool(server.url)
    bench = Bench(redis, postgres)
    try:
        await migrate(server.url)
        await bench.emit(*(fields(event(number)) for number in range(250)))
        worker = bench.worker()
        await worker.run_once()
        assert await worker.run_once() == 100
        await server.kill()
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await worker.run_once()
        assert (await bench.waiting(), await bench.pending()) == (150, 100)  # one batch in hand, never more
        await server.start()
        assert await bench.drain(worker) == 150
        assert len(await bench.rows()) == 250
        assert await bench.dead() == []
    finally:
        await redis.aclose()
        await postgres.close()
        await server.stop()


async def test_postgres_that_is_not_migrated_or_locked_is_away_and_not_poison(
    redis_url: str, database_url: str
) -> None:
    redis, postgres = Redis.from_url(redis_url), await open_pool(database_url)
    bench = Bench(redis, postgres)
    await bench.emit(fields(event(1)))
    worker = bench.worker()
    await worker.run_once()
    with pytest.raises(StoreUnavailable):
        await worker.run_once()
    await migrate(database_url)
    holder = await asyncpg.connect(database_url)
    async with holder.transaction():
        await holder.execute("LOCK TABLE usage_logs IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StoreUnavailable):
            await worker.run_once()
    await holder.close()
    await bench.drain(worker)
    assert len(await bench.rows()) == 1
    await redis.aclose()
    await postgres.close()


async def test_redis_that_is_away_is_said_to_be_away(bench: Bench, short_dir: Path) -> None:
    away = Redis.from_url(f"unix://{short_dir}/nothing.sock")
    stream = UsageStream(away, functions_of(away), 0, "w", POLICY, bench.log)
    for attempt in (stream.read(), stream.ack([b"1-0"]), stream.ensure_group(), stream.retire()):
        with pytest.raises(Unavailable):
            await attempt


async def test_a_batch_waits_for_more_but_not_for_long(bench: Bench) -> None:
    policy = BatchPolicy(rows_max=10, wait_ms_max=10_000)
    stream = UsageStream(bench.redis, functions_of(bench.redis), 0, "w", policy, bench.log, block_ms=5_000)
    await stream.ensure_group()
    await bench.emit(fields(event(0)))
    reading = asyncio.create_task(stream.read())
    for number in range(1, 10):
        await bench.emit(fields(event(number)))
    assert len(await asyncio.wait_for(reading, 5)) == 10  # full before its time


async def test_consumers_of_the_long_dead_are_removed_unless_they_hold_something(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.stream.RETIRE_IDLE_MS", -1)
    await bench.emit(fields(event(1)))
    holding = UsageStream(bench.redis, functions_of(bench.redis), 0, "holding", POLICY, bench.log, block_ms=20)
    idle = UsageStream(
        bench.redis, functions_of(bench.redis), 0, "idle", POLICY, bench.log, block_ms=20, claim_idle_ms=10**9
    )
    assert await idle.retire() == 0  # there is no group
    await holding.ensure_group()
    assert len(await holding.read()) == 1
    assert await idle.read() == []
    assert await idle.retire() == 1
    names = [one["name"] for one in await bench.redis.xinfo_consumers(STREAM, keyspace.USAGE_GROUP)]
    assert names == [b"holding"]
    assert await bench.pending() == 1


async def test_three_workers_on_overlapping_batches_never_deadlock(bench: Bench) -> None:
    rng = random.Random(2)
    events = [event(number, key_id=f"key{number % 5}") for number in range(600)]

    async def insert(batches: int) -> int:
        store = UsageStore(bench.postgres)
        return sum([(await store.insert(rng.sample(events, 110))).rows for _ in range(batches)])

    rows = await asyncio.gather(*(insert(25) for _ in range(4)))
    assert sum(rows) == len(await bench.rows())


async def test_rows_a_second(bench: Bench, record_property: Callable[[str, object], None]) -> None:
    """Printed with -s: what one worker inserts, in batches as it makes them."""
    store, batches = UsageStore(bench.postgres), 20
    await Upkeep(bench.postgres, bench.log).run_once()
    made: list[list[UsageEvent]] = [[event(b * 1_000 + n) for n in range(1_000)] for b in range(batches)]
    began = time.perf_counter()
    for batch in made:
        await store.insert(batch)
    per_s = round(batches * 1_000 / (time.perf_counter() - began))
    record_property("rows_per_s", per_s)
    sys.stderr.write(f"\ninserted {per_s} rows/s\n")
    assert len(await bench.rows("id")) == batches * 1_000


async def test_a_full_redis_is_drained_whatever_is_poison(bench: Bench) -> None:
    """Acknowledging frees memory; setting aside needs some, and must be let."""
    await bench.emit(*(fields(event(number)) for number in range(20)), fields(event(99), prompt=b"poison"))
    worker = bench.worker()
    assert await worker.run_once() == 0  # makes the group
    await functions_of(bench.redis).load()
    await bench.redis.config_set("maxmemory", 1)
    try:
        assert await bench.drain(worker) == 21
    finally:
        await bench.redis.config_set("maxmemory", 0)
    assert (len(await bench.rows()), len(await bench.dead())) == (20, 1)


async def test_an_entry_set_aside_by_two_is_dead_once(bench: Bench) -> None:
    (entry,) = await bench.emit(fields(event(1), prompt=b"poison"))
    functions, times = functions_of(bench.redis), {"block_ms": 20, "claim_idle_ms": 0}
    slow, quick = (
        UsageStream(bench.redis, functions, 0, name, POLICY, bench.log, **times) for name in ("slow", "quick")
    )
    await slow.ensure_group()
    held = await slow.read()
    assert [one.id for one in held] == [one.id for one in await quick.read()] == [entry]
    for stream in (quick, slow):
        await stream.set_aside([Bad(held[0], "because")])
    (dead,) = await bench.dead()
    assert dead == {**held[0].fields, b"dead_reason": b"because", b"dead_entry": entry}
    assert (await bench.waiting(), await bench.pending()) == (0, 0)
