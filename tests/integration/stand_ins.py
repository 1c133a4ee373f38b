"""A node and a gateway for tests of the benchmark's gates: good ones, and such as misbehave in one way each."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from msgspec import Struct

from tests.bench import answers, stub
from tests.bench.books import Books
from tests.bench.gates import Subject
from tests.bench.stats import idle

HOST = "127.0.0.1"
READ_BYTES = 65_536
REQUEST_NS = 100_000
"""of CPU time that the gateway says a request took"""


class Refusing(stub.Connection):
    """A node that has no time for anybody, but tells what it has counted."""

    def _request(self, path: bytes, body: bytes) -> None:
        if path == b"/stats":
            super()._request(path, body)
        else:
            self._transport.write(answers.response(b"{}", b"503 Service Unavailable"))


class Ways(Struct, frozen=True, kw_only=True):
    """How a gateway behaves; well, unless told otherwise."""

    reconnects: bool = False
    """a connection to the node for each request, as where nodes close theirs after each answer"""
    holds_first: bool = False
    """the first piece of an answer waits for the second"""
    stays: bool = False
    """goes on with the request of a client that has left"""
    slows_ns: int = 0
    """of CPU time that a request takes more for each other connection"""
    cuts: bool = False
    """closes connections instead of answering"""
    silent: bool = False
    """never answers"""


class Gateway:
    """Passes bytes on, over a connection to the node for each client.

    `used_ns` is what it says its CPU time is: made up, so that no test hangs on how busy this machine is.
    """

    def __init__(self, node: tuple[str, int], ways: Ways) -> None:
        self._node = node
        self._ways = ways
        self._open = 0
        self._kept: list[asyncio.StreamWriter] = []
        self._busy: set[asyncio.Task[None]] = set()
        self.used_ns = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._keep(asyncio.current_task())
        self._open += 1
        node: asyncio.StreamWriter | None = None
        with suppress(OSError):
            while (data := await reader.read(READ_BYTES)) and not self._ways.cuts:
                self.used_ns += REQUEST_NS + (self._open - 1) * self._ways.slows_ns
                if self._ways.silent:
                    continue
                if node and self._ways.reconnects:
                    node.close()
                    node = None
                node = node or await self._connected(writer)
                node.write(data)
        self._open -= 1
        writer.close()
        if node and self._ways.stays:
            self._kept.append(node)
        elif node:
            node.close()

    async def end(self) -> None:
        for node in self._kept:
            node.close()
        await asyncio.gather(*self._busy)

    async def _connected(self, client: asyncio.StreamWriter) -> asyncio.StreamWriter:
        reader, node = await asyncio.open_connection(*self._node)
        self._keep(asyncio.create_task(self._answer(reader, client)))
        return node

    def _keep(self, task: "asyncio.Task[None] | None") -> None:
        """Until it is done."""
        assert task
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)

    async def _answer(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            held = await reader.read(READ_BYTES) if self._ways.holds_first else b""
            while data := await reader.read(READ_BYTES):
                client.write(held + data)
                held = b""


@asynccontextmanager
async def before(node: type[stub.Connection] = stub.Connection, **ways: bool | int) -> AsyncIterator[Subject]:
    """A gateway with these ways before such a node."""
    loop, counted = asyncio.get_running_loop(), stub.Stub([])
    node_server = await loop.create_server(lambda: node(counted), HOST, 0)
    node_address = node_server.sockets[0].getsockname()
    gateway = Gateway(node_address, Ways(**ways))  # type: ignore[arg-type]
    server = await asyncio.start_server(gateway.serve, HOST, 0)
    address = server.sockets[0].getsockname()
    try:
        yield Subject(
            node=node_address,
            gateway=address,
            key="-",
            books=Books(),
            cpu_ns=lambda: gateway.used_ns,
            rest=lambda: idle(node_address),
        )
    finally:
        await gateway.end()
        server.close()
        node_server.close()
        counted.pacer.close()
