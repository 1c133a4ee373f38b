"""How a connection to Redis is made: where the address says, with its TLS, its user and its database."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from hiredis import pack_command
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection

from gateway.state.wire import Batch, Wire


class Dial:
    """redis-py reads the URL, with all that it may say; the connection it would make of it is never opened."""

    def __init__(self, url: str, timeout_ms: int) -> None:
        seconds = timeout_ms / 1000
        pool: Any = BlockingConnectionPool.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds)
        self._told = pool.make_connection()
        self.silence_s: float = self._told.socket_timeout
        """how long a server may owe an answer without a word"""

    async def open(self, new: Callable[[], Wire]) -> Wire:
        """A connection that has answered. Raises whatever kept us from it: it is away, hung, full, or refuses us."""
        async with asyncio.timeout(self._told.socket_connect_timeout):
            wire = await self._connected(new)
            try:
                await self._introduce(wire)
            except BaseException:
                wire.cut()
                raise
        return wire

    async def _connected(self, new: Callable[[], Wire]) -> Wire:
        loop, told = asyncio.get_running_loop(), self._told
        if isinstance(told, UnixDomainSocketConnection):
            _, wire = await loop.create_unix_connection(new, told.path)
            return wire
        tls = told.ssl_context.get() if isinstance(told, SSLConnection) else None
        transport, wire = await loop.create_connection(new, told.host, told.port, ssl=tls)
        try:
            _keep_alive(transport.get_extra_info("socket"), told)
        except OSError:
            wire.cut()
            raise
        return wire

    async def _introduce(self, wire: Wire) -> None:
        """Redis' last word tells whether it serves, too: one that loads its data says so."""
        loop = asyncio.get_running_loop()
        asked = [(pack_command(one), loop.create_future(), loop.time()) for one in self._first_words()]
        wire.send(Batch(asked, again=True))
        await asyncio.gather(*(reply for _, reply, _ in asked))
        if wire.ended:
            raise ConnectionError

    def _first_words(self) -> list[tuple[Any, ...]]:
        told = self._told
        words: list[tuple[Any, ...]] = []
        if told.username:
            words.append(("AUTH", told.username, told.password or ""))
        elif told.password:
            words.append(("AUTH", told.password))
        if told.client_name:
            words.append(("CLIENT", "SETNAME", told.client_name))
        if told.db:
            words.append(("SELECT", told.db))
        return [*words, ("PING",)]


def _keep_alive(one: socket.socket, told: Any) -> None:
    """A server that has gone without a word is noticed before somebody asks it."""
    if told.socket_keepalive:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in told.socket_keepalive_options.items():
            one.setsockopt(socket.IPPROTO_TCP, option, value)
