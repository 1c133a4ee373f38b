"""Whatever comes in at a port, the log is JSON, a line each, and no more of them than there are kinds."""

import asyncio
import json
import socket

from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.conftest import Start

REQUESTS = 5
"""of each kind"""
ANSWER_S = 30.0
GARBAGE = b"\x16\x03\x01 a canary \x00\r\n\r\n"
WEBSOCKET = (
    b"GET /health?canary HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def answer(port: int, request: bytes) -> bytes:
    """The first line of it."""
    async with asyncio.timeout(ANSWER_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        line = await reader.readline()
        writer.close()
        return line


async def test_garbage_and_websockets_leave_lines_of_json(start: Start, fake: FakeOllama) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port_of_worker = probe.getsockname()[1]
    async with start([fake.url], WORKER_PORT=str(port_of_worker)) as world:
        async with asyncio.timeout(ANSWER_S):
            while True:
                try:
                    await answer(port_of_worker, WEBSOCKET)
                    break
                except ConnectionRefusedError:
                    await asyncio.sleep(0.02)
        for port in (int(world.url.rpartition(":")[2]), port_of_worker):
            for _ in range(REQUESTS):
                assert b" 400 " in await answer(port, GARBAGE)
                assert b" 101 " not in await answer(port, WEBSOCKET)
        _check(world.log("replica-0"))
        _check(world.log("worker-0"))


def _check(log: str) -> None:
    lines = [json.loads(line) for line in log.splitlines()]
    reasons = [line["reason"] for line in lines if line["event"] == "library"]
    assert "Invalid HTTP request received." in reasons
    assert "Unsupported upgrade request." in reasons
    assert len(reasons) == len(set(reasons))
    assert "canary" not in log
