"""The database: schema.sql says what the migrations do, every statement is valid, migrating is safe to repeat."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlsplit

import asyncpg
import pytest

import sql
from gateway.errors import StoreUnavailable
from workers.migrate import MigrationRefused, migrate

CATALOG = """
SELECT 'column' AS kind, c.relname || '.' || a.attname AS name,
       concat_ws(' ', a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated,
                 pg_get_expr(d.adbin, d.adrelid)) AS definition
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
 WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v')
UNION ALL
SELECT 'relation', relname, concat_ws(' ', relkind, relrowsecurity, pg_get_expr(relpartbound, oid), pg_get_viewdef(oid))
  FROM pg_class WHERE relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL
SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
  FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT 'function', proname, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL
SELECT 'trigger', tgname, pg_get_triggerdef(t.oid) FROM pg_trigger t WHERE NOT tgisinternal
ORDER BY 1, 2, 3
"""  # noqa: E501


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def another(url: str) -> AsyncIterator[str]:
    """A second empty database on the same server."""
    name = urlsplit(url).path[1:] + "_2"
    async with connected(url) as connection:
        await connection.execute(f"CREATE DATABASE {name}")
        yield urlsplit(url)._replace(path=f"/{name}").geturl()
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a migrated database."""
    await migrate(database_url)
    async with connected(database_url) as connection:
        yield connection


async def test_the_schema_file_is_what_the_migrations_lead_to(database_url: str) -> None:
    await migrate(database_url)
    async with another(database_url) as url, connected(database_url) as by_steps, connected(url) as at_once:
        await at_once.execute(sql.schema())
        expected = [tuple(row) for row in await by_steps.fetch(CATALOG)]
        assert [tuple(row) for row in await at_once.fetch(CATALOG)] == expected
        assert len(expected) > 100


@pytest.mark.parametrize("name", sql.queries())
async def test_every_statement_is_valid(database: asyncpg.Connection, name: str) -> None:
    assert await database.prepare(sql.queries()[name])


async def test_migrating_twice_or_all_at_once_applies_each_step_once(database_url: str) -> None:
    outcomes = await asyncio.gather(*(migrate(database_url) for _ in range(5)))
    names = [step.name for step in sql.migrations()]
    assert sorted(name for outcome in outcomes for name in outcome) == names
    assert await migrate(database_url) == []
    async with connected(database_url) as connection:
        assert [row[0] for row in await connection.fetch("SELECT name FROM gateway_migrations ORDER BY 1")] == names


async def test_a_newer_or_changed_database_is_refused(database: asyncpg.Connection, database_url: str) -> None:
    await database.execute("INSERT INTO gateway_migrations VALUES ('9999_future', '?')")
    with pytest.raises(MigrationRefused, match="9999_future"):
        await migrate(database_url)
    await database.execute("DELETE FROM gateway_migrations WHERE name = '9999_future'")
    await database.execute("UPDATE gateway_migrations SET checksum = 'other' WHERE name = '0001_initial'")
    with pytest.raises(MigrationRefused, match="0001_initial"):
        await migrate(database_url)


async def test_a_step_that_fails_leaves_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = sql.Migration("0001_initial", "CREATE TABLE half (n int); SELECT 1 / 0;")
    monkeypatch.setattr(sql, "migrations", lambda: [broken])
    with pytest.raises(MigrationRefused, match="0001_initial cannot be applied: division by zero"):
        await migrate(database_url)
    monkeypatch.undo()
    async with connected(database_url) as connection:
        assert await connection.fetchval("SELECT to_regclass('half')") is None
    assert await migrate(database_url)


async def test_an_objection_of_postgres_is_told_in_its_words(database_url: str) -> None:
    with pytest.raises(MigrationRefused, match="does not exist"):
        await migrate(urlsplit(database_url)._replace(path="/nowhere").geturl())


async def test_a_database_that_is_away_is_said_to_be_away(short_dir: str) -> None:
    with pytest.raises(StoreUnavailable):
        await migrate(f"postgresql://postgres@/gateway?host={short_dir}")


def month(day: date, offset: int) -> date:
    index = day.year * 12 + day.month - 1 + offset
    return date(index // 12, index % 12 + 1, 1)


INSERT = """
INSERT INTO usage_logs (id, api_key_id, model, prompt_tokens, completion_tokens, endpoint, response_time_ms, created_at,
    month, credits_micro, estimated, status, http_status, backend, streamed, finish_reason, first_token_ms, load_ms,
    prompt_ms, eval_ms, end_user)
VALUES (gen_random_uuid(), 'k', 'm', 2147483647, 2147483647, '/', 1, $1, '202611', 0, false, 'ok', 200, 'b', false, '',
    0, 0, 0, 0, '')
"""


async def test_a_month_gets_its_partition_with_the_rows_that_came_before_it(database: asyncpg.Connection) -> None:
    since = datetime(2031, 12, 1, tzinfo=UTC)
    until = datetime(2032, 1, 1, tzinfo=UTC)
    edge = timedelta(microseconds=1)
    for at in (since - edge, since, until - edge, until):
        await database.execute(INSERT, at)
    assert await database.fetchval("SELECT count(*) FROM usage_logs_default") == 4
    assert await database.fetchval("SELECT make_usage_partition('2031-12-17')") is True
    assert await database.fetchval("SELECT make_usage_partition('2031-12-01')") is False
    await database.execute(INSERT, since + timedelta(days=3))
    assert await database.fetchval("SELECT count(*) FROM usage_logs_203112") == 3
    assert await database.fetchval("SELECT count(*) FROM usage_logs_default") == 2
    assert await database.fetchval("SELECT count(*) FROM usage_logs") == 5
    assert await database.fetchval("SELECT max(total_tokens) FROM usage_logs") == 2 * (2**31 - 1)
    indexes = await database.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = 'usage_logs_203112'")
    assert len(indexes) == 3


async def test_partitions_are_cut_at_midnight_utc_whatever_the_session_thinks(database: asyncpg.Connection) -> None:
    await database.execute("SET timezone = 'Pacific/Auckland'")
    assert await database.fetchval("SELECT make_usage_partition('2031-05-31')")
    await database.execute("SET timezone = 'UTC'")
    bound = await database.fetchval(
        "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'usage_logs_203105'"
    )
    assert bound == "FOR VALUES FROM ('2031-05-01 00:00:00+00') TO ('2031-06-01 00:00:00+00')"


async def test_a_changed_row_gets_a_new_version_whoever_changes_it(database: asyncpg.Connection) -> None:
    await database.execute(
        "INSERT INTO api_keys (id, digest, last_four, rate_limit_per_min) VALUES ('a', repeat('0', 64), 'abcd', 20)"
    )
    before = await database.fetchrow("SELECT * FROM api_keys")
    await database.execute("UPDATE api_keys SET label = 'by hand', version = 1")
    after = await database.fetchrow("SELECT * FROM api_keys")
    assert before and after
    assert after["version"] == before["version"] + 1
    assert after["updated_at"] > before["updated_at"]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("id = ''", "api_keys_id_form"),
        ("id = 'a:b'", "api_keys_id_form"),
        ("digest = 'short'", "api_keys_digest_form"),
        ("rate_limit_per_min = 0", "api_keys_rate_limit_per_min_range"),
        ("tokens_per_min = 0", "api_keys_tokens_per_min_range"),
        ("concurrency = 0", "api_keys_concurrency_range"),
        ("monthly_token_limit = -1", "api_keys_monthly_token_limit_range"),
        ("credits_granted_micro = 9007199254740992", "api_keys_credits_granted_range"),
        ("expires_at = 'infinity'", "api_keys_times_finite"),
        ("revoked_at = now()", "api_keys_revoked_for_good"),
        ("label = repeat('x', 501)", "api_keys_label_short"),
    ],
)
async def test_rules_have_names(database: asyncpg.Connection, change: str, rule: str) -> None:
    await database.execute(
        "INSERT INTO api_keys (id, digest, last_four, rate_limit_per_min) VALUES ('a', repeat('0', 64), 'abcd', 20)"
    )
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await database.execute(f"UPDATE api_keys SET {change}")
    assert caught.value.constraint_name == rule
