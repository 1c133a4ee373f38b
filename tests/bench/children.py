"""Processes that one run has started, each on the core where it belongs, and the end of all of them."""

import asyncio
import os
import signal
from contextlib import suppress

from gateway.dev.process import POLL_S, Child
from tests.bench.load import Address
from tests.bench.processor import Cores, on_core

START_S = 20.0


class Children:
    def __init__(self, cores: Cores) -> None:
        self._cores = cores
        self._all: list[Child] = []

    def spawn(self, child: Child, *, measured: bool = False, core: int | None = None) -> None:
        """On the core of what is measured, or on the other one, or on that `core`."""
        usual = self._cores.measured if measured else self._cores.rest
        with on_core(usual if core is None else core):
            child.spawn()
        self._all.append(child)

    async def listens(self, child: Child, address: Address) -> None:
        """Wait until somebody may connect. Raises `ChildFailed`, or TimeoutError."""
        async with asyncio.timeout(START_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection(*address)
                    writer.close()
                    return
                except OSError:
                    if not child.running:
                        raise child.failure("ended while it started") from None
                    await asyncio.sleep(POLL_S)

    async def kill(self) -> None:
        """How they end by themselves is nothing that is measured."""
        for child in reversed(self._all):
            await child.kill()


def signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
