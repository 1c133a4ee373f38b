"""Usage that cannot be recorded: new calls are refused, running ones end in rows, and nobody's usage is lost."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from gateway.dev.postgres import EmbeddedPostgres
from gateway.dev.valkey import EmbeddedValkey
from gateway.errors import MeteringBacklog
from tests.acceptance.operators import Operator, everything
from tests.world import World, bearer, chat, running

CHAT = "/v1/chat/completions"
BUDGET = {"SHARDS": "16", "USAGE_STREAM_BYTES_MAX": str(2**20)}
"""64 KiB for the shard of the key: some hundred calls"""
AT_ONCE = 8
CALLS_MAX = 2_000
"""far more than the budget holds"""
STREAMS = 3
DIALECTS: dict[str, dict[str, Any]] = {
    CHAT: chat(),
    "/v1/completions": {"model": "llama3.2:3b", "prompt": "hi"},
    "/v1/embeddings": {"model": "llama3.2:3b", "input": "hi"},
    "/v1/responses": {"model": "llama3.2:3b", "input": "hi"},
    "/v1/messages": chat(max_tokens=9),
    "/api/chat": chat(),
    "/api/generate": {"model": "llama3.2:3b", "prompt": "hi"},
    "/api/embed": {"model": "llama3.2:3b", "input": "hi"},
    "/v1/generate": {"prompt": "hi"},
    "/generate": {"prompt": "hi"},
}
MESSAGE = MeteringBacklog().message
OTHERS = (":lease:", ":leases", ":running:", ":failures:")


@pytest.fixture
async def servers(short_dir: Path, fake: FakeOllama) -> AsyncIterator[tuple[World, EmbeddedPostgres]]:
    """A world with little room for events, on a database that the test may stop."""
    valkey, postgres = EmbeddedValkey(short_dir / "v"), EmbeddedPostgres(short_dir / "p", fsync=False)
    await asyncio.gather(valkey.start(), postgres.start())
    try:
        async with running(World(valkey.url, postgres.url, [fake.url], short_dir, **BUDGET), replicas=2) as world:
            yield world, postgres
    finally:
        await asyncio.gather(valkey.stop(), postgres.stop())


class Client:
    """Calls of one key, by turns at both replicas."""

    def __init__(self, world: World, key: str) -> None:
        self._world = world
        self.headers = bearer(key)
        self.admitted = 0

    async def ask(self, path: str, body: dict[str, Any], replica: int = 0) -> httpx.Response:
        return await self._world.http.post(self._world.replicas[replica][1] + path, headers=self.headers, json=body)

    async def until_refused(self) -> httpx.Response:
        """Calls, some at once, until one is not let in."""
        while self.admitted < CALLS_MAX:
            replies = await asyncio.gather(*(self.ask(CHAT, chat(), number % 2) for number in range(AT_ONCE)))
            self.admitted += sum(reply.status_code == 200 for reply in replies)
            for reply in replies:
                if reply.status_code != 200:
                    return reply
        raise AssertionError("the budget was never used up")

    async def until_admitted(self) -> None:
        async with asyncio.timeout(30):
            while (reply := await self.ask(CHAT, chat())).status_code == 503:
                assert reply.json()["error"]["code"] == MeteringBacklog.code
                await asyncio.sleep(0.05)
        assert reply.status_code == 200
        self.admitted += 1


def error_of(path: str, reply: httpx.Response) -> tuple[str, str]:
    """Code and message, in the form of the path's dialect."""
    said = reply.json()
    if path == "/v1/messages":
        assert said["type"] == "error" and said["request_id"]
    if path.startswith("/v1/") and path != "/v1/generate":
        return said["error"]["code"], said["error"]["message"]
    return said["code"], said["error"] if path.startswith("/api/") else said["detail"]


@pytest.mark.timeout(180)
async def test_new_calls_are_refused_running_ones_end_in_rows_and_all_is_well_again(
    servers: tuple[World, EmbeddedPostgres], fake: FakeOllama
) -> None:
    world, postgres = servers
    key = await world.create_key(rate_limit_per_min=None, monthly_token_limit=None)
    client = Client(world, key)
    await postgres.kill()
    fake.behaviour = Behaviour(hang_after_tokens=5, remaining=STREAMS)
    async with httpx.AsyncClient(timeout=60) as leaving:
        streams = [
            asyncio.create_task(leaving.post(world.url + CHAT, headers=client.headers, json=chat(stream=True)))
            for _ in range(STREAMS)
        ]
        await fake.ledger.until(lambda ledger: sum(one.tokens_sent >= 5 for one in ledger.inference) == STREAMS)
        refused = await client.until_refused()
        print(f"{client.admitted} calls in 64 KiB")
        assert refused.json()["error"]["code"] == MeteringBacklog.code

        asked = len(fake.ledger.inference)
        before = await everything(world, fleet=False)
        for path, body in DIALECTS.items():
            for streamed in (False, True):
                wanted = body if "embed" in path else {**body, "stream": streamed}
                reply = await client.ask(path, wanted, int(streamed))
                assert (reply.status_code, reply.headers["retry-after"]) == (503, "10"), path
                assert error_of(path, reply) == (MeteringBacklog.code, MESSAGE), path
        assert (await world.http.post(world.url + CHAT, headers=bearer(f"{key}x"), json=chat())).status_code == 401
        assert len(fake.ledger.inference) == asked
        assert _settled(await everything(world, fleet=False)) == _settled(before)
        assert await world.leases() == STREAMS

        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
    async with asyncio.timeout(30):
        while await world.leases():
            await asyncio.sleep(0.02)
    await postgres.start()
    await client.until_admitted()
    await world.rows(client.admitted + STREAMS)
    for path, body in DIALECTS.items():
        reply = await client.ask(path, body)
        assert reply.status_code == 200, (path, reply.text)
        client.admitted += 1
    rows = await world.rows(client.admitted + STREAMS)
    assert [row["status"] for row in rows].count("client_gone") == STREAMS
    assert await world.leases() == 0


async def test_a_dry_run_says_so_too(servers: tuple[World, EmbeddedPostgres]) -> None:
    world, _ = servers
    made = (await world.admin("POST", "/admin/api-keys", json={"label": "x", "rate_limit_per_min": None})).json()
    for child in world.workers:
        await child.stop()
    await Client(world, made["key"]).until_refused()
    dry = {"key_id": made["id"], "model": "llama3.2:3b", "prompt_tokens": 1}
    said = (await Operator(world).ask("POST", "/limits/dry-run", dry)).json()
    assert (said["would_admit"], said["reason"], said["retry_after"]) == (False, MeteringBacklog.code, 10)
    assert said["message"] == MESSAGE


def _settled(contents: dict[str, Any]) -> dict[str, Any]:
    """Without what the running streams write when they are renewed, and the count of wrong keys."""
    return {name: value for name, value in contents.items() if not any(part in name for part in OTHERS)}
