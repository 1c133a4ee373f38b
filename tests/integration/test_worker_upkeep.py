"""Upkeep: months are dropped when they are not kept, stray rows are told of, the views hear of the default limits."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import asyncpg
import msgspec
import pytest

from gateway.admin.postgres import Postgres, open_pool
from gateway.core.limits import Limits
from gateway.core.usage import Tried, UsageEvent
from gateway.errors import StoreUnavailable
from gateway.settings import Settings
from gateway.telemetry.logs import Log
from gateway.telemetry.worker import WorkerMetrics
from tests.database_users import WORKER, user_in
from tests.integration.usage_events import DETAIL, event
from workers.store import UsageStore
from workers.upkeep import MONTHS_AHEAD, Upkeep

PARENTS = ("usage_logs", "usage_attempts", "usage_hourly", "usage_timings")
"""in the order in which everybody takes them"""
KEPT = ("usage_daily", "usage_monthly")


class Bench:
    def __init__(self, postgres: Postgres) -> None:
        self.postgres = postgres
        self.out = io.StringIO()
        self.metrics = WorkerMetrics()
        self.oldest_ms: int | None = None

    def upkeep(self, months_kept: int = 0, defaults: Limits | None = None) -> Upkeep:
        log = Log(lambda: 0.0, self.out)
        return Upkeep(
            self.postgres,
            log,
            months_kept=months_kept,
            oldest_ms=self._oldest_ms,
            defaults=defaults,
            metrics=self.metrics,
        )

    async def _oldest_ms(self) -> int | None:
        return self.oldest_ms

    def said(self, name: str) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in self.out.getvalue().splitlines()]
        return [line for line in lines if line["event"] == name]

    def gauge(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(name)

    async def value(self, statement: str, *args: object) -> object:
        async with self.postgres.transaction() as connection:
            return await connection.fetchval(statement, *args)

    async def make(self, month: date) -> None:
        await self.value("SELECT make_usage_partition($1)", month)

    async def months(self) -> dict[str, list[str]]:
        """Months that each table has a partition of."""
        async with self.postgres.transaction() as connection:
            rows = await connection.fetch("SELECT inhrelid::regclass::text AS name FROM pg_inherits ORDER BY 1")
        named = [row["name"].rpartition("_") for row in rows]
        return {p: [month for parent, _, month in named if parent == p and month != "default"] for p in PARENTS}

    async def all(self, table: str) -> list[asyncpg.Record]:
        async with self.postgres.transaction() as connection:
            found: list[asyncpg.Record] = await connection.fetch(f"SELECT * FROM {table} AS t ORDER BY t")
            return found


@pytest.fixture
async def bench(migrated_url: str) -> AsyncIterator[Bench]:
    postgres = await open_pool(migrated_url)
    yield Bench(postgres)
    await postgres.close()


def month(ago: int) -> date:
    """The first day of the month (UTC) so many months ago, or ahead of now where less than 0."""
    today = datetime.now(UTC)
    number = today.year * 12 + today.month - 1 - ago
    return date(number // 12, number % 12 + 1, 1)


def name(ago: int) -> str:
    return month(ago).strftime("%Y%m")


def call(number: int, ago: int) -> UsageEvent:
    """Of the middle of that month."""
    at = datetime.combine(month(ago), datetime.min.time(), UTC) + timedelta(days=14, seconds=number)
    tried = Tried(backend="other", status="backend_busy", queue_ms=1, response_time_ms=2)
    detail = msgspec.structs.replace(DETAIL, attempts=(tried,))
    return event(number, at_ms=round(at.timestamp() * 1000), month=name(ago), detail=detail)


async def test_all_months_are_kept_unless_it_is_said(bench: Bench) -> None:
    await bench.make(month(30))
    await bench.upkeep().run_once()
    expected = [name(30), *(name(-ahead) for ahead in range(MONTHS_AHEAD + 1))]
    assert await bench.months() == dict.fromkeys(PARENTS, expected)
    assert bench.gauge("gateway_worker_dropped_partitions_total") == 0


@pytest.mark.parametrize("kept", [2, 3, 13])
async def test_older_months_are_dropped_and_their_sums_stay(bench: Bench, kept: int) -> None:
    for ago in (0, 1, 2, 12, 13, 25):
        await bench.make(month(ago))
    await UsageStore(bench.postgres).insert(
        [call(100 * ago + n, ago) for ago in (0, 1, 2, 12, 13, 25) for n in range(3)]
    )
    before = {table: await bench.all(table) for table in KEPT}
    await bench.upkeep(months_kept=kept).run_once()
    left = [ago for ago in (25, 13, 12, 2, 1, 0) if ago < kept]
    expected = [*map(name, left), *(name(-ahead) for ahead in range(1, MONTHS_AHEAD + 1))]
    assert await bench.months() == dict.fromkeys(PARENTS, expected)
    assert {table: await bench.all(table) for table in KEPT} == before
    for table in PARENTS:
        held = await bench.value(f"SELECT count(*) FROM {table}")
        full = {"usage_hourly": 1, "usage_timings": 2}.get(table, 3)
        assert held == full * len(left), table
    (line,) = bench.said("partitions_dropped")
    assert line["partitions"] == [f"{p}_{name(ago)}" for ago in (25, 13, 12, 2, 1) if ago >= kept for p in PARENTS]
    assert bench.gauge("gateway_worker_dropped_partitions_total") == 4 * (6 - len(left))
    assert await bench.upkeep(months_kept=kept).run_once() == 0
    assert len(bench.said("partitions_dropped")) == 1


async def test_a_partition_that_somebody_reads_is_dropped_next_time_and_holds_up_nothing(
    bench: Bench, migrated_url: str
) -> None:
    await bench.make(month(3))
    reader = await asyncpg.connect(migrated_url)
    upkeep = bench.upkeep(months_kept=2, defaults=Limits(rate_limit_per_min=7))
    async with reader.transaction():
        await reader.execute(f"SELECT count(*) FROM usage_logs_{name(3)}")
        assert await upkeep.run_once() == MONTHS_AHEAD + 1
        assert [line["error"] for line in bench.said("partitions_not_dropped")] == [
            "StoreUnavailable from LockNotAvailableError"
        ]
        assert (await bench.months())["usage_hourly"][0] == name(3)  # all of a month, or nothing
        assert await bench.value("SELECT limits ->> 'rate_limit_per_min' FROM default_limits") == "7"
    await reader.close()
    assert await upkeep.run_once() == len(PARENTS)
    assert (await bench.months())["usage_logs"][0] == name(0)


async def test_a_month_of_which_an_event_may_come_again_is_not_dropped(bench: Bench) -> None:
    """It would find no row, and count twice."""
    for ago in (2, 3, 4, 5):
        await bench.make(month(ago))
    waits = datetime.combine(month(3), datetime.min.time(), UTC)
    bench.oldest_ms = round(waits.timestamp() * 1000) + 3_600_000  # an hour into it: of a call that began before
    await bench.upkeep(months_kept=2).run_once()
    assert (await bench.months())["usage_logs"][:4] == [name(4), name(3), name(2), name(0)]
    bench.oldest_ms = None
    await bench.upkeep(months_kept=2).run_once()
    assert (await bench.months())["usage_logs"][0] == name(0)


async def test_dropping_waits_for_writers_and_they_for_it_without_a_deadlock(bench: Bench) -> None:
    for ago in range(2, 8):
        await bench.make(month(ago))
    store = UsageStore(bench.postgres)

    async def write(lane: int) -> None:
        for number in range(30):
            await store.insert([call(10_000 * lane + 10 * number + n, n % 2) for n in range(10)])

    async def drop() -> None:
        for kept in (7, 6, 5, 4, 3, 2):
            await bench.upkeep(months_kept=kept).run_once()

    await asyncio.gather(drop(), *(write(lane) for lane in range(3)))
    assert await bench.value("SELECT count(*) FROM usage_logs") == 900
    assert await bench.value("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0


async def test_what_fails_keeps_nothing_else_from_being_done(bench: Bench) -> None:
    await bench.make(month(3))
    await bench.value("ALTER FUNCTION make_usage_partition RENAME TO make_none")
    with pytest.raises(StoreUnavailable):
        await bench.upkeep(months_kept=2, defaults=Limits(rate_limit_per_min=7)).run_once()
    assert (await bench.months())["usage_logs"] == []  # the one was dropped
    assert await bench.value("SELECT limits ->> 'rate_limit_per_min' FROM default_limits") == "7"


async def test_rows_in_the_default_partitions_are_told_of_and_moved(bench: Bench) -> None:
    stray = {5: 3, 7: 2}  # months ago: calls
    calls = [call(100 * ago + n, ago) for ago, count in stray.items() for n in range(count)]
    await UsageStore(bench.postgres).insert(calls)
    before = {table: await bench.all(table) for table in (*PARENTS, *KEPT)}
    await bench.upkeep().run_once()
    (line,) = bench.said("usage_in_default_partition")
    assert line["months"] == [name(7), name(5)]
    held = sum(2 * count + 1 + 2 for count in stray.values())  # calls and tries, an hour, response and queue times
    assert (line["rows"], bench.gauge("gateway_worker_default_partition_rows")) == (held, 0)
    for table in PARENTS:
        assert await bench.value(f"SELECT count(*) FROM {table}_default") == 0
    assert {table: await bench.all(table) for table in (*PARENTS, *KEPT)} == before
    await bench.upkeep().run_once()
    assert bench.gauge("gateway_worker_default_partition_rows") == 0
    assert len(bench.said("usage_in_default_partition")) == 1


async def test_sums_that_no_partition_takes_are_told_of_too(bench: Bench) -> None:
    """Though the row has one: somebody made it by hand."""
    await bench.make(month(4))
    await bench.value(f"DROP TABLE usage_hourly_{name(4)}")
    await UsageStore(bench.postgres).insert([call(1, 4)])
    await bench.upkeep().run_once()
    assert [line["rows"] for line in bench.said("usage_in_default_partition")] == [1]
    assert (await bench.months())["usage_hourly"][0] == name(4)


async def test_a_late_call_of_a_month_not_kept_is_charged_and_dropped(bench: Bench) -> None:
    upkeep = bench.upkeep(months_kept=2)
    await upkeep.run_once()
    await UsageStore(bench.postgres).insert([call(1, 6)])
    await upkeep.run_once()
    assert await bench.value("SELECT count(*) FROM usage_logs") == 0
    assert await bench.value("SELECT calls FROM usage_monthly WHERE month = $1", name(6)) == 1


async def test_the_default_limits_are_written_when_they_differ(bench: Bench) -> None:
    async def written() -> tuple[object, object]:
        async with bench.postgres.transaction() as connection:
            row = await connection.fetchrow("SELECT limits, updated_at FROM default_limits")
        return json.loads(row["limits"]), row["updated_at"]

    settings = Settings(default_monthly_token_limit=5_000, default_rate_limit_per_min=3)
    await bench.upkeep(defaults=settings.defaults()).run_once()
    first = await written()
    assert first[0] == {"monthly_token_limit": 5_000, "rate_limit_per_min": 3}
    await bench.upkeep(defaults=settings.defaults()).run_once()
    assert await written() == first
    await bench.upkeep(defaults=Settings(default_monthly_token_limit=6_000).defaults()).run_once()
    assert (await written())[0] == {"monthly_token_limit": 6_000, "rate_limit_per_min": 20}
    await bench.value("DELETE FROM default_limits")
    await bench.upkeep(defaults=settings.defaults()).run_once()
    assert (await written())[0] == first[0]


async def test_a_worker_that_owns_nothing_may_do_all_of_it(bench: Bench, migrated_url: str) -> None:
    await bench.make(month(3))
    async with user_in(migrated_url, WORKER) as url:
        postgres = await open_pool(url)
        mine = Bench(postgres)
        await UsageStore(postgres).insert([call(1, 3), call(2, 5)])
        done = await mine.upkeep(months_kept=2, defaults=Limits(rate_limit_per_min=7)).run_once()
        await postgres.close()
    assert done == MONTHS_AHEAD + 1 + 1 + 2 * len(PARENTS)  # one of them for the month that had none, gone at once
    assert [line["months"] for line in mine.said("usage_in_default_partition")] == [[name(5)]]
    assert (await bench.months())["usage_logs"][0] == name(0)
