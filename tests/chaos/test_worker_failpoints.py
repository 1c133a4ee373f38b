"""A worker that crashes before or after any of its steps, twenty times each: whoever goes on makes exactly one row of
each event, sums that agree, and leaves nothing behind."""

import asyncio
import io
import random
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import msgspec
import pytest
from redis.asyncio import Redis

from gateway.admin.postgres import Postgres, open_pool
from gateway.core.call import Call
from gateway.core.limits import Limits
from gateway.core.pricing import MICRO, PriceList
from gateway.core.record import Spent
from gateway.core.tally import if_lost
from gateway.core.usage import UsageEvent, decode, detail_json
from gateway.state import keyspace
from gateway.state.directory import KeyDirectory
from gateway.state.functions import Functions
from gateway.state.limiter import RedisLimiter
from gateway.state.pipe import Pipe
from gateway.telemetry.logs import Log
from tests.commands import functions_of
from tests.fakes import KEY, MONTH, PRICES, call, credential_of, record
from tests.integration.rollups import sums_in, sums_of
from tests.integration.usage_events import DETAIL, event, fields
from workers.batch import BatchPolicy
from workers.failpoint import STEPS
from workers.migrate import migrate
from workers.reaper import Reaper
from workers.store import UsageStore
from workers.stream import UsageStream
from workers.usage import UsageWorker

RUNS = 20
STREAM, DEAD = keyspace.usage(0), keyspace.usage_dead(0)
POLICY = BatchPolicy(rows_max=20, wait_ms_max=1)
LONG_AGO_MS = 60_000
TURNS_MAX = 100
SIDES = ("before", "after")
STREAM_STEPS = tuple(step for step in STEPS if step != "reap")


class Crash(BaseException):
    """Ends a worker where it stands."""


class Fuse:
    """Crashes at the nth time that a step is come to; `blown` says whether it has."""

    def __init__(self, step: str, times: int) -> None:
        self._step = step
        self._times = times
        self.blown = False

    def __call__(self, step: str) -> None:
        if step == self._step and not self.blown:
            self._times -= 1
            if self._times <= 0:
                self.blown = True
                raise Crash


class Bench:
    """One stream, one database, and one worker after the other between them."""

    def __init__(self, redis: Redis, postgres: Postgres, chance: random.Random) -> None:
        self.redis, self.postgres, self.chance = redis, postgres, chance
        self.log = Log(lambda: 0.0, io.StringIO())
        self.events: list[UsageEvent] = []
        self.poison = 0
        self._workers = 0

    async def emit(self) -> None:
        """A batch or two of new events, some of them twice, and perhaps one that is none."""
        fresh = [self._event(len(self.events) + number) for number in range(self.chance.randint(2, 30))]
        entries = [fields(one) for one in fresh]
        entries += self.chance.choices(entries, k=self.chance.randint(0, 3))
        if self.chance.random() < 0.5:
            self.poison += 1
            entries.insert(self.chance.randrange(len(entries)), fields(event(0), prompt=b"poison"))
        pipeline = self.redis.pipeline(transaction=False)
        for entry in entries:
            pipeline.xadd(STREAM, entry)
        await pipeline.execute()
        self.events += fresh

    def _event(self, number: int) -> UsageEvent:
        detail = msgspec.structs.replace(DETAIL, response_time_ms=number, queue_ms=self.chance.randint(0, 50))
        return event(number, key_id=f"key{number % 3}", prompt_tokens=number, detail=detail)

    def worker(self, failpoint: Callable[[str], None] = lambda step: None) -> UsageWorker:
        self._workers += 1
        stream = UsageStream(
            self.redis, functions_of(self.redis), 0, f"w{self._workers}", POLICY, self.log, block_ms=1, claim_idle_ms=0
        )
        return UsageWorker(stream, UsageStore(self.postgres, failpoint), self.log, failpoint)

    async def work(self, worker: UsageWorker) -> None:
        """Until nothing is left. Raises `Crash`."""
        for _ in range(TURNS_MAX):
            await worker.run_once()
            if not await self.redis.xlen(STREAM):
                return
        raise AssertionError("the stream does not become empty")

    async def check(self) -> None:
        """One row an event, sums that agree, the stream empty, poison aside once."""
        async with self.postgres.transaction() as connection:
            rows = await connection.fetch("SELECT id FROM usage_logs ORDER BY id")
            assert [str(row["id"]) for row in rows] == sorted(one.id for one in self.events)
            assert await sums_in(connection) == sums_of(self.events)
        assert await self.redis.xlen(STREAM) == 0
        assert (await self.redis.xpending(STREAM, keyspace.USAGE_GROUP))["pending"] == 0
        assert await self.redis.xlen(DEAD) == self.poison


@pytest.fixture
async def bench(redis_url: str, database_url: str, seed: str) -> AsyncIterator[Bench]:
    await migrate(database_url)
    redis, postgres = Redis.from_url(redis_url), await open_pool(database_url)
    yield Bench(redis, postgres, random.Random(seed))
    await redis.aclose()
    await postgres.close()


@pytest.mark.parametrize("step", STREAM_STEPS)
@pytest.mark.parametrize("side", SIDES)
async def test_a_crash_of_the_worker_loses_and_doubles_nothing(bench: Bench, step: str, side: str) -> None:
    await bench.worker().run_once()  # makes the group
    for _ in range(RUNS):
        await bench.emit()
        fuse = Fuse(f"{side} {step}", bench.chance.choice((1, 1, 2)))
        try:
            await bench.work(bench.worker(fuse))
        except Crash:
            await bench.work(bench.worker())
        else:  # there was no second time
            await bench.emit()
            fuse = Fuse(f"{side} {step}", 1)
            with pytest.raises(Crash):
                await bench.work(bench.worker(fuse))
            await bench.work(bench.worker())
        assert fuse.blown
    await bench.check()


@pytest.mark.parametrize("side", SIDES)
async def test_a_crash_of_the_reaper_settles_each_call_once(
    redis_url: str, database_url: str, seed: str, side: str
) -> None:
    chance = random.Random(seed)
    await migrate(database_url)
    pipe = Pipe(redis_url, 5_000)
    pipe.start()
    functions = Functions(pipe)
    limiter = RedisLimiter(functions, 1)
    directory = KeyDirectory(pipe, functions, 1)
    await directory.publish_prices(PriceList(1, PRICES))
    limits = Limits(monthly_token_limit=10**9)
    await directory.publish(record(limits, metered=True, granted_micro=10**6 * MICRO), Spent(month=MONTH))
    assert await directory.mark_ready(0, await directory.begin(0))
    log = Log(lambda: 0.0, io.StringIO())
    calls: list[Call] = []
    for _ in range(RUNS):
        fresh = [call(len(calls) + number) for number in range(chance.randint(2, 8))]
        await asyncio.gather(*(_leave_open(limiter, one, chance) for one in fresh))
        calls += fresh
        await _expire(pipe)
        fuse = Fuse(f"{side} reap", chance.randint(1, len(fresh)))
        with pytest.raises(Crash):
            await Reaper(pipe, limiter, 1, log, patience_ms=0, failpoint=fuse).run_once()
        await Reaper(pipe, limiter, 1, log, patience_ms=0).run_once()
    await _check_reaped(redis_url, database_url, pipe, calls, chance)
    await pipe.close()


async def _leave_open(limiter: RedisLimiter, one: Call, chance: random.Random) -> None:
    await limiter.admit(one, "", detail_json(if_lost(one)))
    if chance.random() < 0.5:
        assert await limiter.renew(one, 10, chance.randint(1, 64)) is None


async def _expire(pipe: Pipe) -> None:
    names = keyspace.KeyNames(credential_of(KEY).key_id, 1)
    for name in (names.running, keyspace.leases(0)):
        for member in await pipe.call("ZRANGE", name, 0, -1):
            await pipe.call("ZINCRBY", name, -LONG_AGO_MS, member)


async def _check_reaped(
    redis_url: str, database_url: str, pipe: Pipe, calls: list[Call], chance: random.Random
) -> None:
    """One event a call, nothing held, and in Postgres what Redis has charged."""
    redis, postgres = Redis.from_url(redis_url), await open_pool(database_url)
    bench = Bench(redis, postgres, chance)
    bench.events = [decode(entry) for _, entry in await redis.xrange(STREAM)]
    assert sorted(one.id for one in bench.events) == sorted(str(UUID(one.id)) for one in calls)
    worker = bench.worker()
    await worker.run_once()
    await bench.work(worker)
    await bench.check()
    account = await _account(pipe)
    (month,) = {one.month for one in bench.events}
    spent = sum(one.prompt_tokens + one.completion_tokens for one in bench.events)
    assert account[f"spent:{month}"] == spent
    assert account["charged"] == sum(one.credits_micro for one in bench.events) > 0
    assert (account[f"held:{month}"], account["credit_held"]) == (0, 0)
    assert await redis.zcard(keyspace.leases(0)) == 0
    await redis.aclose()
    await postgres.close()


async def _account(pipe: Pipe) -> dict[str, int]:
    flat: list[Any] = await pipe.call("HGETALL", keyspace.KeyNames(credential_of(KEY).key_id, 1).account)
    pairs = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
    return {name.decode(): int(value) for name, value in pairs if value.isdigit()}
