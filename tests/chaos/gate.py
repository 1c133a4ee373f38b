"""A gate between a replica and Redis: it sees each function that is called, and stops the connection at the one wanted.

"before": the command never reaches Redis. "after": it has been executed, and its reply does not come back. What passes
is a ledger of its own: which calls Redis has let in, asked by nobody but the wire.
"""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct

from tests.proxies import READ_BYTES_MAX, replies_in

Side = Literal["before", "after"]
WAIT_S = 15.0
GRANTED = b":1"


class Asked(Struct, frozen=True):
    """One command: the function's verb ("" for all others) and its first argument, the call's id where it has one."""

    verb: str = ""
    call_id: str = ""


class Armed(Struct):
    """Which function stops the connection, on which side of Redis, once so many of it have passed."""

    verb: str
    side: Side
    passing: int = 0


class Gate:
    """Stands before the Redis at `redis_url`; replicas use `url`."""

    def __init__(self, redis_url: str) -> None:
        self._place = urlsplit(redis_url)
        self._server: asyncio.Server | None = None
        self._relays: set[asyncio.Task[None]] = set()
        self._armed: Armed | None = None
        self._opened = asyncio.Event()
        self._changed = asyncio.Event()
        self.held: list[Asked] = []
        """what has been stopped since `hold`"""
        self.executed: list[Asked] = []
        """all functions that Redis has answered"""
        self.admitted: set[str] = set()
        """the ids of all calls that Redis has let in"""

    @property
    def url(self) -> str:
        assert self._server
        host = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        secret = f":{self._place.password}@" if self._place.password else ""
        return f"redis://{secret}{host}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def stop(self) -> None:
        assert self._server
        self._server.close()
        await self.cut()
        await self._server.wait_closed()

    def hold(self, verb: str, side: Side, *, passing: int = 0) -> None:
        """Stop what comes from now on. What is held already goes its way, replies and all."""
        passing += sum(one.verb == verb for one in self.held)
        self._armed, self.held = Armed(verb, side, passing), []
        self._opened.set()
        self._opened = asyncio.Event()

    async def until_held(self, count: int) -> None:
        try:
            async with asyncio.timeout(WAIT_S):
                while len(self.held) < count:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{len(self.held)} of {count} are held by {self._armed}") from None

    async def cut(self) -> None:
        """Close all connections: what was held is gone."""
        self._armed, self.held = None, []
        for relay in self._relays:
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay = asyncio.current_task()
        assert relay
        self._relays.add(relay)
        relay.add_done_callback(self._relays.discard)
        to_server, from_server = None, None
        waiting: deque[Asked] = deque()
        with suppress(asyncio.CancelledError, ConnectionError):
            from_server, to_server = await self._connect()
            both = [
                asyncio.create_task(self._forward(reader, to_server, waiting)),
                asyncio.create_task(self._back(from_server, writer, waiting)),
            ]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in both:
                    one.cancel()
                await asyncio.gather(*both, return_exceptions=True)
        writer.close()
        if to_server:
            to_server.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._place.scheme == "unix":
            return await asyncio.open_unix_connection(self._place.path)
        return await asyncio.open_connection(self._place.hostname, self._place.port)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, waiting: "deque[Asked]"
    ) -> None:
        """Commands, up to the one that is stopped. What it was sent together with, and comes behind it, waits too."""
        rest = b""
        while data := await reader.read(READ_BYTES_MAX):
            commands, rest = replies_in(rest + data)
            asked = [_asked(command) for command in commands]
            for number, command in enumerate(commands):
                if self._stops(asked[number], "before"):
                    self._note([one for one in asked[number:] if one.verb == asked[number].verb])
                    await self._opened.wait()
                    _send(writer, commands[number:])
                    waiting.extend(asked[number:])
                    break
                waiting.append(asked[number])
                _send(writer, [command])
            await writer.drain()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, waiting: "deque[Asked]") -> None:
        """Replies; behind one that is stopped none comes through any more."""
        rest, shut = b"", False
        while data := await reader.read(READ_BYTES_MAX):
            replies, rest = replies_in(rest + data)
            for reply in replies:
                asked = waiting.popleft() if waiting else Asked()  # a subscriber's messages answer nothing
                self._executed(asked, reply)
                if shut or self._stops(asked, "after"):
                    shut = True
                    self._note([asked] if self._armed and asked.verb == self._armed.verb else [])
                else:
                    _send(writer, [reply])
            await writer.drain()

    def _stops(self, asked: Asked, side: Side) -> bool:
        armed = self._armed
        if armed is None or (asked.verb, side) != (armed.verb, armed.side):
            return False
        armed.passing -= 1
        return armed.passing < 0

    def _note(self, held: list[Asked]) -> None:
        self.held += held
        self._changed.set()

    def _executed(self, asked: Asked, reply: bytes) -> None:
        if asked.verb:
            self.executed.append(asked)
        if asked.verb == "admit" and reply.split(b"\r\n", 2)[1] == GRANTED:
            self.admitted.add(asked.call_id)


def _send(writer: asyncio.StreamWriter, pieces: list[bytes]) -> None:
    if not writer.is_closing():
        writer.write(b"".join(pieces))


def _asked(command: bytes) -> Asked:
    """Of FCALL <library>_<verb> <count of keys> <keys…> <arguments…>, each behind its length."""
    words = command.split(b"\r\n")
    if len(words) < 8 or words[2] != b"FCALL":
        return Asked()
    first = 2 * (3 + int(words[6])) + 2
    call_id = words[first].decode("ascii", "replace") if first < len(words) else ""
    return Asked(words[4].decode().rpartition("_")[2], call_id)
