"""A Redis that says what a test tells it to: for what no real one does, and for when."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from hiredis import Reader

NOT_YET = object()
READ_BYTES_MAX = 65_536
ABRUPTLY = b"\x01\x00\x00\x00\x00\x00\x00\x00"
"""SO_LINGER, for no time: closing resets the connection"""


def commands_in(data: bytes) -> list[list[bytes]]:
    """The commands that a client wrote; all of them are whole."""
    reader = Reader(notEnoughData=NOT_YET)
    reader.feed(data)
    return list(iter(reader.gets, NOT_YET))


class Peer:
    """One connection, as the server has it."""

    def __init__(self, number: int, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.writer = writer
        self.heard: list[list[bytes]] = []
        """commands, but for those of the introduction"""

    def say(self, reply: bytes) -> None:
        self.writer.write(reply)

    def echo(self, command: list[bytes]) -> None:
        self.say(b"$%d\r\n%b\r\n" % (len(command[1]), command[1]))

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        import socket

        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABRUPTLY)
        self.writer.transport.abort()


Answer = Callable[[Peer, list[bytes]], Awaitable[None] | None]


class ScriptedRedis:
    """`answer` gets each command of each peer in turn; who introduces itself, and marks, are answered by themselves."""

    def __init__(self, answer: Answer, *, tls: ssl.SSLContext | None = None) -> None:
        self._answer = answer
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self.peers: list[Peer] = []

    @property
    def port(self) -> int:
        assert self._server
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def __aenter__(self) -> "ScriptedRedis":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server
        self._server.close()
        for peer in self.peers:
            peer.writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        peer = Peer(len(self.peers), writer)
        self.peers.append(peer)
        commands = Reader(notEnoughData=NOT_YET)
        with suppress(OSError):
            while data := await reader.read(READ_BYTES_MAX):
                commands.feed(data)
                for command in iter(commands.gets, NOT_YET):
                    await self._serve(peer, command)
        writer.close()

    async def _serve(self, peer: Peer, command: list[bytes]) -> None:
        if command == [b"PING"]:
            peer.say(b"+PONG\r\n")
        elif command[0] == b"PING":
            peer.echo(command)
        else:
            peer.heard.append(command)
            done = self._answer(peer, command)
            if done:
                await done
