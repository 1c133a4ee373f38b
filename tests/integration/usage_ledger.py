"""Calls at given times, and a database that rows are made of them in, looked at from all sides."""

import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import msgspec

from gateway.admin.postgres import Postgres
from gateway.core.usage import Tried, UsageEvent
from tests.integration.rollups import TABLES, dump, sums_in, sums_of
from tests.integration.usage_events import DETAIL, event
from workers.clock import month_of
from workers.store import UsageStore

EVENTS = 10_000
BATCH_ROWS = 1_000
HOUR_MS = 3_600_000
AROUND_MS = 3 * HOUR_MS
PARTITIONED = ("usage_logs", "usage_attempts", "usage_hourly", "usage_timings")


def ms_of(day: str) -> int:
    """Midnight UTC."""
    return round(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)


def around(midnight_ms: int, chance: random.Random, count: int = EVENTS) -> list[UsageEvent]:
    """Events up to three hours before and after, the very milliseconds beside midnight among them."""
    times = [midnight_ms - 1, midnight_ms, midnight_ms + 1, midnight_ms - HOUR_MS, midnight_ms - HOUR_MS - 1]
    times += [midnight_ms + chance.randrange(-AROUND_MS, AROUND_MS) for _ in range(count - len(times))]
    return [at(number, ms, chance) for number, ms in enumerate(times)]


def at(number: int, ms: int, chance: random.Random) -> UsageEvent:
    """Some call that was admitted then."""
    tried = (Tried("other", "backend_unreachable", 1, chance.randint(1, 9)),) if chance.random() < 0.05 else ()
    detail = msgspec.structs.replace(
        DETAIL,
        status=chance.choice(("ok", "ok", "client_gone")),
        backend=chance.choice(("one", "two")),
        response_time_ms=chance.randint(0, 9_000),
        first_token_ms=chance.randint(0, 500),
        queue_ms=chance.randint(0, 50),
        load_ms=chance.randint(0, 9),
        attempts=tried,
    )
    return event(
        number,
        at_ms=ms,
        month=month_of(ms),
        key_id=f"key{chance.randint(1, 5)}",
        team_id=chance.choice(("", "team000001")),
        prompt_tokens=chance.randint(0, 999),
        completion_tokens=chance.randint(0, 999),
        team_credits_micro=chance.randint(0, 99),
        estimated=chance.random() < 0.1,
        detail=detail,
    )


class Ledger:
    """A database, the stores that write to it, and what it then holds."""

    def __init__(self, url: str, postgres: Postgres) -> None:
        self.url = url
        self.postgres = postgres
        self.store = UsageStore(postgres)

    async def insert(self, events: Sequence[UsageEvent]) -> int:
        """In batches. How many rows are new."""
        batches = [events[start : start + BATCH_ROWS] for start in range(0, len(events), BATCH_ROWS)]
        return sum([(await self.store.insert(batch)).rows for batch in batches])

    async def fetch(self, statement: str) -> list[asyncpg.Record]:
        async with self.postgres.transaction() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(statement)
            return rows

    async def make_partitions(self, *days: str) -> None:
        for day in days:
            await self.fetch(f"SELECT make_usage_partition('{day}')")

    async def everything(self) -> dict[str, list[tuple[Any, ...]]]:
        async with self.postgres.transaction() as connection:
            return await dump(connection)

    async def versions(self) -> dict[str, Counter[str]]:
        """Which transactions wrote what there is: it stays as it is only when nobody writes."""
        return {
            name: Counter(row["by"] for row in await self.fetch(f"SELECT xmin::text AS by FROM {name}"))
            for name in TABLES
        }

    async def months_in_partitions(self, table: str) -> dict[str, set[str]]:
        """By partition, the months (UTC) that its rows are of."""
        column = "hour" if table in ("usage_hourly", "usage_timings") else "created_at"
        rows = await self.fetch(
            f"SELECT tableoid::regclass::text AS place, to_char({column} AT TIME ZONE 'UTC', 'YYYYMM') AS month "
            f"FROM {table} GROUP BY 1, 2"
        )
        found: dict[str, set[str]] = {}
        for row in rows:
            found.setdefault(row["place"].removeprefix(f"{table}_"), set()).add(row["month"])
        return found

    async def check(self, events: Sequence[UsageEvent]) -> None:
        """Exactly their rows, each at its time, and sums that are theirs."""
        rows = await self.fetch("SELECT id, created_at, month FROM usage_logs")
        found = {str(row["id"]): (round(row["created_at"].timestamp() * 1000), row["month"]) for row in rows}
        assert len(rows) == len(found)
        assert found == {one.id: (one.at_ms, one.month) for one in events}
        async with self.postgres.transaction() as connection:
            assert await sums_in(connection) == sums_of(events)

    async def check_places(self, events: Sequence[UsageEvent]) -> None:
        """Each row in the partition of its month, of all that is partitioned."""
        months = {one.month for one in events}
        for table in PARTITIONED:
            assert await self.months_in_partitions(table) == {month: {month} for month in months}, table
