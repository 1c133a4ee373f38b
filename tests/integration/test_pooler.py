"""The whole system behind a pooler in transaction mode, on a database that no superuser owns, as on Supabase.

Migrations run as the owner, replicas as a user in gateway_app, workers as one in gateway_worker: all by the pooler,
which has fewer sessions than they have connections.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from msgspec import Struct

import sql
from gateway.dev.fake_ollama import FakeOllama
from gateway.dev.postgres import EmbeddedPostgres
from tests.acceptance.operators import Operator
from tests.database_users import APP, READER, WORKER, connected
from tests.pooler import PROGRAM, SESSIONS_MAX, Pooler
from tests.world import World, bearer, chat
from workers.migrate import migrate

DATABASE = "supa"
CALLS = 40
MODELS = ("llama3.2:3b", "qwen3:8b")
SESSIONS = """
SELECT usename, count(*) AS sessions FROM pg_stat_activity
WHERE datname = $1 AND usename IN ('the_app', 'the_worker') GROUP BY usename
"""
LEFT_BEHIND = """
SELECT pg_backend_pid() AS pid, current_setting('statement_timeout') AS statement,
       current_setting('lock_timeout') AS lock,
       (SELECT count(*) FROM pg_prepared_statements WHERE name <> '') AS prepared
"""

pytestmark = pytest.mark.skipif(
    not PROGRAM and not os.environ.get("CI"), reason="there is no pgbouncer here: apt-get install pgbouncer"
)


class Pooled(Struct):
    """What the tests have: a world behind the pooler, and its database past it, as the superuser."""

    world: World
    owner_url: str
    """by the pooler"""
    direct_url: str


@pytest.fixture
async def pooled(redis_url: str, short_dir: Path, fake: FakeOllama) -> AsyncIterator[Pooled]:
    server = EmbeddedPostgres(short_dir / "postgres", fsync=False)
    await server.start()
    direct = server.url_of(DATABASE)
    pooler = Pooler(short_dir / "pooler", server.url, ["the_owner", "the_app", "the_worker", "the_reader"])
    urls = {user: pooler.url_of(DATABASE, user) for user in ("the_owner", "the_app", "the_worker")}
    world = World(redis_url, direct, [fake.url], short_dir, DATABASE_URL=urls["the_app"])
    try:
        await make_users(server.url)
        await pooler.start(DATABASE)
        assert await migrate(urls["the_owner"]) == [step.name for step in sql.migrations()]
        await give_groups(direct)
        await world.add_replica()
        await world.add_replica()
        for _ in range(2):
            world.add_worker(DATABASE_URL=urls["the_worker"])
        await world.ready()
        yield Pooled(world, urls["the_owner"], direct)
    finally:
        await world.stop()
        await pooler.stop()
        await server.stop()


async def make_users(superuser_url: str) -> None:
    async with connected(superuser_url) as superuser:
        await superuser.execute("CREATE ROLE the_owner LOGIN NOSUPERUSER CREATEROLE")
        for user in ("the_app", "the_worker", "the_reader"):
            await superuser.execute(f"CREATE ROLE {user} LOGIN")
        await superuser.execute(f"CREATE DATABASE {DATABASE} OWNER the_owner")


async def give_groups(superuser_url: str) -> None:
    """As an operator does once, after the first migration."""
    async with connected(superuser_url) as superuser:
        for group, user in ((APP, "the_app"), (WORKER, "the_worker"), (READER, "the_reader")):
            await superuser.execute(f"GRANT {group} TO {user}")


@pytest.fixture
def operator(pooled: Pooled) -> Operator:
    return Operator(pooled.world)


async def test_calls_are_made_counted_reported_and_reconciled(pooled: Pooled, operator: Operator) -> None:
    world = pooled.world
    keys = [await operator.make("/api-keys", label=f"key {n}", credits=100, rate_limit_per_min=None) for n in range(4)]
    calls = [(keys[n % 4], MODELS[n % 2], world.replicas[n // 2 % 2][1]) for n in range(CALLS)]
    replies = await asyncio.gather(
        *(
            world.http.post(f"{url}/v1/chat/completions", headers=bearer(key["key"]), json=chat(model=model))
            for key, model, url in calls
        )
    )
    assert {reply.status_code for reply in replies} == {200}
    rows = await world.rows(CALLS)
    assert sorted(row["api_key_id"] for row in rows) == sorted(key["id"] for key, _, _ in calls)
    async with connected(pooled.direct_url) as database:
        assert await database.fetchval("SELECT sum(calls) FROM dashboard.daily") == CALLS
        sessions = {row["usename"]: row["sessions"] for row in await database.fetch(SESSIONS, DATABASE)}
    assert sessions.keys() == {"the_app", "the_worker"}
    assert max(sessions.values()) <= SESSIONS_MAX
    report = await operator.get("/usage?group_by=model")
    assert sum(group["calls"] for group in report["data"]) == CALLS
    own = await world.usage_told(keys[0]["key"])
    assert sum(day["calls"] for day in own["by_day"]) == CALLS / 4
    assert (await operator.get("/reconcile"))["agrees"]


async def test_an_operator_changes_everything_there_is(operator: Operator) -> None:
    team = await operator.make("/teams", label="research", credits=10)
    await operator.make("/tiers", name="gold", multiplier=0.5, rate_limit_per_min=300)
    key = await operator.make("/api-keys", label="one", team_id=team["id"], tier="gold")
    assert (await operator.call(key["key"])).status_code == 200
    await operator.change(f"/api-keys/{key['id']}", label="renamed")
    await operator.change("/tiers/gold", multiplier=0.25)
    await operator.make("/backends", name="spare", url="http://127.0.0.1:9", draining=True)
    await operator.make("/aliases", name="fast", targets=["llama3.2:3b"])
    assert len((await operator.get("/backends"))["data"]) == 2
    await operator.remove("/backends/spare")
    await operator.remove("/aliases/fast:latest")
    await operator.remove(f"/api-keys/{key['id']}")
    await operator.until(key["key"], 401)
    actions = [(entry["action"], entry["object"].partition(":")[0]) for entry in await operator.audit()]
    assert len(actions) >= 10
    assert {kind for _, kind in actions} >= {"key", "team", "tier"}


async def test_migrating_again_by_the_pooler_finds_nothing_to_do(pooled: Pooled) -> None:
    assert await asyncio.gather(*(migrate(pooled.owner_url) for _ in range(4))) == [[], [], [], []]


async def test_nothing_of_a_transaction_stays_behind_in_a_session(pooled: Pooled, operator: Operator) -> None:
    """A time-out that outlasts its transaction would be somebody else's."""
    for number in range(10):
        await operator.make("/teams", label=f"research {number}")
    url = pooled.owner_url.replace("the_owner", "the_app")
    guests = [await asyncpg.connect(url, statement_cache_size=0) for _ in range(SESSIONS_MAX)]
    begun = [guest.transaction() for guest in guests]
    for one in begun:  # all at once, so that each has a session of its own: there are no others
        await one.start()
    seen = [await guest.fetchrow(LEFT_BEHIND) for guest in guests]
    for one, guest in zip(begun, guests, strict=True):
        await one.rollback()
        await guest.close()
    assert len({row["pid"] for row in seen}) == SESSIONS_MAX
    assert {(row["statement"], row["lock"], row["prepared"]) for row in seen} == {("0", "0", 0)}
