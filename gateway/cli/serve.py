"""`llm-gateway serve`: one gateway replica, until SIGTERM."""

import argparse
import asyncio
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

from gateway.cli import open_files
from gateway.cli.ending import Ending
from gateway.cli.listener import Listener
from gateway.dev.places import CannotStart, bound, free_port
from gateway.loops import Loops
from gateway.settings import Settings, SettingsError
from gateway.telemetry.complaints import EVERYBODY, Complaints

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

    open_files.allow_all()

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
    replica = Replica(settings, os.environ)  # OpenTelemetry reads variables of its own
    Complaints("library", EVERYBODY, replica.seldom).listen()
    public = Listener(replica.app, settings, replica.gate)
    listeners = [public]
    signals = Signals()
    async with Loops(replica.log).running(replica.pulse.run):
        public.start()
        if admin_socket and await public.up():
            listeners.append(Listener(replica.app, settings, None, admin_socket))
            listeners[-1].start()
        await asyncio.wait((signals.stop, *(one.ended for one in listeners)), return_when=asyncio.FIRST_COMPLETED)
        await _end(listeners, replica, settings, signals.hurry)
    return 0 if all(one.went_well for one in listeners) else 1


async def _end(
    listeners: list[Listener], replica: "Replica", settings: Settings, hurry: "asyncio.Future[None]"
) -> None:
    """What ends first, the signal or a listener, ends all."""
    public = listeners[0]
    balancer_s, drain_s = settings.balancer_seconds, settings.drain_seconds
    ending = Ending(listeners, replica.running, replica.log, balancer_s=balancer_s, drain_s=drain_s)
    try:
        if not public.ended.done():
            replica.draining = True
            await ending.drain(hurry)
    finally:
        await ending.stop()


def _admin_socket(settings: Settings) -> socket.socket | None:
    """It listens at once, so that nobody who finds the public port open is refused here. Raises `CannotStart`."""
    if not settings.admin_port:
        return None
    admin_socket = bound(settings.host, settings.admin_port, "ADMIN_PORT")
    admin_socket.listen()
    return admin_socket


class Signals:
    """SIGTERM and SIGINT: the first asks to stop, another one to hurry. Both are done when they have come."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.stop: asyncio.Future[None] = loop.create_future()
        self.hurry: asyncio.Future[None] = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._heard)

    def _heard(self) -> None:
        for told in (self.stop, self.hurry):
            if not told.done():
                told.set_result(None)
                return
