"""What the usage tables say: which calls are rows, and whether rows and sums agree."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from asyncpg import Record
from msgspec import Struct

from gateway.admin import moment
from gateway.admin.postgres import Postgres
from gateway.core import rollups
from gateway.core.books import Difference
from gateway.core.charges import Charge
from gateway.core.rollups import DaySums, MonthSums
from gateway.core.usage import AT_MS_END, AT_MS_MIN

KEYS_A_PAGE = 1_000
FOUND_MAX = 1_000
"""keys of one day or page that differ; were there more, they are not told"""
MONTH = "%Y%m"


class DayLook(Struct, frozen=True, kw_only=True):
    """`kept`: whether the month has its rows still; else only its sums were compared."""

    kept: bool
    differences: list[Difference]


class MonthLook(Struct, frozen=True, kw_only=True):
    """One page; `after` is where the next one begins, None: there is none."""

    after: str | None
    differences: list[Difference]


class StoredUsage:
    """Every method raises `StoreUnavailable`. Months are UTC, as YYYYMM."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def among(self, charges: Sequence[Charge]) -> set[str]:
        """The ids of those that are rows."""
        found = [one for one in charges if AT_MS_MIN <= one.at_ms < AT_MS_END]  # of another time no row is made
        if not found:
            return set()
        ids, times = [UUID(one.id) for one in found], [moment.at_ms(one.at_ms) for one in found]
        return {str(row["id"]) for row in await self._postgres.find("stored_events", ids, times)}

    async def day(self, day: date) -> DayLook:
        """Where rows, hours and the day itself differ, by key; all are of one moment."""
        found = await self._postgres.find("day_differences", day, day.strftime(MONTH), FOUND_MAX)
        return DayLook(
            kept=found[0]["rows_kept"],
            differences=[one for row in found if _differs(row) for one in rollups.of_day(_day(row), day)],
        )

    async def month(self, month: str, after: str = "") -> MonthLook:
        """Where the days and the month differ, of the keys behind `after`; all are of one moment."""
        first = rollups.days(month)[0]
        end = (first + timedelta(31)).replace(day=1)
        found = await self._postgres.find("month_differences", month, first, end, after, KEYS_A_PAGE, FOUND_MAX)
        return MonthLook(
            after=found[0]["upto"],
            differences=[one for row in found if _differs(row) for one in rollups.of_month(_month(row))],
        )


def _differs(row: Record) -> bool:
    return row["api_key_id"] is not None


def _day(row: Record) -> DaySums:
    figures: list[Any] = [None if row[name] is None else tuple(row[name]) for name in ("hourly", "logged")]
    return DaySums(
        key_id=row["api_key_id"],
        team_id=row["team_id"],
        daily=tuple(row["daily"]),
        hourly=figures[0],
        rows=figures[1],
    )


def _month(row: Record) -> MonthSums:
    return MonthSums(
        key_id=row["api_key_id"],
        team_id=row["team_id"],
        monthly=tuple(row["monthly"]),
        daily=tuple(row["daily"]),
    )
