"""`llm-gateway serve`: one gateway replica, until SIGTERM."""

import argparse
import asyncio
import signal
from contextlib import suppress
from typing import Any

from gateway.settings import Settings, SettingsError

HELP = "run one gateway replica (needs REDIS_URL and DATABASE_URL)"
BACKLOG_CONNECTIONS = 2_048
KEEPALIVE_S = 75  # longer than balancers keep their connections, so that it is they who close them
LAST_BYTES_S = 2.0
"""how long clients may take for the end of an answer, once no call runs any more"""
SETTLE_S = 10.0
"""more than the replica's own end takes; only then does the server cancel what is left"""


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run one stateless gateway replica. Any number may share one Redis and one Postgres."


def run(args: argparse.Namespace, settings: Settings) -> int:
    missing = [name for name in ("REDIS_URL", "DATABASE_URL") if not getattr(settings, name.lower())]
    if missing:
        advice = "a replica needs it. `llm-gateway up` brings servers of its own."
        raise SettingsError([f"{name} is not set: {advice}" for name in missing])
    import uvloop

    return uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> int:
    """Serve until a signal, then: /ready says no, the balancer goes away, running calls end or are cut, all settle."""
    import uvicorn

    from gateway.app import Replica
    from gateway.state.server import problems

    if found := await problems(settings.redis_url, settings.redis_timeout_ms):
        raise SettingsError(found)
    replica = Replica(settings)
    server = uvicorn.Server(
        uvicorn.Config(
            replica.app,
            host=settings.host,
            port=settings.port,
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
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    serving = asyncio.create_task(_without_signals(server))
    stopping = asyncio.create_task(asked_to_stop.wait())
    await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        replica.draining = True
        await asyncio.sleep(settings.balancer_seconds)
        server.should_exit = True
        await replica.running.drain(settings.drain_seconds)
        replica.running.cut()
        await asyncio.wait((serving,), timeout=LAST_BYTES_S)
        for connection in list(server.server_state.connections):
            connection.transport.abort()  # it takes nothing, and nothing more is to come
    stopping.cancel()
    await asyncio.wait((serving,))
    return 0 if server.started and not serving.exception() else 1


async def _without_signals(server: Any) -> None:
    """uvicorn's server without its own signal handlers, which would skip the draining."""
    with suppress(SystemExit):  # it could not start, and has said why
        await server._serve()
