"""Requests for calls wait unread on their connections while there is no room; nobody else does, and none is lost."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from gateway import plain_http
from gateway.cli import threshold
from gateway.cli.threshold import AT_ONCE_MAX, LOOK_S, WAITING_MIN, Protocol, Threshold
from gateway.gate import Gate

CALL = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n"
BODY = b"body"


class Crowded(Gate):
    """A gate at which as many wait as a test says."""

    waiting = 0


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.paused = self.closed = False
        self.written = b""
        self.client, self._socket = socket.socketpair()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._socket if name == "socket" else default

    def end(self) -> None:
        self.client.close()
        self._socket.close()

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True


class Server:
    """Connections to an application that notes what it is asked, and answers with it."""

    def __init__(self) -> None:
        self.gate = Crowded()
        self.threshold = Threshold(self.gate)
        self.heard: list[str] = []
        self.answered: asyncio.Queue[str] = asyncio.Queue()
        self._transports: list[Transport] = []
        self._config = uvicorn.Config(self._app, interface="asgi3", lifespan="off", **plain_http.options())
        self._config.load()
        self._state = ServerState()

    def dial(self) -> tuple[Protocol, Transport]:
        protocol = Protocol(self.threshold, config=self._config, server_state=self._state, app_state={})
        transport = Transport()
        protocol.connection_made(transport)
        self._transports.append(transport)
        return protocol, transport

    def ask(self, request: bytes) -> tuple[Protocol, Transport]:
        protocol, transport = self.dial()
        protocol.data_received(request)
        return protocol, transport

    async def until_answered(self, count: int) -> list[str]:
        async with asyncio.timeout(10):
            return [await self.answered.get() for _ in range(count)]

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.heard.append(scope["path"])
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})
        self.answered.put_nowait(scope["path"])

    def end(self) -> None:
        for transport in self._transports:
            transport.end()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    one = Server()
    yield one
    one.end()


async def looks() -> None:
    """Some looks for room."""
    await asyncio.sleep(5 * LOOK_S)


def call(number: int) -> bytes:
    return CALL.replace(b"/v1/chat/completions", b"/%d" % number) + BODY


async def test_of_a_herd_so_many_are_read_in_a_turn_and_the_others_in_the_order_of_coming(server: Server) -> None:
    count = 3 * AT_ONCE_MAX
    transports = [server.ask(call(number))[1] for number in range(count)]
    assert [one.paused for one in transports] == [False] * AT_ONCE_MAX + [True] * (count - AT_ONCE_MAX)
    assert await server.until_answered(count) == [f"/{number}" for number in range(count)]
    assert not any(one.paused for one in transports)
    assert all(one.written.endswith(BODY) for one in transports)


async def test_while_many_wait_nothing_more_is_read_but_what_is_no_call(server: Server) -> None:
    server.gate.waiting = WAITING_MIN
    _, waiting = server.ask(call(0))
    for request in (b"GET /health", b"POST /admin/keys", b"DELETE /admin/keys/1"):
        server.ask(request + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
    assert await server.until_answered(3) == ["/health", "/admin/keys", "/admin/keys/1"]
    await looks()
    assert server.gate.unread == 1
    assert waiting.paused and server.heard == ["/health", "/admin/keys", "/admin/keys/1"]
    server.gate.waiting = WAITING_MIN - 1
    assert await server.until_answered(1) == ["/0"]
    assert server.gate.unread == 0


async def test_the_rest_of_a_request_that_has_begun_is_read(server: Server) -> None:
    protocol, transport = server.ask(CALL.replace(b"4", b"5"))
    server.gate.waiting = WAITING_MIN
    protocol.data_received(b"POST ")
    assert await server.until_answered(1) == ["/v1/chat/completions"]
    assert transport.written.endswith(b"POST ")
    protocol.data_received(CALL + BODY)
    assert transport.paused, "its next one waits as any"


async def test_nobody_overtakes_those_who_wait(server: Server) -> None:
    server.gate.waiting = WAITING_MIN
    server.ask(call(0))
    server.gate.waiting = 0
    _, later = server.ask(call(1))
    assert later.paused
    assert await server.until_answered(2) == ["/0", "/1"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
async def test_a_client_that_leaves_while_it_waits_is_not_read(server: Server) -> None:
    server.gate.waiting = WAITING_MIN
    _, transport = server.ask(call(0))
    server.ask(call(1))
    transport.client.close()
    server.gate.waiting = 0
    assert await server.until_answered(1) == ["/1"]
    assert transport.closed and server.heard == ["/1"]


async def test_a_connection_that_is_lost_while_it_waits_is_not_read(server: Server) -> None:
    server.gate.waiting = WAITING_MIN
    protocol, transport = server.ask(call(0))
    server.ask(call(1))
    transport.close()
    protocol.connection_lost(None)
    server.gate.waiting = 0
    assert await server.until_answered(1) == ["/1"]
    assert server.heard == ["/1"]


async def test_a_connection_that_waits_is_not_closed_as_an_unused_one(server: Server) -> None:
    protocol, transport = server.ask(call(0))
    await server.until_answered(1)
    assert protocol.timeout_keep_alive_task
    server.gate.waiting = WAITING_MIN
    protocol.data_received(call(1))
    assert protocol.timeout_keep_alive_task is None
    server.gate.waiting = 0
    assert await server.until_answered(1) == ["/1"]
    assert not transport.closed


async def test_a_bug_in_reading_one_keeps_no_other_waiting(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.gate.waiting = WAITING_MIN
    protocol, _ = server.ask(call(0))
    server.ask(call(1))
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
    monkeypatch.setattr(protocol, "read_on", lambda: 1 / 0)
    server.gate.waiting = 0
    assert await server.until_answered(1) == ["/1"]
    assert isinstance(told[0], ZeroDivisionError)


@pytest.mark.parametrize("why", ["room", "overdue", "the end"])
async def test_a_look_reads_so_many_at_most(server: Server, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """Whoever had to wait at once can go on at once, or is overdue at once."""
    server.gate.waiting = WAITING_MIN
    if why == "overdue":
        monkeypatch.setattr(threshold, "UNREAD_S_MAX", 0.0)
    count = 3 * AT_ONCE_MAX
    for number in range(count):
        server.ask(call(number))
    assert server.gate.unread == count
    if why == "room":
        server.gate.waiting = 0
    elif why == "the end":
        server.threshold.end()
    seen = [count]
    while server.gate.unread:
        await asyncio.sleep(0)
        if server.gate.unread != seen[-1]:
            seen.append(server.gate.unread)
    assert seen == [count, 2 * AT_ONCE_MAX, AT_ONCE_MAX, 0]
    assert await server.until_answered(count) == [f"/{number}" for number in range(count)]


async def test_what_waits_takes_so_much_memory_at_most(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threshold, "UNREAD_BYTES_MAX", 2 * len(call(0)))
    server.gate.waiting = WAITING_MIN
    for number in range(4):
        server.ask(call(number))
    assert await server.until_answered(1) == ["/3"]
    assert server.gate.unread == 3
    server.gate.waiting = 0
    await server.until_answered(3)
    server.gate.waiting = WAITING_MIN
    server.ask(call(4))
    assert server.gate.unread == 1, "what has been read takes none any more"


async def test_a_replica_that_ends_asks_the_gate_no_more(server: Server) -> None:
    server.gate.waiting = WAITING_MIN
    server.ask(call(0))
    server.threshold.end()
    assert await server.until_answered(1) == ["/0"]
    server.ask(call(1))
    assert await server.until_answered(1) == ["/1"]
