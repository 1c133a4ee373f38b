"""A node that answers request after request byte for byte as a script says, and hears when its client leaves.

async with scripted_node() as node:
    node.answers.append([HEAD, chunk(b"a"), event, chunk(b"b"), END])   # the event is waited for
"""

import asyncio
import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Literal

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
WAIT_S = 10.0

Step = bytes | asyncio.Event | asyncio.Semaphore | Literal["reset", "close", "hold"]
"""bytes to send, what to wait for, or how to end: "hold": by staying silent until the client leaves"""


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def sized(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """A whole answer."""
    lines = "".join(f"{line}\r\n" for line in (f"Content-Length: {len(body)}", *headers))
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


class ScriptedNode:
    """`answers` are used up request by request; then all is well. `greeting`: steps of a connection before any."""

    def __init__(self) -> None:
        self.answers: deque[Sequence[Step]] = deque()
        self.greeting: Sequence[Step] = ()
        self.requests: list[tuple[bytes, bytes]] = []
        """head and body of each"""
        self.connections = 0
        self.url = ""
        self._left = 0
        self._changed = asyncio.Event()
        self._serving: set[asyncio.Task[None]] = set()

    async def until_left(self, count: int = 1) -> None:
        """Until so many connections were closed by their clients."""
        await self._until(lambda: self._left >= count)

    async def until_asked(self, count: int = 1) -> None:
        await self._until(lambda: len(self.requests) >= count)

    async def drop_all(self) -> None:
        """Close every connection, in midst of whatever."""
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task
        self._serving.add(task)
        try:
            await self._play(self.greeting, reader, writer)
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                self.requests.append((head, await reader.readexactly(int(length.partition(b":")[2]))))
                self._changed.set()
                steps = self.answers.popleft() if self.answers else [sized(b"{}\n")]
                await self._play(steps, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self._left += 1
        finally:
            self._serving.discard(task)
            self._changed.set()
            writer.close()
            with suppress(ConnectionError, TimeoutError):
                await writer.wait_closed()

    async def _play(self, steps: Sequence[Step], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for step in steps:
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            elif isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, asyncio.Semaphore):
                await step.acquire()
            elif step == "hold":
                await reader.readexactly(1)
            elif step == "close":
                writer.close()
            else:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def scripted_node(tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedNode]:
    node = ScriptedNode()
    server = await asyncio.start_server(node.serve, "127.0.0.1", 0, ssl=tls)
    node.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield node
    finally:
        server.close()
        await node.drop_all()
