"""Clients that wait for a backend are told where in the line they are, in their own dialect, or need not wait."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import httpx
import pytest

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from gateway.state import keyspace
from tests.acceptance.conftest import Start
from tests.world import World, bearer, chat

MODEL, EMBEDDER = "llama3.2:3b", "nomic-embed-text:latest"
USER = [{"role": "user", "content": "Why?"}]
EVENTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": USER, "stream": True},
    "/v1/completions": {"prompt": "Why?", "stream": True},
    "/v1/responses": {"input": "Why?", "stream": True},
    "/v1/messages": {"messages": USER, "max_tokens": 50, "stream": True},
}
LINES: dict[str, dict[str, Any]] = {
    "/api/chat": {"messages": USER},
    "/api/generate": {"prompt": "Why?"},
    "/v1/generate": {"prompt": "Why?", "stream": True},
}
WHOLE: dict[str, dict[str, Any]] = {
    "/generate": {"prompt": "Why?"},
    "/generate/llama3.2:3b": {"prompt": "Why?"},
}
VECTORS: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"input": "Why?"},
    "/api/embed": {"input": "Why?"},
    "/api/embeddings": {"prompt": "Why?"},
}
NOTE = re.compile(r": queue position (\d+), about \d+ s")
SOON_S = 10.0
POLL_S = 0.02


class Line:
    """A system with one node of one slot, which a call of another key has."""

    def __init__(self, world: World, key: str) -> None:
        self.world = world
        self.key = key
        self.free = asyncio.Event()

    async def ask(self, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
        model = {} if path.startswith("/generate/") else {"model": EMBEDDER if path in VECTORS else MODEL}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.world.http.post(self.world.url + path, headers=bearer(self.key) | named, json=model | body)

    async def waits(self, *calls: asyncio.Task[Any]) -> None:
        """Until so many wait."""
        async with asyncio.timeout(SOON_S):
            while await self.depth() < len(calls):
                await asyncio.sleep(POLL_S)
                assert not [call for call in calls if call.done()]

    async def depth(self) -> int:
        name = next(name for name in keyspace.fleet() if name.endswith(":depths"))
        return sum(map(int, (await self.world.redis.hgetall(name)).values()))


@asynccontextmanager
async def taken(start: Start, fake: FakeOllama, **env: str) -> AsyncIterator[Line]:
    """The slot is taken until `free` is set."""
    fake.shelf.load(fake.shelf.models[MODEL])
    async with start([fake.url], OLLAMA_SLOTS="1", **env) as world:
        many = {"rate_limit_per_min": 10_000}
        line = Line(world, await world.create_key(**many))
        fake.behaviour = Behaviour(hang_after_tokens=1)
        url, headers = f"{world.url}/v1/chat/completions", bearer(await world.create_key(**many))
        async with world.http.stream("POST", url, headers=headers, json=chat(stream=True)) as holder:
            pieces = holder.aiter_raw()
            await anext(pieces)
            fake.behaviour = Behaviour()
            release = asyncio.create_task(_release(line.free, holder))
            yield line
            line.free.set()
            await release


async def _release(free: asyncio.Event, holder: httpx.Response) -> None:
    await free.wait()
    await holder.aclose()


async def streamed(line: Line, path: str, noted: asyncio.Event) -> httpx.Response:
    """The whole answer; `noted` is set when the first of it comes."""
    url, body = line.world.url + path, {"model": MODEL} | EVENTS[path]
    async with line.world.http.stream("POST", url, headers=bearer(line.key), json=body) as reply:
        pieces = []
        async for piece in reply.aiter_raw():
            pieces.append(piece)
            noted.set()
    return httpx.Response(reply.status_code, headers=reply.headers, content=b"".join(pieces))


async def test_every_dialect_tells_the_place_as_it_can(start: Start, fake: FakeOllama) -> None:
    async with taken(start, fake) as line:
        noted = {path: asyncio.Event() for path in EVENTS}
        calls: dict[str, asyncio.Task[httpx.Response]] = {}
        for path in (*EVENTS, *LINES, *WHOLE):
            ask = streamed(line, path, noted[path]) if path in EVENTS else line.ask(path, (LINES | WHOLE)[path])
            calls[path] = asyncio.create_task(ask)
            await line.waits(*calls.values())
        async with asyncio.timeout(SOON_S):
            await asyncio.gather(*(event.wait() for event in noted.values()))
        line.free.set()
        replies = dict(zip(calls, await asyncio.gather(*calls.values()), strict=True))
        for position, (path, reply) in enumerate(replies.items(), 1):
            assert (reply.status_code, reply.headers["x-queue-position"]) == (200, str(position)), path
            notes = [one[1] for text in reply.text.split("\n") if (one := NOTE.fullmatch(text))]
            if path in EVENTS:
                assert notes[0] == str(position) and reply.text.startswith(": queue position"), path
                assert sorted(notes, key=int, reverse=True) == notes, "it only ever comes nearer"
            else:
                assert not notes and "queue position" not in reply.text
            assert "scatter" in reply.text, path
        await line.world.rows(len(calls) + 1)


async def test_real_clients_wait_without_noticing(start: Start, fake: FakeOllama) -> None:
    async with taken(start, fake) as line:
        openai = line.world.openai(line.key)
        claude = anthropic.AsyncAnthropic(api_key=line.key, base_url=line.world.url, max_retries=0)

        async def chats() -> str:
            chunks = await openai.chat.completions.create(model=MODEL, messages=USER, stream=True)  # type: ignore
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])

        async def messages() -> str:
            async with claude.messages.stream(model=MODEL, max_tokens=99, messages=USER) as stream:  # type: ignore
                return await stream.get_final_text()

        calls = [asyncio.create_task(chats()), asyncio.create_task(messages())]
        await line.waits(*calls)
        noted = asyncio.Event()
        behind = asyncio.create_task(streamed(line, "/v1/messages", noted))
        await noted.wait()  # by then those before it have had a note of theirs
        line.free.set()
        assert all("scatter" in said for said in await asyncio.gather(*calls))
        await behind
        await openai.close()
        await claude.close()


async def test_a_client_need_not_wait_and_learns_how_long_it_did(start: Start, fake: FakeOllama) -> None:
    async with taken(start, fake, QUEUE_LENGTH_MAX="1") as line:
        for path, body in (EVENTS | LINES | WHOLE | VECTORS).items():
            reply = await line.ask(path, body, x_max_wait_ms="0")
            assert (reply.status_code, "queue_timeout" in reply.text) == (503, True), (path, reply.text)
            assert int(reply.headers["retry-after"]) >= 1
            assert "x-queue-position" not in reply.headers, "it had none"
            assert reply.headers["content-type"] == "application/json"
            for said in ("-1", "soon", "1.5", ""):
                reply = await line.ask(path, body, x_max_wait_ms=said)
                assert (reply.status_code, "x-max-wait-ms" in reply.text) == (400, True), (path, said)
        assert await line.depth() == 0
        reply = await line.ask("/v1/chat/completions", EVENTS["/v1/chat/completions"], x_max_wait_ms="200")
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "queue_timeout")
        assert reply.headers["x-queue-position"] == "1"
        assert int(reply.headers["retry-after"]) >= 1
        waits = asyncio.create_task(line.ask("/v1/chat/completions", {"messages": USER}, x_max_wait_ms="9" * 30))
        await line.waits(waits)
        full = await line.ask("/api/chat", LINES["/api/chat"])
        assert (full.status_code, full.json()["code"]) == (503, "queue_full")
        assert int(full.headers["retry-after"]) >= 1
        line.free.set()
        assert (await waits).status_code == 200
        rows = await line.world.rows_when_settled()
        assert {row["status"] for row in rows} == {"ok", "client_gone", "queue_timeout", "queue_full"}
        assert {row["status"] for row in rows if row["total_tokens"]} == {"ok", "client_gone"}


@pytest.mark.parametrize("streamed_", [False, True])
async def test_the_way_of_a_call_has_its_wait(start: Start, fake: FakeOllama, streamed_: bool) -> None:
    async with taken(start, fake, ROUTING_HEADERS="true") as line:
        body = {"messages": USER, "stream": streamed_}
        call = asyncio.create_task(line.ask("/v1/chat/completions", body))
        await line.waits(call)
        line.free.set()
        reply = await call
        queue_ms, upstream_ms = (int(reply.headers[f"x-gateway-{name}-ms"]) for name in ("queue", "upstream"))
        assert queue_ms > 0 and upstream_ms >= 0
