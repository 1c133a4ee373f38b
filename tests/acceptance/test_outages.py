"""Redis away, Redis empty, Postgres away: 503 with Retry-After or business as usual, and never 401."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from gateway.dev.postgres import EmbeddedPostgres
from gateway.dev.valkey import EmbeddedValkey
from tests.world import World, bearer, chat, credits_left, running

CHAT = "/v1/chat/completions"
BACK_WITHIN_S = 10.0


@asynccontextmanager
async def own_servers(
    directory: Path, fake: FakeOllama
) -> AsyncIterator[tuple[World, EmbeddedValkey, EmbeddedPostgres]]:
    """A world on servers that the test may stop and kill."""
    valkey, postgres = EmbeddedValkey(directory / "v"), EmbeddedPostgres(directory / "p", fsync=False)
    await asyncio.gather(valkey.start(), postgres.start())
    try:
        async with running(World(valkey.url, postgres.url, [fake.url], directory)) as world:
            yield world, valkey, postgres
    finally:
        await asyncio.gather(valkey.stop(), postgres.stop())


@pytest.fixture
async def servers(short_dir: Path, fake: FakeOllama) -> AsyncIterator[tuple[World, EmbeddedValkey, EmbeddedPostgres]]:
    async with own_servers(short_dir, fake) as three:
        yield three


Servers = tuple[World, EmbeddedValkey, EmbeddedPostgres]


async def test_redis_killed_means_503_and_a_running_stream_goes_on_and_is_settled_later(
    servers: Servers, fake: FakeOllama
) -> None:
    world, valkey, _ = servers
    key = await world.create_key(credits=9)
    fake.behaviour = Behaviour(tokens=60, tokens_per_s=20)
    streaming = asyncio.create_task(world.http.post(world.url + CHAT, headers=bearer(key), json=chat(stream=True)))
    await fake.ledger.until(lambda ledger: any(one.tokens_sent > 5 for one in ledger.inference))
    await valkey.kill()
    for path, body in ((CHAT, chat()), ("/v1/generate", {"prompt": "hi"})):
        reply = await world.http.post(world.url + path, headers=bearer(key), json=body)
        assert reply.status_code == 503
        assert int(reply.headers["retry-after"]) > 0
        stranger = await world.http.post(world.url + path, headers=bearer(_stranger()), json=body)
        assert stranger.status_code == 503
    assert (await world.http.get(f"{world.url}/v1/usage", headers=bearer(key))).status_code == 503
    ready = await world.http.get(f"{world.url}/ready")
    assert (ready.status_code, ready.json()["redis"]) == (503, "away")

    answer = await streaming
    assert answer.text.endswith("data: [DONE]\n\n")
    await valkey.start()
    fake.behaviour = Behaviour()
    await _works_again(world, key)
    rows = await world.rows(2)
    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert rows[0]["completion_tokens"] == 60
    assert (await world.usage(key))["credits"] == credits_left(7, of=9)
    assert await world.leases() == 0


async def test_redis_emptied_means_503_until_the_keys_are_back_with_their_balances(servers: Servers) -> None:
    world, _, _ = servers
    key = await world.create_key(credits=9, monthly_token_limit=5_000)
    assert (await world.http.post(world.url + CHAT, headers=bearer(key), json=chat())).status_code == 200
    (row,) = await world.rows(1)
    for worker in world.workers:
        await worker.stop()
    await world.redis.flushall()
    await world.redis.function_flush()
    for _ in range(5):
        reply = await world.http.post(world.url + CHAT, headers=bearer(key), json=chat())
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "keys_not_loaded")
    assert (await world.http.get(f"{world.url}/ready")).json()["keys"] == "loading"
    world.add_worker()
    await world.ready()
    usage = await world.usage(key)
    assert usage["credits"] == credits_left(8, of=9)
    assert usage["monthly_tokens"]["spent"] == row["total_tokens"]
    stranger = await world.http.post(world.url + CHAT, headers=bearer(_stranger()), json=chat())
    assert stranger.status_code == 401
    assert (await world.http.post(world.url + CHAT, headers=bearer(key), json=chat())).status_code == 200
    await world.rows(2)


async def test_postgres_away_stops_the_admin_api_and_nothing_else(servers: Servers) -> None:
    world, _, postgres = servers
    key = await world.create_key()
    await postgres.kill()
    for _ in range(3):
        assert (await world.http.post(world.url + CHAT, headers=bearer(key), json=chat())).status_code == 200
    ready = await world.http.get(f"{world.url}/ready")
    assert (ready.status_code, ready.json()["postgres"]) == (200, "away")
    with pytest.raises(Exception, match="503"):
        await world.create_key()
    await postgres.start()
    assert len(await world.rows(3)) == 3
    await world.create_key()


async def _works_again(world: World, key: str) -> None:
    async with asyncio.timeout(BACK_WITHIN_S):
        while (await world.http.post(world.url + CHAT, headers=bearer(key), json=chat())).status_code != 200:
            await asyncio.sleep(0.05)


def _stranger() -> str:
    """A well-formed key that nobody has made."""
    from gateway.core import keys

    return keys.mint("llm", bytes(range(32)))
