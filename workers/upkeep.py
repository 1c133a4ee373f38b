"""Upkeep: a partition for each month before its first row, nothing left behind in the default partition, and requests
of the admin API forgotten after a day.
"""

import sql
from gateway.admin.claim import REMEMBERED_HOURS
from gateway.admin.postgres import Postgres
from gateway.telemetry.logs import Log

MONTHS_AHEAD = 3
FORGOTTEN_MAX = 10_000
"""in one run; the rest is for the next"""


class Upkeep:
    """Any number may run side by side: making a partition that exists changes nothing."""

    def __init__(self, postgres: Postgres, log: Log, months_ahead: int = MONTHS_AHEAD) -> None:
        self._postgres = postgres
        self._log = log
        self._months_ahead = months_ahead

    async def run_once(self) -> int:
        """How many partitions were made. Raises `StoreUnavailable` when Postgres is away or a lock is held for long."""
        async with self._postgres.transaction() as connection:
            months = await connection.fetch(sql.queries()["months_due"], self._months_ahead)
        if stray := [row["day"].strftime("%Y%m") for row in months if row["stray"]]:
            self._log.warning("usage_in_default_partition", months=stray)
        made = 0
        for day in sorted({row["day"] for row in months}):
            async with self._postgres.transaction() as connection:
                made += await connection.fetchval(sql.queries()["make_partition"], day)
        async with self._postgres.transaction() as connection:
            await connection.execute(sql.queries()["forget_requests"], REMEMBERED_HOURS, FORGOTTEN_MAX)
        return made
