"""How large a worker's batches are: by rows, by bytes, by age, and by what Postgres has time for."""

import asyncio
import io
from collections.abc import AsyncIterator

import asyncpg
import msgspec
import pytest
from redis.asyncio import Redis

from gateway.admin.postgres import Postgres, open_pool
from gateway.errors import StoreUnavailable
from gateway.state import keyspace
from gateway.telemetry.logs import Log
from gateway.telemetry.worker import WorkerMetrics
from tests.commands import functions_of
from tests.integration.usage_events import DETAIL, event, fields
from workers.batch import PAGE_ROWS_MAX, BatchPolicy, Entry
from workers.failpoint import go_on
from workers.store import UsageStore
from workers.stream import UsageStream
from workers.usage import UsageWorker

STREAM = keyspace.usage(0)
LARGE_BYTES = 65_536
LARGE = msgspec.structs.replace(DETAIL, end_user="x" * LARGE_BYTES)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def postgres(migrated_url: str) -> AsyncIterator[Postgres]:
    pool = await open_pool(migrated_url)
    yield pool
    await pool.close()


async def stream_of(redis: Redis, policy: BatchPolicy, consumer: str = "w", block_ms: int = 20) -> UsageStream:
    one = UsageStream(
        redis,
        functions_of(redis),
        0,
        consumer,
        policy,
        Log(lambda: 0.0, io.StringIO()),
        block_ms=block_ms,
        claim_idle_ms=0,
    )
    await one.ensure_group()
    return one


async def emit(redis: Redis, count: int, large: bool = False) -> None:
    pipeline = redis.pipeline(transaction=False)
    for number in range(count):
        pipeline.xadd(STREAM, fields(event(number, detail=LARGE if large else DETAIL)))
    await pipeline.execute()


def size(batch: list[Entry]) -> int:
    return sum(entry.size for entry in batch)


@pytest.mark.parametrize("source", ["new", "own", "abandoned"])
async def test_a_batch_has_no_more_than_its_bytes_and_one_page(redis: Redis, source: str) -> None:
    policy = BatchPolicy(rows_max=2_000, bytes_max=128 * LARGE_BYTES, wait_ms_max=1)
    stream = await stream_of(redis, policy)
    await emit(redis, 3 * PAGE_ROWS_MAX, large=True)
    if source != "new":
        holder = "w" if source == "own" else "other"
        await redis.xreadgroup(keyspace.USAGE_GROUP, holder, {STREAM: ">"}, count=10**6)
    batches = []
    while batch := await stream.read():
        batches.append(batch)
        await stream.ack([entry.id for entry in batch])
    assert [len(batch) for batch in batches] == [2 * PAGE_ROWS_MAX, PAGE_ROWS_MAX]
    assert all(size(batch) < policy.bytes_max + PAGE_ROWS_MAX * (LARGE_BYTES + 1_000) for batch in batches)


async def test_what_is_there_makes_one_batch_however_short_the_wait(redis: Redis) -> None:
    stream = await stream_of(redis, BatchPolicy(rows_max=1_000, wait_ms_max=1))
    await emit(redis, 1_050)
    assert len(await stream.read()) == 1_000


async def test_large_events_become_rows_like_all_others(redis: Redis, postgres: Postgres) -> None:
    metrics = WorkerMetrics()
    policy = BatchPolicy(bytes_max=20 * LARGE_BYTES, wait_ms_max=1)
    log = Log(lambda: 0.0, io.StringIO())
    worker = UsageWorker(await stream_of(redis, policy), UsageStore(postgres), log, go_on, metrics)
    await emit(redis, 250, large=True)
    assert [await worker.run_once() for _ in range(4)] == [100, 100, 50, 0]
    async with postgres.transaction() as connection:
        assert (
            await connection.fetchval("SELECT count(*) FROM usage_logs WHERE length(end_user) = $1", LARGE_BYTES) == 250
        )
    said = {sample.name: sample.value for metric in metrics.registry.collect() for sample in metric.samples}
    assert (said["gateway_worker_rows_total"], said["gateway_worker_batches_total"]) == (250, 3)


async def test_a_batch_that_postgres_has_no_time_for_is_halved_and_grows_back(
    redis: Redis, postgres: Postgres, migrated_url: str
) -> None:
    out = io.StringIO()
    log = Log(lambda: 0.0, out)
    stream = await stream_of(redis, BatchPolicy(rows_max=400, wait_ms_max=1))
    impatient = await open_pool(migrated_url, statement_s_max=0.2)
    hurried = UsageWorker(stream, UsageStore(impatient), log)
    await emit(redis, 1_000)
    holder = await asyncpg.connect(migrated_url)
    async with holder.transaction():
        await holder.execute("LOCK TABLE usage_logs IN ACCESS EXCLUSIVE MODE")
        sizes = []
        for _ in range(5):
            with pytest.raises(StoreUnavailable):
                await hurried.run_once()
            sizes.append(stream.size.policy.rows_max)
    await holder.close()
    await impatient.close()
    assert sizes == [200, 100, 50, 50, 50]
    assert out.getvalue().count("usage_batch_too_slow") == 5
    worker = UsageWorker(stream, UsageStore(postgres), log)
    settled = [await worker.run_once() for _ in range(6)]
    assert settled == [50, 150, 200, 350, 250, 0]  # the 400 that were read in the beginning come first, as its own
    assert stream.size.policy.rows_max == 400


async def test_a_postgres_that_is_away_makes_no_batch_smaller(redis: Redis) -> None:
    nowhere = await open_pool("postgresql://nobody@127.0.0.1:1/nothing")
    stream = await stream_of(redis, BatchPolicy(rows_max=100, wait_ms_max=1))
    await emit(redis, 10)
    with pytest.raises(StoreUnavailable):
        await UsageWorker(stream, UsageStore(nowhere), Log(lambda: 0.0, io.StringIO())).run_once()
    assert stream.size.policy.rows_max == 100
    await nowhere.close()


async def test_two_workers_with_small_batches_settle_each_entry(redis: Redis, postgres: Postgres) -> None:
    policy = BatchPolicy(rows_max=2_000, bytes_max=4_000, wait_ms_max=1)  # of bytes: a page at a time
    await emit(redis, 1_500)
    log = Log(lambda: 0.0, io.StringIO())

    async def drain(name: str) -> None:
        worker = UsageWorker(await stream_of(redis, policy, name), UsageStore(postgres), log)
        while await redis.xlen(STREAM):
            assert await worker.run_once() <= PAGE_ROWS_MAX

    await asyncio.wait_for(asyncio.gather(drain("one"), drain("two")), 30)
    async with postgres.transaction() as connection:
        assert await connection.fetchval("SELECT count(*) FROM usage_logs") == 1_500
        assert await connection.fetchval("SELECT sum(calls) FROM usage_monthly") == 1_500
