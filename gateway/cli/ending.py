"""How a replica ends: nobody new, what runs goes on for a while, the rest is cut.

What goes wrong on the way is told, and the next step is taken all the same: a call must not pay for it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from gateway.running import Running
from gateway.telemetry.logs import Log


class Door(Protocol):
    """What `listener.Listener` is here."""

    def wind_down(self) -> None: ...

    async def close_door(self) -> None: ...

    async def quiet(self, idle_s: float) -> None: ...

    async def stop(self) -> None: ...


class Ending:
    """`drain`, then `stop`. `balancer_s` is what a balancer may take to notice, `drain_s` what running calls have."""

    def __init__(self, doors: Sequence[Door], running: Running, log: Log, *, balancer_s: float, drain_s: float) -> None:
        """The door to stop last comes first."""
        self._doors = doors
        self._running = running
        self._log = log
        self._balancer_s = balancer_s
        self._drain_s = drain_s

    async def drain(self, hurry: "asyncio.Future[None]") -> None:
        """Wait until all is quiet, as long as it may take and nobody hurries."""
        for door in self._doors:
            await self._tried("wind_down", _at_once(door.wind_down))
        await asyncio.wait((hurry,), timeout=self._balancer_s)
        await asyncio.gather(*(self._tried("close_door", door.close_door()) for door in self._doors))
        quiet = asyncio.create_task(self._quiet())
        await asyncio.wait((hurry, quiet), timeout=self._drain_s, return_when=asyncio.FIRST_COMPLETED)
        quiet.cancel()

    async def stop(self) -> None:
        """The first door last, for it takes the replica with it."""
        self._running.cut()
        first, *others = self._doors
        for door in (*others, first):
            await self._tried("stop", door.stop())

    async def _quiet(self) -> None:
        """As long as the balancer may take to notice, it may also send on a connection that it has kept."""
        await asyncio.gather(*(self._tried("quiet", door.quiet(self._balancer_s)) for door in self._doors))
        while len(self._running):
            await self._running.drain(self._drain_s)

    async def _tried(self, step: str, doing: Awaitable[None]) -> None:
        try:
            await doing
        except Exception as error:
            self._log.surprise("ending_failed", error, step=step)


async def _at_once(act: Callable[[], None]) -> None:
    act()
