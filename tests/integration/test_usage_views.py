"""Views for dashboards: every one shows what Python makes of the calls themselves, and sums can be made anew."""

import math
import random
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

import sql
from gateway.admin.postgres import open_pool
from gateway.core.usage import UsageEvent
from tests.integration.dashboard_figures import FIGURES, SHARES, bucket, groups, times, within
from tests.integration.usage_crowd import Crowd, calls, inserted, settled
from workers.migrate import migrate

CALLS = 2_000
ROUNDED = {"share", *SHARES}
"""columns that are quotients or doubles: compared to ten digits, all others exactly"""
BUCKET_RATIO = 2**0.25
ROLLUPS = ("usage_hourly", "usage_daily", "usage_monthly", "usage_timings")
VIEWS = "SELECT viewname FROM pg_views WHERE schemaname = 'dashboard'"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def now(database: asyncpg.Connection) -> datetime:
    """When the test began, in UTC."""
    began: datetime = await database.fetchval("SELECT now()")
    return began.astimezone(UTC)


@pytest.fixture
async def crowd(database_url: str, database: asyncpg.Connection, now: datetime, seed: str) -> Crowd:
    """A migrated database with partitions for two of three months, and calls in all."""
    await migrate(database_url)
    await database.execute("SELECT make_usage_partition(now()::date), make_usage_partition(now()::date - 35)")
    rng = random.Random(seed)
    events = calls(rng, now, CALLS)
    postgres = await open_pool(database_url)
    await inserted(rng, postgres, events)
    await postgres.close()
    return await settled(rng, database, events, now)


async def shown(database: asyncpg.Connection, view: str) -> list[dict[str, Any]]:
    return [dict(row) for row in await database.fetch(f"SELECT * FROM dashboard.{view}")]


def comparable(rows: list[dict[str, Any]], columns: list[str]) -> list[tuple[Any, ...]]:
    """The rows' values in these columns, in an order that depends on nothing else."""
    return sorted((tuple(_plain(name, row[name]) for name in columns) for row in rows), key=repr)


def _plain(column: str, value: Any) -> Any:
    if column in ROUNDED:
        return f"{float(value):.10g}"
    return str(Fraction(value)) if isinstance(value, Decimal | Fraction) else value


async def check(database: asyncpg.Connection, crowd: Crowd, view: str) -> None:
    rows = await shown(database, view)
    assert rows
    columns = list(rows[0])
    assert comparable(rows, columns) == comparable(FIGURES[view](crowd), columns)


async def test_every_view_has_a_figure_here(database: asyncpg.Connection, database_url: str) -> None:
    await migrate(database_url)
    assert {row["viewname"] for row in await database.fetch(VIEWS)} == set(FIGURES)


async def test_every_view_shows_what_the_calls_add_up_to(database: asyncpg.Connection, crowd: Crowd) -> None:
    if await database.fetchval("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMM')") != crowd.this_month:
        pytest.skip("the month has just ended")
    for view in FIGURES:
        await check(database, crowd, view)


async def test_a_percentile_is_never_off_by_more_than_its_bucket_and_seldom_by_much(
    database: asyncpg.Connection, crowd: Crowd
) -> None:
    """The bound is the bucket: 19 %. Among many calls that took various times it is a few per cent."""
    rows = {(row["day"], row["model"], row["what"]): row for row in await shown(database, "latency_by_day")}
    for about, events in groups(crowd.events, "day", "model"):
        for what in ("response", "first_token"):
            took = sorted(times(events, what))
            for name, share in SHARES.items() if took else ():
                told, true = rows[about["day"], about["model"], what][name], nearest_rank(took, share)
                least, most = (0, 1) if true <= 1 else (true / BUCKET_RATIO, true * BUCKET_RATIO)
                assert least * (1 - 1e-9) <= told <= most * (1 + 1e-9)


@pytest.mark.parametrize("share", SHARES.values())
def test_a_percentile_with_a_hundred_calls_above_it_is_within_ten_per_cent(share: float, seed: str) -> None:
    rng = random.Random(seed)
    for _ in range(30):
        middle, spread = rng.uniform(3, 10), rng.uniform(0.3, 1.5)
        took = sorted(int(rng.lognormvariate(middle, spread)) + 10 for _ in range(10_000))
        assert within(share, took) == pytest.approx(nearest_rank(took, share), rel=0.1)


def nearest_rank(took: list[int], share: float) -> int:
    return took[math.ceil(Fraction(str(share)) * len(took)) - 1]


async def test_buckets_are_the_same_in_python_to_their_very_edges(
    database: asyncpg.Connection, database_url: str
) -> None:
    await migrate(database_url)
    edges = {round(2 ** (number / 4)) + off for number in range(125) for off in (-1, 0, 1)}
    milliseconds = sorted(ms for ms in edges if 0 <= ms < 2**31)
    found = await database.fetch("SELECT usage_bucket(ms) AS b FROM unnest($1::bigint[]) AS ms", milliseconds)
    assert [row["b"] for row in found] == [bucket(ms) for ms in milliseconds]
    for ms, row in zip(milliseconds, found, strict=True):
        assert ms <= 1 or 2 ** ((row["b"] - 1) / 4) < ms <= 2 ** (row["b"] / 4) * (1 + 1e-9)


async def rollups(database: asyncpg.Connection) -> dict[str, list[Any]]:
    return {table: await database.fetch(f"SELECT * FROM {table} AS t ORDER BY t") for table in ROLLUPS}


async def rebuilt(database: asyncpg.Connection) -> int:
    months = "SELECT DISTINCT to_char(created_at AT TIME ZONE 'UTC', 'YYYYMM') AS month FROM usage_logs"
    found = [row["month"] for row in await database.fetch(months)]
    return sum([await database.fetchval("SELECT rebuild_usage_rollups($1)", month) for month in found])


@pytest.mark.parametrize(
    "damage",
    [
        "SELECT 1",
        "UPDATE {} SET calls = calls - 1",
        "DELETE FROM {}",
        "DELETE FROM {} WHERE calls % 2 = 0",
        "TRUNCATE {}",
    ],
)
async def test_sums_are_made_anew_from_rows(database: asyncpg.Connection, crowd: Crowd, damage: str) -> None:
    before = await rollups(database)
    for table in ROLLUPS:
        await database.execute(damage.format(table))
    assert (await rollups(database) != before) is (damage != "SELECT 1")
    assert await rebuilt(database) == CALLS
    assert await rollups(database) == before


async def test_sums_are_not_made_anew_of_rows_that_are_gone(database: asyncpg.Connection, crowd: Crowd) -> None:
    before = await rollups(database)
    await database.execute("DELETE FROM usage_logs")
    with pytest.raises(asyncpg.NoDataFoundError, match="its sums are all there is"):
        await database.execute("SELECT rebuild_usage_rollups($1)", crowd.this_month)
    assert await rollups(database) == before


async def test_nor_of_the_few_that_came_late(database: asyncpg.Connection, crowd: Crowd) -> None:
    """Of a month that was dropped: what came since is in the default partition, or in one made for it."""
    before = await rollups(database)
    await database.execute(
        "DELETE FROM usage_logs WHERE id <> (SELECT id FROM usage_logs WHERE month = $1 LIMIT 1)", crowd.this_month
    )
    with pytest.raises(asyncpg.NoDataFoundError, match="its sums are all there is"):
        await database.execute("SELECT rebuild_usage_rollups($1)", crowd.this_month)
    assert await rollups(database) == before


async def test_one_sum_that_says_too_much_is_made_anew(database: asyncpg.Connection, crowd: Crowd) -> None:
    before = await rollups(database)
    for table in ("usage_daily", "usage_monthly"):
        await database.execute(f"UPDATE {table} SET calls = calls + 1")
        await rebuilt(database)
        assert await rollups(database) == before


async def test_readme_tells_the_columns_of_each_view(database: asyncpg.Connection, database_url: str) -> None:
    await migrate(database_url)
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    listed = re.findall(r"^\| `dashboard\.(\w+)` \| [^|]* \| ([^|]*) \|$", readme, re.MULTILINE)
    found = await database.fetch(
        "SELECT table_name, string_agg(column_name, ', ' ORDER BY ordinal_position) FROM information_schema.columns"
        " WHERE table_schema = 'dashboard' GROUP BY table_name"
    )
    assert {view: columns.replace("`", "") for view, columns in listed} == {row[0]: row[1] for row in found}


OLD_ROW = """
INSERT INTO usage_logs (
    id, api_key_id, created_at, month, prompt_tokens, completion_tokens, credits_micro, estimated, model, endpoint,
    backend, status, http_status, streamed, finish_reason, response_time_ms, first_token_ms, load_ms, prompt_ms,
    eval_ms, end_user, team_id, team_credits_micro)
VALUES ($1, $2, 'epoch'::timestamptz + $3 * interval '1 millisecond', $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
        $15, $16, $17, $18, $19, $20, $21, $22, $23)
"""


def old(one: UsageEvent) -> UsageEvent:
    """As 0003 could tell it."""
    detail = msgspec.structs.replace(one.detail, dialect="", queue_ms=0, address_hash="", attempts=())
    return msgspec.structs.replace(one, detail=detail)


def old_columns(one: UsageEvent) -> tuple[Any, ...]:
    detail = one.detail
    return (
        one.id, one.key_id, one.at_ms, one.month, one.prompt_tokens, one.completion_tokens, one.credits_micro,
        one.estimated, detail.model, detail.endpoint, detail.backend, detail.status, detail.http_status,
        detail.streamed, detail.finish_reason, detail.response_time_ms, detail.first_token_ms, detail.load_ms,
        detail.prompt_ms, detail.eval_ms, detail.end_user, one.team_id, one.team_credits_micro,
    )  # fmt: skip


async def test_rows_of_before_0004_are_in_every_sum(
    database: asyncpg.Connection, database_url: str, now: datetime, seed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = sql.migrations()
    monkeypatch.setattr(sql, "migrations", lambda: steps[:3])
    await migrate(database_url)
    await database.execute("SELECT make_usage_partition(now()::date)")
    rng = random.Random(seed)
    events = [old(one) for one in calls(rng, now, 500)]
    await database.executemany(OLD_ROW, [old_columns(one) for one in events])
    monkeypatch.undo()
    assert await migrate(database_url) == [step.name for step in steps[3:]]
    crowd = await settled(rng, database, events, now)
    for view in FIGURES.keys() - {"attempts"}:
        await check(database, crowd, view)
    partition = f"usage_hourly_{now:%Y%m}"
    assert await database.fetchval(f"SELECT count(*) FROM {partition}") > 0
