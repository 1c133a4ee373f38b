"""Replicas whose Redis user may not load functions: `llm-gateway migrate` does it, and until then they say so."""

import asyncio
import json
import sys
from pathlib import Path
from urllib.parse import urlsplit

import redis

from gateway.dev.fake_ollama import FakeOllama
from gateway.state.functions import Functions, fleet_source, source
from tests.acceptance.conftest import Start
from tests.world import bearer, chat

PASSWORD = "a password for tests only"


async def migrate(redis_url: str, database_url: str, *flags: str) -> tuple[int, str]:
    """Exit code and output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "migrate", *flags,
        env={"REDIS_URL": redis_url, "DATABASE_URL": database_url, "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd="/", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


def libraries() -> list[str]:
    return [Functions(None, text).library for text in (source(), fleet_source())]  # type: ignore[arg-type]


def installed(redis_url: str) -> set[str]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        return {dict(zip(one[::2], one[1::2], strict=True))["library_name"] for one in client.function_list()}


async def test_migrate_loads_the_functions_and_prunes_those_of_other_versions(
    redis_url: str, database_url: str
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        for name in ("llmgw_0123456789ab", "somebodys_own"):
            client.function_load(f"#!lua name={name}\nredis.register_function('{name}_x', function() return 1 end)")
    mine = libraries()
    code, said = await migrate(redis_url, database_url)
    assert code == 0
    assert said.splitlines()[-2:] == [f"loaded {name} into Redis" for name in mine]
    assert installed(redis_url) == {*mine, "llmgw_0123456789ab", "somebodys_own"}
    assert await migrate(redis_url, "", "--prune") == (0, "removed llmgw_0123456789ab from Redis\n")
    assert installed(redis_url) == {*mine, "somebodys_own"}
    assert await migrate(redis_url, "", "--prune") == (0, "Redis has no functions of other versions\n")


async def test_migrate_says_why_it_could_not(redis_url: str, database_url: str) -> None:
    await migrate("", database_url)
    code, said = await migrate("redis://127.0.0.1:1", database_url)
    assert (code, said.splitlines()[0]) == (1, "the database is up to date")
    assert "Redis does not answer" in said
    with redis.Redis.from_url(redis_url) as client:
        client.acl_setuser("nobody", enabled=True, passwords=[f"+{PASSWORD}"], commands=["+ping"], reset=True)
        code, said = await migrate(_as(redis_url, "nobody"), database_url)
        client.acl_deluser("nobody")
    assert (code, "llm-gateway migrate: Redis refused: " in said) == (1, True)
    assert PASSWORD not in said


async def test_a_replica_that_may_not_load_functions_says_who_may(
    start: Start, fake: FakeOllama, redis_url: str, database_url: str
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.acl_setuser("replica", enabled=True, passwords=[f"+{PASSWORD}"], reset=True, keys=["*"], channels=["*"],
                           commands=["+@all", "-function"])  # fmt: skip
        try:
            async with start([fake.url], workers=1) as world:
                key = await world.create_key()
                await world.workers[0].stop()  # it would load them again
                url = await world.add_replica(REDIS_URL=_as(redis_url, "replica"))
                await world.ready()
                await world.replicas[0][0].stop()
                client.function_flush()
                for _ in range(5):
                    reply = await world.http.post(f"{url}/v1/chat/completions", json=chat(), headers=bearer(key))
                    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "limits_unavailable")
                assert (await world.http.get(f"{url}/v1/usage", headers=bearer(key))).status_code == 503
                told = _told(world.log("replica-1"))
                code, _ = await migrate(redis_url, database_url)
                assert code == 0
                reply = await world.http.post(f"{url}/v1/chat/completions", json=chat(), headers=bearer(key))
                assert reply.status_code == 200
        finally:
            client.acl_deluser("replica")
    assert len(told) == 1, "once a minute, not with every call"
    assert "run `llm-gateway migrate`" in told[0]["advice"]


def _told(log: str) -> list[dict[str, str]]:
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == "redis_refused"]


def _as(redis_url: str, user: str) -> str:
    """The same Redis for another user."""
    parts = urlsplit(redis_url)
    password = PASSWORD.replace(" ", "%20")
    if parts.scheme == "unix":
        return f"unix://{user}:{password}@{parts.path}"
    return f"redis://{user}:{password}@{parts.netloc.rpartition('@')[2]}"
