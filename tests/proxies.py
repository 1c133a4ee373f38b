"""A proxy before Redis that loses replies: what was asked has been done, and who asked does not hear of it.

`swallow` takes one whole reply out of the stream, so that every later one would be mistaken for the one before it.
`close` ends the connection in its place, as a network does. The commands themselves always arrive.
"""

import asyncio
from contextlib import suppress
from random import Random
from typing import Literal

Loss = Literal["swallow", "close"]

READ_BYTES_MAX = 65_536
_LINES = b"+-:_#,("
_SIZED = b"$=!"
_LISTS = b"*~>"
_PAIRS = b"%|"


def replies_in(data: bytes) -> tuple[list[bytes], bytes]:
    """The whole replies (RESP2 and RESP3) that `data` begins with, and the rest."""
    found, start = [], 0
    while (end := _end_of(data, start)) is not None:
        found.append(data[start:end])
        start = end
    return found, data[start:]


def _end_of(data: bytes, start: int) -> int | None:
    """Where the reply that begins at `start` ends; None while it is not all there."""
    line_end = data.find(b"\r\n", start)
    if line_end < 0:
        return None
    kind, rest, end = data[start], data[start + 1 : line_end], line_end + 2
    if kind in _LINES:
        return end
    count = int(rest)
    if kind in _SIZED:
        end += count + 2 if count >= 0 else 0
        return end if end <= len(data) else None
    if kind not in _LISTS + _PAIRS:
        raise ValueError(f"no reply begins with {kind:c}")
    for _ in range(max(0, count) * (2 if kind in _PAIRS else 1)):
        inner = _end_of(data, end)
        if inner is None:
            return None
        end = inner
    return _end_of(data, end) if kind == ord("|") else end


class FaultProxy:
    """Stands before the Redis on a unix socket; loses `share` of its replies until it is healed."""

    def __init__(self, socket: str, chance: Random, share: float, loss: Loss) -> None:
        self._socket = socket
        self._chance = chance
        self._loss = loss
        self._server: asyncio.Server | None = None
        self._relays: set[asyncio.Task[None]] = set()
        self.share = share
        self.passed = 0
        self.lost = 0

    @property
    def url(self) -> str:
        assert self._server
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def stop(self) -> None:
        assert self._server
        self._server.close()
        for relay in self._relays:
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)
        await self._server.wait_closed()

    def heal(self) -> None:
        """Lose no more."""
        self.share = 0.0

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay = asyncio.current_task()
        assert relay
        self._relays.add(relay)
        relay.add_done_callback(self._relays.discard)
        server_reader, server_writer = await asyncio.open_unix_connection(self._socket)
        both = [
            asyncio.create_task(_copy(reader, server_writer)),
            asyncio.create_task(self._lose(server_reader, writer)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in both:
                one.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            writer.close()
            server_writer.close()

    async def _lose(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Replies from the server to the client, but for those that are lost."""
        rest = b""
        while data := await reader.read(READ_BYTES_MAX):
            replies, rest = replies_in(rest + data)
            for reply in replies:
                if writer.is_closing():
                    return
                if self._chance.random() >= self.share:
                    self.passed += 1
                    writer.write(reply)
                    continue
                self.lost += 1
                if self._loss == "close":
                    with suppress(ConnectionError):
                        await writer.drain()
                    return
            await writer.drain()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(READ_BYTES_MAX):
        writer.write(data)
        await writer.drain()
