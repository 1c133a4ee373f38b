"""`llm-gateway serve`: one gateway replica, until SIGTERM."""

import argparse
import asyncio
import signal
import socket
import sys
from typing import TYPE_CHECKING

from gateway.cli.listener import Listener
from gateway.dev.places import CannotStart, bound, free_port
from gateway.settings import Settings, SettingsError

if TYPE_CHECKING:
    from gateway.app import Replica

HELP = "run one gateway replica (needs REDIS_URL and DATABASE_URL)"


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run one stateless gateway replica on HOST and PORT; with ADMIN_PORT, its admin API is there instead. "
        "Any number may share one Redis and one Postgres."
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    missing = [name for name in ("REDIS_URL", "DATABASE_URL") if not getattr(settings, name.lower())]
    if missing:
        advice = "a replica needs it. `llm-gateway up` brings servers of its own."
        raise SettingsError([f"{name} is not set: {advice}" for name in missing])
    import uvloop

    try:
        return uvloop.run(_serve(settings))
    except CannotStart as error:
        print(f"llm-gateway serve: {error}", file=sys.stderr)
        return 1


async def _serve(settings: Settings) -> int:
    """Serve until a signal, then: /ready says no, the balancer goes away, running calls end or are cut, all settle."""
    from gateway.app import Replica
    from gateway.state.server import problems

    if found := await problems(settings.redis_url, settings.redis_timeout_ms):
        raise SettingsError(found)
    admin_socket = _admin_socket(settings)
    free_port(settings.host, settings.port)
    replica = Replica(settings)
    public = Listener(replica.app, settings)
    listeners = [public]
    stopping = asyncio.ensure_future(_signal())
    public.start()
    if admin_socket and await public.up():
        listeners.append(Listener(replica.app, settings, admin_socket))
        listeners[-1].start()
    await asyncio.wait((stopping, *(one.ended for one in listeners)), return_when=asyncio.FIRST_COMPLETED)
    await _stop(listeners, replica, settings)
    stopping.cancel()
    return 0 if all(one.went_well for one in listeners) else 1


async def _stop(listeners: list[Listener], replica: "Replica", settings: Settings) -> None:
    """What ends first, the signal or a listener, ends all. The public one last, for it takes the replica with it."""
    public, *others = listeners
    if not public.ended.done():
        replica.draining = True
        await asyncio.sleep(settings.balancer_seconds)
        for other in others:
            await other.stop()
        public.refuse()
        await replica.running.drain(settings.drain_seconds)
        replica.running.cut()
    for one in (*others, public):
        await one.stop()


def _admin_socket(settings: Settings) -> socket.socket | None:
    """It listens at once, so that nobody who finds the public port open is refused here. Raises `CannotStart`."""
    if not settings.admin_port:
        return None
    admin_socket = bound(settings.host, settings.admin_port, "ADMIN_PORT")
    admin_socket.listen()
    return admin_socket


async def _signal() -> None:
    """Waits for SIGTERM or SIGINT."""
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_stop.set)
    await asked_to_stop.wait()
