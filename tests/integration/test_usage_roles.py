"""Who may do what in the database: three groups with no more rights than they need, and everybody else sees nothing."""

import io
from collections.abc import AsyncIterator

import asyncpg
import pytest

import sql
from gateway.admin.postgres import open_pool
from gateway.core.limits import Limits
from gateway.telemetry.logs import Log
from tests.dashboard_queries import COLUMNS
from tests.database_users import APP, GROUPS, READER, WORKER, connected, user_in
from tests.integration.usage_events import AT_MS, event
from workers.migrate import migrate
from workers.store import UsageStore
from workers.upkeep import Upkeep

DAY_MS = 86_400_000
READ, ADD, CHANGE, ALL = "r", "ra", "raw", "rawd"
"""rights, as Postgres abbreviates them: r SELECT, a INSERT, w UPDATE, d DELETE"""
LETTERS = {
    "SELECT": "r",
    "INSERT": "a",
    "UPDATE": "w",
    "DELETE": "d",
    "TRUNCATE": "D",
    "REFERENCES": "x",
    "TRIGGER": "t",
}
MATRIX: dict[str, dict[str, str]] = {
    "admin_requests": {APP: ALL, WORKER: "rd"},
    "api_key_secrets": {APP: ALL, WORKER: READ},
    "api_keys": {APP: ALL, WORKER: READ},
    "audit_log": {APP: ADD},
    "backends": {APP: ALL, WORKER: READ},
    "credit_grants": {APP: ADD, WORKER: READ},
    "default_limits": {APP: READ, WORKER: CHANGE},
    "fleet": {APP: ALL, WORKER: READ},
    "gateway_migrations": {APP: READ, WORKER: READ},
    "model_aliases": {APP: ALL, WORKER: READ},
    "price_list": {APP: ALL, WORKER: READ},
    "prices": {APP: ALL, WORKER: READ},
    "teams": {APP: ALL, WORKER: READ},
    "tiers": {APP: ALL, WORKER: READ},
    "usage_attempts": {APP: READ, WORKER: ADD},
    "usage_attempts_default": {WORKER: READ},
    "usage_daily": {APP: READ, WORKER: CHANGE},
    "usage_hourly": {APP: READ, WORKER: CHANGE},
    "usage_hourly_default": {WORKER: READ},
    "usage_logs": {APP: READ, WORKER: ADD},
    "usage_logs_default": {WORKER: READ},
    "usage_monthly": {APP: READ, WORKER: CHANGE},
    "usage_timings": {APP: READ, WORKER: CHANGE},
    "usage_timings_default": {WORKER: READ},
}
"""What each group may do with each table; nothing with partitions of months, which it reaches through their parents."""
RIGHTS = """
SELECT c.relname, g.name, right_name
FROM pg_class AS c, unnest($1::text[]) AS g (name), unnest($2::text[]) AS right_name
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v')
  AND has_table_privilege(g.name, c.oid, right_name)
"""
TABLES = """
SELECT relname, relrowsecurity FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') ORDER BY relname
"""
MIGRATIONS_ONLY = {"record_migration"}
WORKER_ONLY = {"insert_usage", "stray_months", "make_partition", "drop_partitions", "set_default_limits"}
NOT_OF_WORKERS = {
    "add_price", "answer_request", "audit_before", "claim_request", "create_alias", "create_backend", "create_grant",
    "create_key", "create_secret", "create_team", "create_tier", "expire_secrets", "forget_team", "grant_to_key",
    "grant_to_team", "hold_tier", "keep_secret", "lock_aliases", "lock_backends", "lock_key", "lock_team", "lock_tier",
    "lock_tiers", "remove_alias", "remove_backend", "remove_price", "remove_team", "remove_tier", "revoke_key",
    "touch_key", "update_alias", "update_backend", "update_key", "update_team", "update_tier", "write_audit",
    "months_without_hours", "own_use_by_day", "own_use_by_model", "usage_report",
} | MIGRATIONS_ONLY  # fmt: skip
CHANGING = {
    "make_usage_partition(date)": {WORKER},
    "drop_usage_partitions(integer,timestamp with time zone)": {WORKER},
    "close_table(regclass)": set(),
    "rebuild_usage_rollups(text)": set(),
    "grant_gateway_roles()": set(),
}
"""functions that change more than a row that triggers them, and who may call them"""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """The owner's connection to a migrated database with partitions and one call."""
    await migrate(database_url)
    async with connected(database_url) as connection:
        await connection.execute("SELECT make_usage_partition(now()::date)")
        postgres = await open_pool(database_url)
        await UsageStore(postgres).insert([event(1)])
        await postgres.close()
        await connection.execute("INSERT INTO api_keys (id) VALUES ('somebody')")
        yield connection


async def test_row_level_security_is_on_for_every_table_and_partition(database: asyncpg.Connection) -> None:
    tables = {row["relname"]: row["relrowsecurity"] for row in await database.fetch(TABLES)}
    assert len(tables) > len(MATRIX)
    assert [name for name, on in tables.items() if not on] == []


async def test_each_group_has_the_rights_of_the_matrix_and_a_policy_for_each(database: asyncpg.Connection) -> None:
    found: dict[str, dict[str, str]] = {}
    for table, group, right in await database.fetch(RIGHTS, GROUPS, list(LETTERS)):
        rights = found.setdefault(table, {})
        rights[group] = "".join(sorted(rights.get(group, "") + LETTERS[right], key="rawdDxt".index))
    assert found == MATRIX
    policies = {(row["tablename"], row["policyname"]) for row in await database.fetch("SELECT * FROM pg_policies")}
    assert policies == {(table, group) for table, groups in MATRIX.items() for group in groups}


async def test_functions_that_change_something_are_for_few(database: asyncpg.Connection) -> None:
    for function, groups in CHANGING.items():
        allowed = [has async for has in may_call(database, function)]
        assert set(allowed) == groups, function


async def may_call(database: asyncpg.Connection, function: str) -> AsyncIterator[str]:
    for group in GROUPS:
        if await database.fetchval("SELECT has_function_privilege($1, $2, 'EXECUTE')", group, function):
            yield group


async def test_whatever_runs_as_its_owner_is_in_the_list(database: asyncpg.Connection) -> None:
    definers = "SELECT oid::regprocedure::text FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace"
    assert {row[0] for row in await database.fetch(definers)} <= CHANGING.keys()


async def refusals(url: str) -> set[str]:
    """The statements that Postgres would not let this user run: it looks when a plan is made ready, or a lock taken."""
    found = set()
    async with connected(url) as connection:
        for name, text in sql.queries().items():
            transaction = connection.transaction()
            await transaction.start()
            try:
                await try_out(connection, name, text)
            except asyncpg.InsufficientPrivilegeError:
                found.add(name)
            await transaction.rollback()
    return found


async def try_out(connection: asyncpg.Connection, name: str, text: str) -> None:
    """As far as possible without values."""
    if "\nLOCK TABLE " in f"\n{text}":
        await connection.execute(text)
        return
    statement = await connection.prepare(text)
    nothing = ", ".join(["NULL"] * len(statement.get_parameters()))
    await connection.execute(f"PREPARE {name} AS {text}")
    await connection.execute(f"EXPLAIN EXECUTE {name}{f'({nothing})' if nothing else ''}")


async def test_the_gateway_runs_every_statement_but_those_of_workers_and_migrations(
    database: asyncpg.Connection, database_url: str
) -> None:
    async with user_in(database_url, APP) as url:
        assert await refusals(url) == WORKER_ONLY | MIGRATIONS_ONLY


async def test_a_worker_changes_nothing_that_is_the_admin_apis(database: asyncpg.Connection, database_url: str) -> None:
    async with user_in(database_url, WORKER) as url:
        found = await refusals(url)
    assert found == NOT_OF_WORKERS


async def none_waits() -> None:
    return None


async def test_a_worker_keeps_rows_sums_and_partitions(database: asyncpg.Connection, database_url: str) -> None:
    await database.execute("SELECT make_usage_partition(now()::date - 100)")
    async with user_in(database_url, WORKER) as url:
        postgres = await open_pool(url)
        old, late = event(2, at_ms=AT_MS + 400 * DAY_MS), event(3)
        assert (await UsageStore(postgres).insert([old, late])).rows == 2  # one of them into the default partitions
        upkeep = Upkeep(
            postgres,
            Log(lambda: 0.0, io.StringIO()),
            months_kept=2,
            oldest_ms=none_waits,
            defaults=Limits(monthly_token_limit=7),
        )
        assert await upkeep.run_once() >= 5  # this month and three ahead, that of the row, and one dropped
        assert await upkeep.run_once() == 0
        await postgres.close()
    assert await database.fetchval("SELECT count(*) FROM usage_logs_default") == 0
    assert await database.fetchval("SELECT sum(calls) FROM usage_daily") == 3
    assert await database.fetchval("SELECT limits ->> 'monthly_token_limit' FROM default_limits") == "7"


async def test_a_reader_reads_every_view_and_nothing_else(database: asyncpg.Connection, database_url: str) -> None:
    views = [row["view"] for row in await database.fetch(COLUMNS)]
    tables = [row["relname"] for row in await database.fetch(TABLES)]
    async with user_in(database_url, READER) as url, connected(url) as reader:
        for view in views:
            await reader.fetch(f"SELECT * FROM dashboard.{view}")
        assert await reader.fetchval("SELECT sum(calls) FROM dashboard.daily") == 1
        for table in tables:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.fetch(f"SELECT FROM {table}")
        for view in views:
            for change in (f"DELETE FROM dashboard.{view}", f"INSERT INTO dashboard.{view} DEFAULT VALUES"):
                with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.ObjectNotInPrerequisiteStateError)):
                    await reader.execute(change)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute("CREATE TABLE public.mine ()")


async def test_granting_again_changes_nothing(database: asyncpg.Connection) -> None:
    before = await database.fetch(RIGHTS, GROUPS, list(LETTERS)), await database.fetch("SELECT * FROM pg_policies")
    for _ in range(2):
        assert await database.fetchval("SELECT grant_gateway_roles()") == list(GROUPS)
    after = await database.fetch(RIGHTS, GROUPS, list(LETTERS)), await database.fetch("SELECT * FROM pg_policies")
    assert [sorted(map(repr, rows)) for rows in after] == [sorted(map(repr, rows)) for rows in before]
