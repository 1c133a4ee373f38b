"""A worker's port: uvicorn in the worker's own event loop, without signal handlers of its own."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from gateway import plain_http
from gateway.settings import SettingsError

BACKLOG_CONNECTIONS = 64
CONNECTIONS_MAX = 64
"""of more, the rest is told 503"""
STOP_S_MAX = 1


@asynccontextmanager
async def listening(app: Any, sock: socket.socket | None) -> AsyncIterator[None]:
    """Serves `app` on `sock` meanwhile; None: nowhere."""
    if sock is None:
        yield
        return
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            lifespan="off",
            limit_concurrency=CONNECTIONS_MAX,
            timeout_graceful_shutdown=STOP_S_MAX,
            **plain_http.options(),
        )
    )
    serving = asyncio.create_task(server._serve([sock]), name="port")
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.gather(serving, return_exceptions=True)


def bound(host: str, port: int) -> socket.socket | None:
    """A socket that listens; None for port 0. Raises `SettingsError` when the port is taken."""
    if not port:
        return None
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG_CONNECTIONS)
    except OSError as error:
        problem = f"WORKER_PORT: cannot listen on {host} port {port} ({error.strerror}): set another one"
        raise SettingsError([problem]) from None
