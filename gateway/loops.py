"""What a replica does beside its calls, for as long as it runs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from gateway.telemetry.logs import Log

RESTART_S = 1.0

Loop = Callable[[], Awaitable[None]]


class Loops:
    """Runs what should never end."""

    def __init__(self, log: Log) -> None:
        self._log = log

    @asynccontextmanager
    async def running(self, *loops: Loop) -> AsyncIterator[None]:
        """Runs the loops while the block does."""
        tasks = [asyncio.create_task(self._for_ever(loop)) for loop in loops]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _for_ever(self, loop: Loop) -> None:
        """A loop that ended in a way nobody planned for is said to have, and begins again."""
        while True:
            try:
                await loop()
            except Exception as error:
                self._log.warning("loop_failed", loop=loop.__qualname__, error=type(error).__name__)
            await asyncio.sleep(RESTART_S)
