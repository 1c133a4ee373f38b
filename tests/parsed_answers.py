"""Bytes as if a node had sent them, and what two clients make of them: ours, and aiohttp. No sockets."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from aiohttp.client_proto import ResponseHandler
from msgspec import Struct

from gateway.backends.connection import Connection
from gateway.backends.reply import Reply
from tests.aiohttp_client import is_encoded


class FakeTransport:
    """What a connection does to its socket."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.unsent_bytes = 0
        self.paused = False
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def writelines(self, parts: Sequence[bytes]) -> None:
        self.written.extend(parts)

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    close = abort

    def get_extra_info(self, name: str) -> None:
        return None


class Wired:
    """A connection of ours to a fake socket."""

    def __init__(self) -> None:
        self.freed = 0
        self.lost = 0
        self.transport = FakeTransport()
        self.connection = Connection(("http://n", ""), self._free, self._lose, asyncio.get_running_loop())
        self.connection.connection_made(cast(asyncio.Transport, self.transport))

    def ask(self, *reads: bytes) -> Reply:
        reply = self.connection.send(b"POST / HTTP/1.1\r\n\r\n", b"")
        for data in reads:
            self.connection.data_received(data)
        return reply

    def lenient(self) -> None:
        """To what aiohttp lets pass."""
        parser: Any = self.connection._parser
        parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )

    def _free(self, connection: Connection) -> None:
        self.freed += 1

    def _lose(self, connection: Connection) -> None:
        self.lost += 1


class Verdict(Struct, frozen=True):
    """`body` None: it is not an answer, or not all of one; then nothing else is said either."""

    status: int = 0
    encoded: bool = False
    body: bytes | None = None


NONE = Verdict()
STATUS_MIN = 100


def ours(reads: Sequence[bytes], *, as_lenient: bool) -> Verdict:
    """What we make of them, after which the node closes the connection. Lenient: to details, as aiohttp is."""
    wired = Wired()
    if as_lenient:
        wired.lenient()
    reply = wired.ask(*reads)
    wired.connection.eof_received()
    wired.connection.connection_lost(None)
    return Verdict(reply.status, reply.encoded, reply.take()) if reply.complete else NONE


async def aiohttps(reads: Sequence[bytes]) -> Verdict:
    """What aiohttp's client makes of them."""
    handler, transport = ResponseHandler(asyncio.get_running_loop()), FakeTransport()
    handler.connection_made(cast(asyncio.Transport, transport))
    handler.set_response_params(read_until_eof=True, auto_decompress=False, read_bufsize=1 << 20)
    for data in reads:
        if not transport.closed:
            handler.data_received(data)
    handler.connection_lost(None)
    try:
        while True:
            message, payload = await handler.read()
            if not 100 <= message.code <= 199 or message.code == 101:
                break
        async with asyncio.timeout(0):  # all has come, so there is nothing to wait for
            body = await payload.read()
    except Exception:
        return NONE
    if message.code < STATUS_MIN:  # which is no HTTP
        return NONE
    return Verdict(message.code, is_encoded(message.headers), body)
