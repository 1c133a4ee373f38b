"""A loop: run_once, rest, and again; after a failure a longer rest, until it is told to stop."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

from gateway.telemetry.logs import Log

BACKOFF_S_MIN = 0.2
BACKOFF_S_MAX = 5.0
"""The longest rest after a failure, so that work goes on within seconds after an outage of any length."""


class Loop:
    """One task's life. An exception of `run_once` is told and survived, whatever it is."""

    def __init__(
        self,
        name: str,
        run_once: Callable[[], Awaitable[int]],
        log: Log,
        *,
        rest_s: float = 0.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self._run_once = run_once
        self._log = log
        self._rest_s = rest_s
        self._chance = chance

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; a run that has begun is finished."""
        failures = 0
        while not stop.is_set():
            try:
                done = await self._run_once()
            except Exception as error:
                failures += 1
                pause_s = backoff_s(failures, self._chance())
                self._log.warning(
                    "loop_failed", loop=self.name, error=kinds(error), failures=failures, pause_s=round(pause_s, 2)
                )
            else:
                if failures:
                    self._log.info("loop_recovered", loop=self.name, failures=failures)
                self._log.debug("loop_ran", loop=self.name, done=done)
                failures, pause_s = 0, self._rest_s
            await _rest(stop, pause_s)


def backoff_s(failures: int, chance: float) -> float:
    """Seconds to rest after so many failures in a row: doubling, bounded, between half and all of it by `chance`."""
    full: float = min(BACKOFF_S_MAX, BACKOFF_S_MIN * 2 ** min(failures - 1, 16))
    return full * (0.5 + 0.5 * chance)


def kinds(error: BaseException) -> str:
    """What kind of error, and what kind caused it, such as `StoreUnavailable from ConnectionRefusedError`.

    Never its text: Postgres and asyncpg put the values they refuse into it.
    """
    names = [type(error).__name__]
    while (cause := error.__cause__) is not None:
        error = cause
        names.append(type(error).__name__)
    return " from ".join(names)


async def _rest(stop: asyncio.Event, seconds: float) -> None:
    """Give way to others at least once, and return early when told to stop."""
    if seconds <= 0:
        await asyncio.sleep(0)
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
