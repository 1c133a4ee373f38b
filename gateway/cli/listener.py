"""One port of a replica: uvicorn without its own signal handlers, which would skip the draining."""

import asyncio
import socket
from contextlib import suppress
from functools import partial
from typing import Any

from gateway import plain_http
from gateway.cli.doorstep import emptied
from gateway.gate import Gate
from gateway.settings import Settings

BACKLOG_CONNECTIONS = 2_048
LAST_BYTES_S = 1.0
"""how long clients may take for the end of an answer, once no call runs any more"""
TASKS_S_MAX = 2
"""what is left is cancelled then"""
SETTLE_S = 10.0
"""more than the end takes after DRAIN_SECONDS: the last bytes of two ports, and `app.END_S_MAX`"""
POLL_S = 0.01
QUIET_POLL_S = 0.05
CLOSE = (b"connection", b"close")


class Listener:
    """Serves `app` on HOST and PORT, and the app begins and ends with it; or on `sock`. `start`, then `stop`.

    Calls are read as far as `gate` has room for them; where there are none, it is None.
    """

    ended: "asyncio.Task[None]"
    """done when it no longer serves"""

    def __init__(self, app: Any, settings: Settings, gate: Gate | None, sock: socket.socket | None = None) -> None:
        import uvicorn

        from gateway.cli.threshold import Protocol, Threshold

        self._sockets = [sock] if sock else None
        self._threshold = Threshold(gate) if gate else None
        protocol: Any = {"http": partial(Protocol, self._threshold)} if self._threshold else {}
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                lifespan="off" if sock else "on",
                backlog=BACKLOG_CONNECTIONS,
                timeout_graceful_shutdown=TASKS_S_MAX,
                **(plain_http.options() | protocol),
            )
        )

    def start(self) -> None:
        self.ended = asyncio.create_task(self._serve())

    async def up(self) -> bool:
        """Wait until it serves; False when it has ended instead."""
        while not self._server.started and not self.ended.done():
            await asyncio.wait((self.ended,), timeout=POLL_S)  # uvicorn tells it in no other way
        return self._server.started

    def wind_down(self) -> None:
        """From now on the head of every answer says that its connection closes, so that nobody sends another request on
        one that may end. Nothing else changes: requests are answered, connections taken."""
        if not self._server.started:
            return
        if self._threshold:
            self._threshold.end()
        self._server.config.encoded_headers.append(CLOSE)
        self._server.server_state.default_headers = list(self._server.config.encoded_headers)
        for connection in self._connections():
            cycle = connection.cycle
            if cycle and not cycle.response_started:
                cycle.keep_alive = False

    async def close_door(self) -> None:
        """Take no more connections, but all of those that have been dialled."""
        servers: list[Any] = self._server.servers if self._server.started else []
        await emptied([one for server in servers for one in server.sockets or ()])
        for server in servers:
            server.close()

    async def quiet(self, idle_s: float) -> None:
        """Wait until no answer is under way and no connection was used for `idle_s`.

        One whose answer began before `wind_down` is open afterwards, and may be used once more.
        """
        unused: dict[Any, float] = {}
        while True:
            now_s = asyncio.get_running_loop().time()
            open_ones = self._connections()
            unused = {one: unused.get(one, now_s) for one in open_ones if one.cycle is None}
            if all(_idle_s(one, unused.get(one, now_s), now_s) >= idle_s for one in open_ones):
                return
            await asyncio.sleep(QUIET_POLL_S)

    async def stop(self) -> None:
        """Take no more connections, give open answers a moment, and end."""
        self._server.should_exit = True
        await asyncio.wait((self.ended,), timeout=LAST_BYTES_S)
        for connection in self._connections():
            connection.transport.abort()  # it takes nothing, and nothing more is to come
        await asyncio.wait((self.ended,))

    @property
    def went_well(self) -> bool:
        """Whether it served at all, and ended without an error."""
        return self._server.started and not self.ended.exception()

    def _connections(self) -> list[Any]:
        return list(self._server.server_state.connections)

    async def _serve(self) -> None:
        with suppress(SystemExit):  # it could not start, and has said why
            await self._server._serve(self._sockets)


def _idle_s(connection: Any, unused_since_s: float, now_s: float) -> float:
    """For how long a connection has had no use; less than 0: an answer is under way, or a request waits to be read."""
    if getattr(connection, "unread", b""):
        return -1.0
    cycle, timer = connection.cycle, connection.timeout_keep_alive_task
    if cycle is None:
        return now_s - unused_since_s
    if not cycle.response_complete:
        return -1.0
    return 0.0 if timer is None else now_s - (timer.when() - plain_http.KEEPALIVE_S)
