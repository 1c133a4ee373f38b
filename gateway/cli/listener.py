"""One port of a replica: uvicorn without its own signal handlers, which would skip the draining."""

import asyncio
import socket
from contextlib import suppress
from typing import Any

from gateway.settings import Settings

BACKLOG_CONNECTIONS = 2_048
KEEPALIVE_S = 75  # longer than balancers keep their connections, so that it is they who close them
LAST_BYTES_S = 2.0
"""how long clients may take for the end of an answer, once no call runs any more"""
SETTLE_S = 10.0
"""more than the replica's own end takes; only then does the server cancel what is left"""
POLL_S = 0.01


class Listener:
    """Serves `app` on HOST and PORT, and the app begins and ends with it; or on `sock`. `start`, then `stop`."""

    ended: "asyncio.Task[None]"
    """done when it no longer serves"""

    def __init__(self, app: Any, settings: Settings, sock: socket.socket | None = None) -> None:
        import uvicorn

        self._sockets = [sock] if sock else None
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                lifespan="off" if sock else "on",
                http="httptools",
                log_level="warning",
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                backlog=BACKLOG_CONNECTIONS,
                timeout_keep_alive=KEEPALIVE_S,
                timeout_graceful_shutdown=round(settings.drain_seconds + SETTLE_S),
            )
        )

    def start(self) -> None:
        self.ended = asyncio.create_task(self._serve())

    async def up(self) -> bool:
        """Wait until it serves; False when it has ended instead."""
        while not self._server.started and not self.ended.done():
            await asyncio.wait((self.ended,), timeout=POLL_S)  # uvicorn tells it in no other way
        return self._server.started

    def refuse(self) -> None:
        """Take no more connections; those that are idle close, the others when their answers have ended."""
        self._server.should_exit = True

    async def stop(self) -> None:
        """Refuse, give open answers a moment, and end."""
        self.refuse()
        await asyncio.wait((self.ended,), timeout=LAST_BYTES_S)
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()  # it takes nothing, and nothing more is to come
        await asyncio.wait((self.ended,))

    @property
    def went_well(self) -> bool:
        """Whether it served at all, and ended without an error."""
        return self._server.started and not self.ended.exception()

    async def _serve(self) -> None:
        with suppress(SystemExit):  # it could not start, and has said why
            await self._server._serve(self._sockets)
