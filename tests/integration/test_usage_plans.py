"""Which tables Postgres reads: for sums no rows, and for rows an index of the months that were asked for."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio

import sql
from gateway.dev.engines import Server
from tests.bench.sql import BACKENDS, FILL, KEYS, MODELS, TRIES
from tests.conftest import new_database
from tests.dashboard_queries import SINGLE_CALLS, Scan, queries, scans, scans_of, unwanted
from workers.migrate import migrate

ROWS = 50_000
"""over three months: enough for Postgres to prefer an index wherever one helps"""
ROW_STATEMENTS = {"insert_usage", "stray_months", "stored_events", "day_differences"}
"""what may read raw rows: those it inserts, those that no month took, those that it names, those of one day"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def filled_url(postgres_server: Server) -> AsyncIterator[str]:
    """A database that no test here changes."""
    async with new_database(postgres_server) as url:
        await fill(url)
        yield url


async def fill(url: str) -> None:
    await migrate(url)
    connection = await asyncpg.connect(url)
    for ago in range(3):
        await connection.execute(f"SELECT make_usage_partition((now() - interval '{ago} months')::date)")
    await connection.execute(FILL, 0, KEYS, MODELS, BACKENDS, ROWS, ROWS)
    await connection.execute(TRIES, 5)
    for row in await connection.fetch("SELECT DISTINCT to_char(created_at, 'YYYYMM') AS month FROM usage_logs"):
        await connection.execute("SELECT rebuild_usage_rollups($1)", row["month"])
    await connection.execute("ANALYZE")
    await connection.close()


@pytest.fixture
async def database(filled_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(filled_url)
    yield connection
    await connection.close()


async def test_dashboards_read_no_raw_month_from_end_to_end(database: asyncpg.Connection) -> None:
    asked = await queries(database)
    assert len(asked) > 50
    read = {query: await scans(database, query.text) for query in asked}
    faults = {query.text: wrong for query in asked if (wrong := [one for one in read[query] if unwanted(query, one)])}
    assert faults == {}
    assert all(any(one.raw for one in found) for query, found in read.items() if query.view in SINGLE_CALLS)


@pytest.mark.parametrize("days", [1, 7])
async def test_the_calls_of_a_key_are_found_by_an_index_in_the_months_asked_for(
    database: asyncpg.Connection, days: int
) -> None:
    text = f"SELECT * FROM dashboard.calls WHERE created_at >= now() - interval '{days} days' AND api_key_id = 'key7'"
    months = {f"usage_logs_{datetime.now(UTC) - timedelta(days=ago):%Y%m}" for ago in (0, days)}
    read = await scans(database, text)
    assert {one.relation for one in read} - {"usage_logs_default"} <= months
    assert read
    assert not any(one.whole for one in read)


async def test_one_table_read_whole_would_be_noticed(database: asyncpg.Connection) -> None:
    text = "SELECT model, sum(total_tokens) FROM dashboard.calls GROUP BY model"
    assert sum(one.whole for one in await scans(database, text)) == 3


async def test_no_statement_but_few_reads_raw_rows(database: asyncpg.Connection) -> None:
    found = {}
    for name, text in sql.queries().items():
        if "\nLOCK TABLE" in f"\n{text}":
            continue
        read = await generic(database, name, text)
        if any(one.raw for one in read):
            found[name] = read
    assert found.keys() == ROW_STATEMENTS


async def generic(database: asyncpg.Connection, name: str, text: str) -> set[Scan]:
    """Of a statement with its parameters left open."""
    await database.execute("SET plan_cache_mode = force_generic_plan")
    await database.execute("SET enable_partition_pruning = off")  # or NULL for a time would leave no partition to read
    nothing = ", ".join(["NULL"] * len((await database.prepare(text)).get_parameters()))
    await database.execute(f"PREPARE {name} AS {text}")
    return scans_of(await database.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE {name}{f'({nothing})' if nothing else ''}"))
