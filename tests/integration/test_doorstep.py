"""A listening socket that is about to close: who has dialled is served, who dials then is refused and never reset."""

import asyncio
import socket
import sys

import pytest

from gateway.cli import doorstep

DIALLED = 50
ANSWER_S = 10.0


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readline())
    await writer.drain()
    writer.close()


def dial(listening: socket.socket) -> socket.socket:
    """A connection on which a request is sent already; nobody has accepted it."""
    connection = socket.create_connection(listening.getsockname()[:2])
    connection.sendall(b"hello\n")
    connection.setblocking(False)
    return connection


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
async def test_who_has_dialled_is_served_and_who_dials_then_is_refused(family: socket.AddressFamily) -> None:
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    loop = asyncio.get_running_loop()
    with socket.create_server((host, 0), family=family, backlog=2 * DIALLED) as listening:
        address = listening.getsockname()
        waiting = [dial(listening) for _ in range(DIALLED)]
        server = await asyncio.start_server(echo, sock=listening)
        emptying = asyncio.create_task(doorstep.emptied([listening]))
        await asyncio.sleep(0)
        if sys.platform == "linux":
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address[:2])
        await emptying
        server.close()
    async with asyncio.timeout(ANSWER_S):
        for connection in waiting:
            assert await loop.sock_recv(connection, 100) == b"hello\n"
            connection.close()


async def test_without_it_they_are_reset() -> None:
    """What it is for: should this pass one day, it may go."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        waiting = dial(listening)
    with waiting, pytest.raises(ConnectionResetError):
        await loop.sock_recv(waiting, 100)


async def test_where_dials_cannot_be_refused_all_else_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(listening: socket.socket) -> None:
        raise OSError("no such option")

    monkeypatch.setattr(doorstep, "_refuse", refuse)
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        waiting = dial(listening)
        server = await asyncio.start_server(echo, sock=listening)
        await doorstep.emptied([listening])
        server.close()
    with waiting:
        async with asyncio.timeout(ANSWER_S):
            assert await loop.sock_recv(waiting, 100) == b"hello\n"
