"""Whoever is in no group sees nothing and changes nothing, whatever a platform grants; and groups may be made later."""

from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from msgspec.structs import replace

import sql
from gateway.admin.postgres import open_pool
from gateway.core.usage import Tried
from gateway.dev.postgres import EmbeddedPostgres
from tests.database_users import APP, GROUPS, READER, WORKER, connected, url_as, user_in
from tests.integration.test_usage_roles import CHANGING, TABLES
from tests.integration.usage_events import DETAIL, event
from workers.migrate import migrate
from workers.store import UsageStore

CALLS_OF = {
    "make_usage_partition(date)": "SELECT make_usage_partition('2031-01-01')",
    "drop_usage_partitions(integer,timestamp with time zone)": "SELECT drop_usage_partitions(2, NULL)",
    "close_table(regclass)": "SELECT close_table('usage_logs')",
    "rebuild_usage_rollups(text)": "SELECT rebuild_usage_rollups('202611')",
    "grant_gateway_roles()": "SELECT grant_gateway_roles()",
}
PLATFORM = """
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO {0};
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS TO {0};
GRANT USAGE ON SCHEMA public TO {0};
"""
"""as Supabase does for `anon`, whom everybody in the world may be"""


async def test_somebody_who_was_granted_everything_sees_no_row_and_changes_none(database_url: str) -> None:
    async with user_in(database_url, None) as url, connected(database_url) as owner:
        await owner.execute(PLATFORM.format(urlsplit(url).username))
        await migrate(database_url)
        await owner.execute("SELECT make_usage_partition('2026-11-01')")
        postgres = await open_pool(database_url)
        await UsageStore(postgres).insert([event(1, detail=replace(DETAIL, attempts=(Tried("n", "e", 1, 1),)))])
        await postgres.close()
        tables = [row["relname"] for row in await owner.fetch(TABLES)]
        async with connected(url) as anybody:
            assert await anybody.fetchval("SELECT has_table_privilege('usage_logs', 'INSERT')")
            for table in tables:
                assert await anybody.fetch(f"SELECT * FROM {table}") == [], table
                with suppress(asyncpg.RestrictViolationError):  # of what is append-only
                    assert await anybody.execute(f"DELETE FROM {table}") == "DELETE 0"
            await inserting_is_refused(anybody)
            for call in CALLS_OF.values():
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await anybody.execute(call)
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await anybody.execute("SELECT * FROM dashboard.daily")
    assert CALLS_OF.keys() == CHANGING.keys()


async def inserting_is_refused(anybody: asyncpg.Connection) -> None:
    for row in NEW_ROWS:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await anybody.execute(f"INSERT INTO {row}")


NEW_ROWS = (
    "api_keys (id) VALUES ('mine')",
    "teams (id) VALUES ('mine')",
    "credit_grants VALUES ('g', NULL, 'mine', 1, '', now(), 'me')",
    "usage_monthly VALUES ('202611', 'k', '', 1, 1, 1, 1, 1)",
    "usage_timings VALUES (now(), 'm', 'queue', 1, 1)",
    "usage_timings_default VALUES ('2040-01-01', 'm', 'queue', 1, 1)",
    "usage_attempts VALUES (gen_random_uuid(), now(), 1, '', '', 1, 1)",
    "usage_attempts_202611 VALUES (gen_random_uuid(), '2026-11-02', 1, '', '', 1, 1)",
)


async def test_an_owner_who_may_make_no_roles_migrates_and_somebody_else_makes_them(short_dir: Path) -> None:
    """On a server of its own: roles belong to servers, and other tests have made them on theirs."""
    server = EmbeddedPostgres(short_dir / "postgres", fsync=False)
    await server.start()
    try:
        async with connected(server.url) as superuser:
            await superuser.execute("CREATE ROLE owner LOGIN NOSUPERUSER NOCREATEROLE")
            await superuser.execute("CREATE DATABASE owned OWNER owner")
        url = url_as(server.url_of("owned"), "owner", "")
        assert len(await migrate(url)) == len(sql.migrations())
        await roles_come_later(server.url_of("owned"), url)
    finally:
        await server.stop()


async def roles_come_later(superuser_url: str, owner_url: str) -> None:
    said: list[str] = []
    async with connected(owner_url) as owner:
        owner.add_log_listener(lambda _, message: said.append(str(message)))
        assert await owner.fetchval("SELECT grant_gateway_roles()") == []
        for group, text in zip(GROUPS, said, strict=True):
            assert f"the role {group} cannot be made by this user" in text
        assert await owner.fetch("SELECT * FROM dashboard.calls") == []
        assert await owner.fetchval("SELECT make_usage_partition('2031-01-01')")
    async with connected(superuser_url) as superuser:
        assert await superuser.fetchval("SELECT grant_gateway_roles()") == list(GROUPS)
    for group, statement in (
        (READER, "SELECT * FROM dashboard.calls"),
        (APP, "INSERT INTO teams (id) VALUES ('t') RETURNING id"),
        (WORKER, "SELECT make_usage_partition('2031-02-01')"),
    ):
        async with user_in(superuser_url, group) as url, connected(url) as one:
            await one.fetch(statement)


async def test_tables_that_are_not_the_gateways_stay_as_they_are(database_url: str) -> None:
    """`public` is often shared: other programs' tables, and some that the owner of the gateway's may not alter."""
    async with user_in(database_url, None) as url, connected(database_url) as superuser, connected(url) as other:
        await superuser.execute(f"GRANT CREATE ON SCHEMA public TO {urlsplit(url).username}")
        await other.execute("CREATE TABLE spatial_ref_sys AS SELECT 1 AS n")
        await migrate(database_url)
        assert not await superuser.fetchval("SELECT relrowsecurity FROM pg_class WHERE relname = 'spatial_ref_sys'")
        assert await other.fetchval("SELECT n FROM spatial_ref_sys") == 1


async def test_nobody_but_the_owner_may_empty_a_table(database_url: str) -> None:
    """Policies say nothing of TRUNCATE, which a platform grants to all beside the rest."""
    async with user_in(database_url, None) as url, connected(database_url) as owner:
        await owner.execute(PLATFORM.format(urlsplit(url).username))
        await migrate(database_url)
        await owner.execute("SELECT make_usage_partition('2026-11-01')")
        tables = [row["relname"] for row in await owner.fetch(TABLES)]
        async with connected(url) as anybody:
            for table in tables:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await anybody.execute(f"TRUNCATE {table} CASCADE")
        assert "usage_logs_202611" in tables
