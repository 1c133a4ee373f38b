"""The books, compared by one worker at a time, and what it says of them."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import get_args

import pytest
from redis.asyncio import Redis

from gateway.admin.keys import KeyStore
from gateway.admin.postgres import open_pool
from gateway.admin.report import Report
from gateway.core.books import Difference, What
from gateway.core.charges import Owner
from gateway.core.limits import Limits
from gateway.errors import StoreUnavailable
from gateway.settings import Settings
from gateway.state import keyspace
from gateway.state.pipe import Pipe
from gateway.telemetry.logs import Log
from gateway.telemetry.worker import WorkerMetrics
from tests.integration.admin_objects import BY, record
from tests.integration.usage_events import MONTH
from workers import crew
from workers.books import AGAIN_MS, OWNERS_TOLD_MAX, Books
from workers.turn import Turn

WAIT_S = 30.0
TURN_MS = 60_000
LAST = "gateway_reconcile_last_success_seconds"


@pytest.fixture
async def pipe(redis_url: str) -> AsyncIterator[Pipe]:
    one = Pipe(redis_url, 5_000)
    one.start()
    yield one
    await one.close()


class Reconciler:
    """Finds what it is told to."""

    def __init__(self, report: Report | Exception) -> None:
        self.report = report
        self.runs = 0

    async def run(self) -> Report:
        self.runs += 1
        if isinstance(self.report, Exception):
            raise self.report
        return self.report


class Bench:
    def __init__(self, pipe: Pipe, worker: str, report: Report | Exception) -> None:
        self.reconciler = Reconciler(report)
        self.metrics = WorkerMetrics()
        self.out = io.StringIO()
        log = Log(lambda: 0.0, self.out)
        self.books = Books(self.reconciler, Turn(pipe, worker, TURN_MS), self.metrics, log, lambda: 7.0)

    def differences(self, what: str) -> float | None:
        return self.metrics.registry.get_sample_value("gateway_reconcile_differences", {"what": what})

    def last(self) -> float | None:
        return self.metrics.registry.get_sample_value(LAST)


def differs(count: int, **changes: object) -> Report:
    found = tuple(
        Difference(owner=Owner("key", f"key{number:07d}"), what="charged", unit="credits", expected=1, found=2)
        for number in range(count)
    )
    return Report(month=MONTH, differing=count, differences=found, **changes)


async def test_only_one_worker_compares_and_keeps_its_turn(pipe: Pipe) -> None:
    one, other = Bench(pipe, "one", Report(month=MONTH)), Bench(pipe, "other", Report(month=MONTH))
    for _ in range(3):
        await one.books.run_once()
        await other.books.run_once()
    assert (one.reconciler.runs, other.reconciler.runs) == (3, 0)
    assert (one.last(), other.last()) == (7.0, 0.0)
    assert 0 < await pipe.call("PTTL", keyspace.reconciling(0)) <= TURN_MS


async def test_the_next_worker_compares_when_the_first_is_gone_and_has_the_last_word(pipe: Pipe) -> None:
    one, other = Bench(pipe, "one", differs(1)), Bench(pipe, "other", Report(month=MONTH))
    assert await one.books.run_once() == 1
    assert one.differences("charged") == 1
    await pipe.call("DEL", keyspace.reconciling(0))  # as when it expires
    assert await other.books.run_once() == 0
    assert await one.books.run_once() == 0
    assert (one.differences("charged"), other.last()) == (None, 7.0)


async def test_a_turn_that_failed_is_anybodys_after_a_rest(pipe: Pipe) -> None:
    one, other = Bench(pipe, "one", StoreUnavailable()), Bench(pipe, "other", Report(month=MONTH))
    with pytest.raises(StoreUnavailable):
        await one.books.run_once()
    assert (one.last(), one.differences("charged")) == (0.0, None)
    for bench in (one, other):
        await bench.books.run_once()
    assert (one.reconciler.runs, other.reconciler.runs) == (1, 0)
    assert 0 < await pipe.call("PTTL", keyspace.reconciling(0)) <= AGAIN_MS
    await pipe.call("DEL", keyspace.reconciling(0))  # as when it expires
    await other.books.run_once()
    assert other.last() == 7.0
    await Turn(pipe, "one", TURN_MS).give_up(1)  # is not its own
    assert await pipe.call("GET", keyspace.reconciling(0)) == b"other"


async def test_what_differs_is_counted_and_told_without_a_figure(pipe: Pipe) -> None:
    one = Bench(pipe, "one", differs(OWNERS_TOLD_MAX + 5))
    assert await one.books.run_once() == OWNERS_TOLD_MAX + 5
    (line,) = [json.loads(line) for line in one.out.getvalue().splitlines()]
    assert (line["event"], line["month"], line["figures"], line["by"]) == (
        "reconcile_differs",
        MONTH,
        15,
        {"charged": 15},
    )
    assert line["owners"] == [f"key key{number:07d}" for number in range(OWNERS_TOLD_MAX)]


async def test_a_look_that_was_not_at_all_is_no_success(pipe: Pipe) -> None:
    one = Bench(pipe, "one", differs(2))
    await one.books.run_once()
    one.reconciler.report = differs(0, complete=False)
    await one.books.run_once()
    assert (one.last(), one.differences("charged")) == (7.0, 2), "what was found is not gone by not looking"
    assert '"reconcile_incomplete"' in one.out.getvalue()


@asynccontextmanager
async def working(settings: Settings, metrics: WorkerMetrics) -> AsyncIterator[None]:
    """All loops of a worker, in this process."""
    stop = asyncio.Event()
    async with crew.crew(settings, Log(lambda: 0.0, io.StringIO()), metrics) as loops:
        tasks = [asyncio.create_task(loop.run(stop)) for loop in loops]
        yield
        stop.set()
        await asyncio.gather(*tasks)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not holds():
            await asyncio.sleep(0.02)


async def test_a_worker_compares_redis_sums_and_rows(
    redis_url: str, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.crew.COMPARE_FIRST_S", 0.0)
    monkeypatch.setattr("workers.books.AGAIN_MS", 1)  # the first look may come before the keys are in Redis
    redis, postgres = Redis.from_url(redis_url), await open_pool(migrated_url)
    settings = Settings(redis_url=redis_url, database_url=migrated_url)
    made = await KeyStore(postgres, Limits(), 1).create(BY, record(1), None)
    metrics = WorkerMetrics()

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, labels)

    async with working(settings, metrics):
        await until(lambda: bool(value(LAST)))
    assert {what: value("gateway_reconcile_differences", what=what) for what in get_args(What)} == dict.fromkeys(
        get_args(What), 0.0
    )
    await redis.delete(keyspace.reconciling(0))
    key_id = made.what.id
    await redis.hincrby(keyspace.KeyNames(key_id, 1).account, "charged", 1)  # that no call took
    async with working(settings, metrics):
        await until(lambda: value("gateway_reconcile_differences", what="charged") == 1)
    await redis.aclose()
    await postgres.close()
