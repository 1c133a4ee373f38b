"""When a call was admitted decides where it counts, and nothing else does: not when its event comes, nor how often, nor
in which order, nor what time zone the database thinks in."""

import asyncio
import io
import random
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

import asyncpg
import msgspec
import pytest
from redis.asyncio import Redis

from gateway.admin.postgres import open_pool
from gateway.core.usage import UsageEvent
from gateway.state import keyspace
from gateway.telemetry.logs import Log
from tests.commands import functions_of
from tests.conftest import administer
from tests.integration.usage_events import fields
from tests.integration.usage_ledger import EVENTS, HOUR_MS, PARTITIONED, Ledger, around, at, ms_of
from workers.batch import BatchPolicy
from workers.migrate import migrate
from workers.store import UsageStore
from workers.stream import UsageStream
from workers.upkeep import Upkeep
from workers.usage import UsageWorker

REDELIVERED = 0.3
MIDNIGHTS = ("2026-11-01", "2027-01-01", "2028-03-01")
"""of a new month: after one that has ended by now, at a year's end, after a leap day"""
NEW_YORK = "America/New_York"
STORES, BATCHES, HOT_KEYS, SAMPLE = 4, 20, 500, 220


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[Ledger]:
    await migrate(database_url)
    postgres = await open_pool(database_url)
    yield Ledger(database_url, postgres)
    await postgres.close()


@pytest.fixture
async def in_new_york(database_url: str) -> AsyncIterator[Ledger]:
    """The same, in a database whose sessions are in a time zone with summer time, from before its first table on."""
    name = urlsplit(database_url).path.removeprefix("/")
    await administer(database_url, f"ALTER DATABASE {name} SET TimeZone TO '{NEW_YORK}'")
    await migrate(database_url)
    postgres = await open_pool(database_url)
    yield Ledger(database_url, postgres)
    await postgres.close()


@pytest.mark.parametrize("midnight", MIDNIGHTS)
async def test_events_around_midnight_of_a_months_end_are_each_in_their_own_month_day_and_hour(
    ledger: Ledger, seed: str, midnight: str
) -> None:
    chance = random.Random(seed)
    midnight_ms = ms_of(midnight)
    await ledger.make_partitions(
        *(f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d}" for ms in (midnight_ms - 1, midnight_ms))
    )
    events = around(midnight_ms, chance)
    delivered = [*events, *chance.sample(events, round(EVENTS * REDELIVERED))]
    chance.shuffle(delivered)  # of one id all are alike: which comes first decides nothing
    assert await ledger.insert(delivered) == EVENTS
    await ledger.check(events)
    await ledger.check_places(events)


async def test_a_batch_that_is_delivered_again_changes_nothing(ledger: Ledger, seed: str) -> None:
    chance = random.Random(seed)
    events = around(ms_of(MIDNIGHTS[0]), chance, 2_000)
    assert await ledger.insert(events) == len(events)
    before, versions = await ledger.everything(), await ledger.versions()
    assert min(map(len, before.values())) > 0
    chance.shuffle(events)
    assert await ledger.insert(events) == 0
    changed = [msgspec.structs.replace(one, prompt_tokens=one.prompt_tokens + 1) for one in events]
    assert await ledger.insert(changed) == 0  # of one id the first row stays
    assert await ledger.everything() == before
    assert await ledger.versions() == versions


async def test_a_worker_that_is_a_month_late_and_dies_amid_it_puts_all_where_it_belongs(
    ledger: Ledger, redis_url: str, seed: str
) -> None:
    """Through the stream, whose entries are of now: their own time counts."""
    chance = random.Random(seed)
    events = around(ms_of(MIDNIGHTS[0]), chance, 3_000)
    redis, log = Redis.from_url(redis_url), Log(lambda: 0.0, io.StringIO())
    pipeline = redis.pipeline(transaction=False)
    for one in chance.sample(events, len(events)):
        pipeline.xadd(keyspace.usage(0), fields(one))
    await pipeline.execute()

    def worker(name: str, store: UsageStore) -> UsageWorker:
        policy = BatchPolicy(rows_max=400, wait_ms_max=1)
        return UsageWorker(
            UsageStream(redis, functions_of(redis), 0, name, policy, log, block_ms=1, claim_idle_ms=0), store, log
        )

    dying = worker("dying", UsageStore(ledger.postgres, _crash_behind("after commit", 3)))
    await dying.run_once()  # makes the group
    with pytest.raises(Crash):
        while True:
            await dying.run_once()
    heir = worker("heir", ledger.store)
    while await redis.xlen(keyspace.usage(0)):
        await heir.run_once()
    await ledger.check(events)
    await redis.aclose()


class Crash(BaseException):
    """Ends a worker where it stands."""


def _crash_behind(step: str, times: int) -> Callable[[str], None]:
    """At the so many-th time."""
    left = iter(range(times, 0, -1))

    def failpoint(done: str) -> None:
        if done == step and next(left) == 1:
            raise Crash

    return failpoint


async def test_events_of_a_month_without_partitions_are_moved_into_theirs_by_upkeep(ledger: Ledger, seed: str) -> None:
    chance = random.Random(seed)
    far = around(ms_of("2031-07-01"), chance, 2_000)  # further ahead than anybody makes partitions
    old = [at(len(far) + number, ms_of("2021-02-03") + number, chance) for number in range(500)]
    events = [*far, *old]
    chance.shuffle(events)
    await ledger.insert(events)
    await ledger.check(events)
    for table in PARTITIONED:
        assert await ledger.months_in_partitions(table) == {"default": {"202102", "203106", "203107"}}
    before = await ledger.everything()
    log = Log(lambda: 0.0, io.StringIO())
    upkeep = Upkeep(ledger.postgres, log)
    await upkeep.run_once()
    assert await ledger.everything() == before
    await ledger.check_places(events)
    more = [at(len(events) + number, one.at_ms, chance) for number, one in enumerate(events[:300])]
    await ledger.insert([*events[:300], *more])  # what is known, and what is new, finds its sums again
    await ledger.check([*events, *more])
    await ledger.check_places(events)


@pytest.mark.parametrize(
    "midnight",
    [
        pytest.param("2026-11-01", id="summer time ends in New York within the hours after it"),
        pytest.param("2027-03-14", id="summer time begins"),
        pytest.param("2027-01-01", id="five hours from midnight there"),
    ],
)
async def test_the_databases_time_zone_changes_nothing(in_new_york: Ledger, seed: str, midnight: str) -> None:
    chance = random.Random(seed)
    (zone,) = await in_new_york.fetch("SHOW TimeZone")
    assert zone[0] == NEW_YORK
    start_ms = ms_of(midnight)
    days = {f"{datetime.fromtimestamp((start_ms + hours * HOUR_MS) / 1000, UTC):%Y-%m-%d}" for hours in (-12, 12)}
    await in_new_york.make_partitions(*days)
    times = [start_ms + chance.randrange(-12 * HOUR_MS, 12 * HOUR_MS) for _ in range(2_000)]
    times += [start_ms + hour * HOUR_MS + ms for hour in range(-12, 12) for ms in (-1, 0, 1)]
    events = [at(number, ms, chance) for number, ms in enumerate(times)]
    assert await in_new_york.insert(events) == len(events)
    await in_new_york.check(events)
    await in_new_york.check_places(events)


async def test_sums_made_anew_from_the_rows_are_the_sums_that_were_raised(in_new_york: Ledger, seed: str) -> None:
    chance = random.Random(seed)
    events = around(ms_of(MIDNIGHTS[0]), chance, 3_000)
    await in_new_york.insert(events)
    before = await in_new_york.everything()
    for month in sorted({one.month for one in events}):
        await in_new_york.fetch(f"SELECT rebuild_usage_rollups('{month}')")
    assert await in_new_york.everything() == before


@pytest.mark.parametrize("shared", ["rows", "timings", "months"])
async def test_stores_side_by_side_on_hot_keys_never_deadlock(ledger: Ledger, seed: str, shared: str) -> None:
    """F24, with in-batch duplicates (F28): batches in any order. `shared`: what the stores meet at first, each of which
    would hide an order that is wrong in what they come to later."""
    chance = random.Random(seed)
    overlapping = shared == "rows"
    await ledger.make_partitions("2026-12-01", "2027-01-01")
    events = [
        msgspec.structs.replace(one, key_id=f"hot{chance.randrange(HOT_KEYS)}")
        for one in around(ms_of(MIDNIGHTS[1]), chance, STORES * BATCHES * SAMPLE // (4 if overlapping else 1))
    ]
    shares = [events if overlapping else events[number::STORES] for number in range(STORES)]
    if shared == "months":
        shares = [_took(share, 4 ** (number + 1)) for number, share in enumerate(shares)]

    async def work(number: int, store: UsageStore) -> int:
        rows = 0
        mine = shares[number]
        for start in range(0, BATCHES * SAMPLE, SAMPLE):
            batch = chance.sample(mine, SAMPLE) if overlapping else mine[start : start + SAMPLE]
            batch += chance.choices(batch, k=SAMPLE // 10)
            chance.shuffle(batch)
            rows += (await store.insert(batch)).rows
        return rows

    pools = [await open_pool(ledger.url, connections_max=1) for _ in range(STORES)]
    counts = await asyncio.gather(*(work(number, UsageStore(pool)) for number, pool in enumerate(pools)))
    assert min(counts) > 0  # none has waited until the others were done
    every = list({one.id: one for share in shares for one in share}.values())
    counts.append(await ledger.insert(every))
    assert sum(counts) == len(every) == len(events)
    await ledger.check(every)
    for pool in pools:
        await pool.close()
    assert await _deadlocks(ledger.url) == 0


def _took(events: Sequence[UsageEvent], ms: int) -> list[UsageEvent]:
    """All that they took, they took so long: events that took something else meet them in no timing."""
    took = {"response_time_ms": ms, "first_token_ms": ms, "queue_ms": ms}
    return [msgspec.structs.replace(one, detail=msgspec.structs.replace(one.detail, **took)) for one in events]


async def _deadlocks(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(
            await connection.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        )
    finally:
        await connection.close()


async def test_of_one_id_in_one_batch_the_first_counts_and_is_summed_once(ledger: Ledger, seed: str) -> None:
    """F28: a tenth of the batch are events again, with other figures."""
    chance = random.Random(seed)
    events = around(ms_of(MIDNIGHTS[0]), chance, 1_000)
    batch = list(events)
    for one in chance.sample(events, 100):
        other = msgspec.structs.replace(one, prompt_tokens=one.prompt_tokens + 1, credits_micro=one.credits_micro + 1)
        batch.insert(chance.randint(batch.index(one) + 1, len(batch)), other)
    assert await ledger.insert(batch) == len(events)
    await ledger.check(events)
    prompt = (await ledger.fetch("SELECT sum(prompt_tokens) AS prompt FROM usage_logs"))[0]["prompt"]
    assert prompt == sum(one.prompt_tokens for one in events)
