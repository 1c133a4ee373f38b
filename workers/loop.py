"""A loop: run_once, rest, and again; after a failure a longer rest, until it is told to stop."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from gateway.telemetry.logs import Log
from gateway.telemetry.worker import WorkerMetrics

BACKOFF_S_MIN = 0.2
BACKOFF_S_MAX = 5.0
"""The longest rest after a failure, so that work goes on within seconds after an outage of any length."""
RUN_S_MAX = 600.0
"""A run that takes longer hangs, as far as anybody can tell."""


class Loop:
    """One task's life. An exception of `run_once` is told and survived, whatever it is."""

    def __init__(
        self,
        name: str,
        run_once: Callable[[], Awaitable[int]],
        log: Log,
        *,
        rest_s: float = 0.0,
        first_s: float = 0.0,
        run_s_max: float = RUN_S_MAX,
        metrics: WorkerMetrics | None = None,
        chance: Callable[[], float] = random.random,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`first_s`: how long before the first run; `run_s_max`: how long one may take."""
        self.name = name
        self._run_once = run_once
        self._log = log
        self._rest_s = rest_s
        self._first_s = first_s
        self._run_s_max = run_s_max
        self._metrics = metrics or WorkerMetrics()
        self._chance = chance
        self._clock_s = clock_s
        self._due_s = clock_s() + first_s
        """when the next run is to begin"""

    @property
    def hangs(self) -> bool:
        """Whether its run should have ended, well or not, for long."""
        return self._clock_s() > self._due_s + self._run_s_max

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; a run that has begun is finished."""
        failures = 0
        if self._first_s:
            await self._rest(stop, self._first_s)
        while not stop.is_set():
            try:
                done = await self._run_once()
            except Exception as error:
                failures += 1
                self._metrics.failures.labels(self.name).inc()
                pause_s = backoff_s(failures, self._chance())
                self._log.warning(
                    "loop_failed", loop=self.name, error=kinds(error), failures=failures, pause_s=round(pause_s, 2)
                )
            else:
                if failures:
                    self._log.info("loop_recovered", loop=self.name, failures=failures)
                self._log.debug("loop_ran", loop=self.name, done=done)
                failures, pause_s = 0, self._rest_s
            await self._rest(stop, pause_s)

    async def _rest(self, stop: asyncio.Event, seconds: float) -> None:
        """Give way to others at least once, and return early when told to stop."""
        self._due_s = self._clock_s() + max(0.0, seconds)
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stop.wait()


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
