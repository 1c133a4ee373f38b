"""What a row tells of its call: whose API, how long it waited, who failed before, what the node says it took."""

import asyncio

import asyncpg
import pytest

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from gateway.web.surfaces import CALLS
from tests.acceptance.conftest import Start
from tests.nodes import nodes
from tests.world import World, bearer, chat

CANARY = "a prompt that no table may hold"


async def test_every_surface_is_told_by_its_name(world: World) -> None:
    key = await world.create_key(rate_limit_per_min=1_000)
    for path in CALLS:
        body = _body(path) | {"stream": False}
        reply = await world.http.post(world.url + path, headers=bearer(key), json=body)
        assert reply.status_code == 200, (path, reply.text)
    rows = await world.rows(len(CALLS))
    assert {row["endpoint"]: row["dialect"] for row in rows} == {path: dialect.name for path, dialect in CALLS.items()}
    assert {row["dialect"] for row in rows} == {"openai", "anthropic", "ollama", "plain"}
    (address_hash,) = {row["address_hash"] for row in rows}
    assert len(address_hash) == 16
    assert all(row["gpu_ms"] == row["load_ms"] + row["prompt_ms"] + row["eval_ms"] for row in rows)
    assert any(row["gpu_ms"] for row in rows)


async def test_the_pepper_changes_the_hash_of_an_address(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url]) as world:
        key = await world.create_key()
        url = await world.add_replica(KEY_PEPPER="another pepper of this test alone", KEY_PEPPER_PREVIOUS="")
        await world.ready()
        for one in (world.url, url):
            await world.http.post(f"{one}/v1/chat/completions", headers=bearer(key), json=chat())
        rows = await world.rows(2)
        assert len({row["address_hash"] for row in rows}) == 2


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_try_that_failed_is_a_row_of_its_own(start: Start, streamed: bool) -> None:
    async with nodes(2) as fleet, start(fleet.urls, OLLAMA_SLOTS="4") as world:
        key = await world.create_key()
        await world.http.post(f"{world.url}/v1/chat/completions", headers=bearer(key), json=chat())
        (first,) = await world.rows(1)
        (bad,) = [node for node in fleet if node.url.endswith(first["backend"])]
        (good,) = [node for node in fleet if node is not bad]
        bad.behaviour = Behaviour(drop_after_chunks=0, first_byte_ms=30)
        reply = await world.http.post(
            f"{world.url}/v1/chat/completions", headers=bearer(key), json=chat(CANARY, stream=streamed)
        )
        assert reply.status_code == 200
        _, row = await world.rows(2)
        assert (row["status"], good.url.endswith(row["backend"])) == ("ok", True)
        (tried,) = await _attempts(world)
        assert (tried["call_id"], tried["created_at"], tried["number"]) == (row["id"], row["created_at"], 1)
        assert bad.url.endswith(tried["backend"])
        assert tried["status"] == "backend_unreachable"
        assert 30 <= tried["response_time_ms"] <= row["response_time_ms"]
        await _holds_no_prompt(world)


async def test_waiting_for_a_slot_is_told(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], OLLAMA_SLOTS="1") as world:
        key = await world.create_key()
        fake.behaviour = Behaviour(first_byte_ms=200)
        request = {"url": f"{world.url}/v1/chat/completions", "headers": bearer(key), "json": chat()}
        replies = await asyncio.gather(*(world.http.post(**request) for _ in range(2)))
        assert [reply.status_code for reply in replies] == [200, 200]
        waits = sorted(row["queue_ms"] for row in await world.rows(2))
        assert waits[0] < 150 <= waits[1]


def _body(path: str) -> dict[str, object]:
    if path in ("/v1/embeddings", "/api/embed"):
        return {"model": "nomic-embed-text", "input": "Why?"}
    if path == "/api/embeddings":
        return {"model": "nomic-embed-text", "prompt": "Why?"}
    if path == "/v1/responses":
        return {"model": "llama3.2:3b", "input": "Why?"}
    if path.endswith(("generate", "/completions")) and "chat" not in path:
        return {"model": "llama3.2:3b", "prompt": "Why?"}
    return chat(**({"max_tokens": 9} if path == "/v1/messages" else {}))


async def test_waiting_in_vain_is_told_too(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], OLLAMA_SLOTS="1") as world:
        key = await world.create_key()
        fake.behaviour = Behaviour(hang=True)
        request = {"url": f"{world.url}/v1/chat/completions", "headers": bearer(key), "json": chat()}
        first = asyncio.create_task(world.http.post(**request))
        await fake.ledger.until(lambda ledger: ledger.open == 1)
        refused = await world.http.post(**{**request, "headers": bearer(key) | {"x-max-wait-ms": "300"}})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "queue_timeout")
        first.cancel()
        waits = {row["status"]: row["queue_ms"] for row in await world.rows(2)}
        assert waits["queue_timeout"] >= 300 > waits["client_gone"]


async def test_a_failure_that_no_try_follows_is_no_try(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url]) as world:
        key = await world.create_key()
        fake.behaviour = Behaviour(load_failure=True)
        fake.shelf.unload(fake.shelf.models["llama3.2:3b"])
        reply = await world.http.post(f"{world.url}/v1/chat/completions", headers=bearer(key), json=chat())
        assert reply.status_code >= 500
        (row,) = await world.rows(1)
        assert row["backend"] and fake.url.endswith(row["backend"])
        assert await _attempts(world) == []


async def _attempts(world: World) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(world.database_url)
    try:
        found: list[asyncpg.Record] = await connection.fetch("SELECT * FROM usage_attempts")
        return found
    finally:
        await connection.close()


async def _holds_no_prompt(world: World) -> None:
    """No table of usage holds the words of a prompt or of an answer."""
    connection = await asyncpg.connect(world.database_url)
    try:
        for table in ("usage_logs", "usage_attempts", "usage_hourly", "usage_daily", "usage_timings"):
            assert not await connection.fetchval(
                f"SELECT count(*) FROM {table} AS t WHERE t::text LIKE $1", f"%{CANARY}%"
            )
    finally:
        await connection.close()
