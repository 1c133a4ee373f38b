"""Upkeep: partitions for each month before its first row, nothing left behind in the default ones, months dropped that
are not kept any longer, the default limits told to the views, and requests of the admin API forgotten after a day.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import date

from asyncpg import Record

import sql
from gateway.admin import moment, row
from gateway.admin.claim import REMEMBERED_HOURS
from gateway.admin.postgres import Postgres, Refused
from gateway.core.limits import Limits
from gateway.errors import Unavailable
from gateway.telemetry.logs import Log
from gateway.telemetry.worker import WorkerMetrics
from workers.loop import kinds

MONTHS_AHEAD = 3
OldestMs = Callable[[], Awaitable[int | None]]
"""Unix milliseconds since when the oldest event waits that is no row yet; None: none waits. Raises `Unavailable`."""
FORGOTTEN_MAX = 10_000
"""in one run; the rest is for the next"""


class Upkeep:
    """Any number may run side by side: what one has done leaves the others nothing to do."""

    def __init__(
        self,
        postgres: Postgres,
        log: Log,
        months_ahead: int = MONTHS_AHEAD,
        *,
        months_kept: int = 0,
        oldest_ms: OldestMs | None = None,
        defaults: Limits | None = None,
        metrics: WorkerMetrics | None = None,
    ) -> None:
        """`months_kept`: with this one; 0, or without `oldest_ms`: all. `defaults`: None leaves them as they are."""
        self._postgres = postgres
        self._log = log
        self._months_ahead = months_ahead
        self._months_kept = months_kept
        self._oldest_ms = oldest_ms
        self._defaults = defaults
        self._metrics = metrics or WorkerMetrics()
        self._stray: dict[date, int] = {}
        """months of which the default partitions hold rows, and how many"""

    async def run_once(self) -> int:
        """How much there was to do: months that got partitions, partitions dropped.

        What fails keeps nothing else from being done. Then raises `StoreUnavailable`: Postgres was away, or a lock was
        held for long.
        """
        done, failed = 0, None
        for step in (
            self._count_stray, self._make_due, self._make_stray, self._drop, self._set_defaults, self._forget
        ):  # fmt: skip
            try:
                done += await step()
            except (Unavailable, Refused) as error:
                failed = failed or error
        if failed:
            raise failed
        return done

    async def _make_due(self) -> int:
        """First, lest what is left behind keeps the next month from having its own."""
        return await self._make([row["day"] for row in await self._fetch("months_due", self._months_ahead)])

    async def _make_stray(self) -> int:
        stray = self._stray
        if stray:
            self._log.warning(
                "usage_in_default_partition", months=[day.strftime("%Y%m") for day in stray], rows=sum(stray.values())
            )
        made = await self._make(list(stray))
        await self._count_stray()
        return made

    async def _count_stray(self) -> int:
        """Before anything is moved, and after."""
        self._stray = {row["day"]: row["rows"] for row in await self._fetch("stray_months")}
        self._metrics.stray_rows.set(sum(self._stray.values()))
        return 0

    async def _make(self, days: Sequence[date]) -> int:
        made, failed = 0, None
        for day in days:
            try:
                async with self._postgres.transaction() as connection:
                    made += await connection.fetchval(sql.queries()["make_partition"], day)
            except (Unavailable, Refused) as error:
                failed = failed or error
        if failed:
            raise failed
        return made

    async def _fetch(self, name: str, *args: object) -> list[Record]:
        async with self._postgres.transaction() as connection:
            return await connection.fetch(sql.queries()[name], *args)

    async def _drop(self) -> int:
        """A lock that is held makes it wait for the next run, in an hour: while it waits, nobody can write."""
        if not self._months_kept or not self._oldest_ms:
            return 0
        try:
            since = moment.maybe_at_ms(await self._oldest_ms())
            async with self._postgres.transaction() as connection:
                dropped = await connection.fetchval(sql.queries()["drop_partitions"], self._months_kept, since)
        except Unavailable as error:
            self._log.warning("partitions_not_dropped", error=kinds(error))
            return 0
        if dropped:
            self._metrics.dropped.inc(len(dropped))
            self._log.info("partitions_dropped", partitions=dropped)
        return len(dropped)

    async def _set_defaults(self) -> int:
        if self._defaults is None:
            return 0
        async with self._postgres.transaction() as connection:
            await connection.execute(sql.queries()["set_default_limits"], row.limits_json(self._defaults))
        return 0

    async def _forget(self) -> int:
        async with self._postgres.transaction() as connection:
            await connection.execute(sql.queries()["forget_requests"], REMEMBERED_HOURS, FORGOTTEN_MAX)
        return 0
