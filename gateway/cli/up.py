"""`llm-gateway up`: everything on this machine, in one tree of processes, until Ctrl-C."""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.dev.home import Home

HELP = "start everything on this machine: Valkey, Postgres, a gateway, a worker"


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Start everything in one tree of processes: an embedded Valkey unless REDIS_URL is set, an embedded Postgres "
        "unless DATABASE_URL is set, one gateway replica and one worker; and a fake Ollama when no node in "
        "OLLAMA_BASE_URL answers. State is kept in DATA_DIR. Ctrl-C stops everything, a second one hurries."
    )


def run(options: argparse.Namespace, settings: Settings) -> int:
    from gateway.dev.home import Home
    from gateway.dev.places import CannotStart

    home = Home(Path(settings.data_dir))
    try:
        home.open()
        return asyncio.run(_up(settings, home))
    except (CannotStart, OSError) as error:
        print(f"llm-gateway up: {error}", file=sys.stderr)
        return 1
    finally:
        home.close()


async def _up(settings: Settings, home: "Home") -> int:
    """Start, show the screen, wait for a signal or a failure, stop in order."""
    from gateway.cli.migrate import migrate
    from gateway.dev.stack import Stack

    began = time.monotonic()
    stack, stopped = Stack(settings, home, migrate), asyncio.Event()

    def on_signal() -> None:
        if stopped.is_set():
            stack.hurry()
        stopped.set()

    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if sig is not signal.SIGHUP or signal.getsignal(sig) is not signal.SIG_IGN:  # nohup means it
            asyncio.get_running_loop().add_signal_handler(sig, on_signal)
    try:
        if await _unless(stopped, stack.start()):
            print(stack.screen(time.monotonic() - began), flush=True)
            await _unless(stopped, stack.watch())
    finally:
        with suppress(OSError):  # the terminal may have gone
            print("stopping", flush=True)
        await stack.stop()
    return 0


async def _unless(stopped: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do `work` unless a signal comes first. Whether it was done."""
    working, waiting = asyncio.ensure_future(work), asyncio.ensure_future(stopped.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        return not stopped.is_set()
    finally:
        for task in (working, waiting):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(working, waiting, return_exceptions=True)
