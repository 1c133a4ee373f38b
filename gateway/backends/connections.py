"""All connections to nodes: those that wait for another request, and new ones."""

import asyncio
import socket
import ssl
from urllib.parse import urlsplit

from gateway.backends.connection import Connection
from gateway.core.fleet import Node
from gateway.errors import Overloaded

CONNECTIONS_MAX = 20_000
"""of one replica, to all nodes: as many as calls that it runs"""
KEEPALIVE_S = 60.0
SWEEP_S = 5.0
"""between two looks at which connections have waited too long"""
ADDRESSES_MAX = 8
"""of one node that are tried"""
TRUSTED_MAX = 1_024
"""sets of certificates that are kept ready"""
_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str]
"""a node's URL, and the certificates that its own is to be signed by"""


class Connections:
    """One for each replica; close it at the end. `connect_s`: how long it may take to make one."""

    def __init__(self, connect_s: float) -> None:
        self._connect_s = connect_s
        self._open: set[Connection] = set()
        self._connecting = 0
        self._idle: dict[Origin, dict[Connection, float]] = {}
        """each with when it began to wait, the latest at the end"""
        self._sweeping: asyncio.TimerHandle | None = None
        self._trusted: dict[str, ssl.SSLContext] = {}
        """by the certificates that a node's own is to be signed by"""

    def close(self) -> None:
        if self._sweeping:
            self._sweeping.cancel()
        for connection in list(self._open):
            connection.lose(ConnectionAbortedError())

    def idle(self, origin: Origin) -> Connection | None:
        """One that has served before, the warmest; the node may have closed it a moment ago."""
        waiting = self._idle.get(origin)
        if not waiting:
            return None
        connection, _ = waiting.popitem()
        return connection

    async def connect(self, node: Node) -> Connection:
        """A new one. Raises `OSError`, `ValueError` for a name that is none, or `Overloaded`."""
        if len(self._open) + self._connecting >= CONNECTIONS_MAX and not self._evict():
            raise Overloaded
        self._connecting += 1
        try:
            connection = await self._reach(node)
        finally:
            self._connecting -= 1
        if connection.is_open:
            self._open.add(connection)
        return connection

    async def _reach(self, node: Node) -> Connection:
        """At the first of its addresses that answers; each has an even share of the time that is left."""
        loop, parts = asyncio.get_running_loop(), urlsplit(node.url)
        host, port, end_s = parts.hostname or "", parts.port or _PORTS[parts.scheme], loop.time() + self._connect_s
        tls = await self._trust(node.ca_pem) if parts.scheme == "https" else None
        async with asyncio.timeout_at(end_s):
            found = (await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))[:ADDRESSES_MAX]
        failure: OSError = OSError("no address")
        for number, (*_, address) in enumerate(found):
            try:
                async with asyncio.timeout((end_s - loop.time()) / (len(found) - number)):
                    _, connection = await loop.create_connection(
                        lambda: Connection((node.url, node.ca_pem), self._keep, self._forget, loop),
                        str(address[0]), port, ssl=tls, server_hostname=host if tls else None,
                    )  # fmt: skip
                    return connection
            except OSError as error:
                failure = error
        raise failure

    async def _trust(self, ca_pem: str) -> ssl.SSLContext:
        """In a thread: to read all that a system trusts takes tens of milliseconds."""
        if ca_pem not in self._trusted:
            if len(self._trusted) >= TRUSTED_MAX:
                self._trusted.clear()
            context = await asyncio.to_thread(ssl.create_default_context, cadata=ca_pem or None)
            context.set_alpn_protocols(["http/1.1"])
            self._trusted[ca_pem] = context
        return self._trusted[ca_pem]

    def _keep(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        self._idle.setdefault(connection.origin, {})[connection] = loop.time()
        if self._sweeping is None:
            self._sweeping = loop.call_later(SWEEP_S, self._sweep)

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        if waiting := self._idle.get(connection.origin):
            waiting.pop(connection, None)

    def _evict(self) -> bool:
        """Close one that waits. Whether there was any."""
        for waiting in self._idle.values():
            for connection in waiting:
                connection.close()
                return True
        return False

    def _sweep(self) -> None:
        """Close what has waited too long."""
        loop = asyncio.get_running_loop()
        latest_s = loop.time() - KEEPALIVE_S
        for waiting in self._idle.values():
            for connection in [one for one, since_s in waiting.items() if since_s <= latest_s]:
                connection.close()
        self._idle = {origin: waiting for origin, waiting in self._idle.items() if waiting}
        self._sweeping = loop.call_later(SWEEP_S, self._sweep) if self._idle else None
