"""A port of a replica that is told to end: what waits unread on its connections is answered first."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

from gateway.cli.listener import Listener
from gateway.cli.threshold import WAITING_MIN
from gateway.gate import Gate
from gateway.settings import Settings

CALL = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
IDLE_S = 0.2
SOON_S = 10.0


class Crowded(Gate):
    waiting = WAITING_MIN


async def app(scope: Any, receive: Any, send: Any) -> None:
    while scope["type"] == "lifespan":
        asked = (await receive())["type"]
        await send({"type": f"{asked}.complete"})
        if asked == "lifespan.shutdown":
            return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def one_waits(gate: Gate) -> AsyncIterator[tuple[Listener, asyncio.StreamReader]]:
    """A port with one connection, whose request waits unread; stopped at the end."""
    listener = Listener(app, cast(Settings, SimpleNamespace(host="127.0.0.1", port=0)), gate)
    listener.start()
    async with asyncio.timeout(SOON_S):
        assert await listener.up()
        port = listener._server.servers[0].sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(CALL)
        while not gate.unread:
            await asyncio.sleep(0)
        yield listener, reader
        await listener.stop()
    writer.close()
    assert listener.went_well


async def test_a_replica_that_ends_answers_whoever_waits_unread() -> None:
    async with one_waits(Crowded()) as (listener, reader):
        listener.wind_down()
        quiet = asyncio.create_task(listener.quiet(IDLE_S))
        answer = await reader.read()
        await quiet
    assert answer.startswith(b"HTTP/1.1 200") and b"connection: close" in answer and answer.endswith(b"ok")


async def test_a_connection_that_waits_unread_is_not_idle() -> None:
    gate = Crowded()
    async with one_waits(gate) as (listener, reader):
        quiet = asyncio.create_task(listener.quiet(0.0))
        await asyncio.wait((quiet,), timeout=IDLE_S)
        assert not quiet.done()
        gate.waiting = 0
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        await quiet
