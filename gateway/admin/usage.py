"""What was used, as sums of usage rows. Rows come a second or two after their calls."""

from decimal import Decimal
from typing import Any

from msgspec import Struct

import sql
from gateway.admin.postgres import Postgres, Refused
from gateway.core.grouping import Asked, columns
from gateway.errors import BadRequest

GROUPS_MAX = 10_000
"""of one report"""
OWN_MODELS_MAX = 100
"""of what one key has used"""


class Report(Struct, frozen=True):
    """Each group as its columns, `core.grouping.columns`. `truncated`: there are more than were wanted."""

    groups: list[dict[str, Any]]
    truncated: bool


class OwnUse(Struct, frozen=True):
    """What one key has used in a month: rows of the statements own_use_by_day and own_use_by_model."""

    by_day: list[dict[str, Any]]
    by_model: list[dict[str, Any]]


class UsageReports:
    """Every method raises `StoreUnavailable`."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def report(self, asked: Asked, limit: int) -> Report:
        """The first `limit` groups: by time, and of one time the most tokens first.

        Raises `BadRequest` for hours that are no longer kept.
        """
        if asked.by_hours:
            await self._check_hours(asked)
        limit = max(1, min(limit, GROUPS_MAX))
        filters = (asked.key_id, asked.team_id, asked.model, asked.backend, asked.status)
        found = await self._postgres.find(
            "usage_report", list(asked.group_by), asked.by_hours, asked.since, asked.until, *filters, limit + 1
        )
        names = columns(asked.group_by)
        return Report([{name: _plain(row[name]) for name in names} for row in found[:limit]], len(found) > limit)

    async def own(self, key_id: str, month: str) -> OwnUse:
        """Of the UTC month YYYYMM. An id that no row can hold has used nothing."""
        statements = sql.queries()
        try:
            async with self._postgres.transaction() as connection:
                by_day = await connection.fetch(statements["own_use_by_day"], key_id, month)
                by_model = await connection.fetch(statements["own_use_by_model"], key_id, month, OWN_MODELS_MAX)
        except Refused:
            return OwnUse([], [])
        return OwnUse([dict(row) for row in by_day], [dict(row) for row in by_model])

    async def _check_hours(self, asked: Asked) -> None:
        gone = await self._postgres.find("months_without_hours", asked.since, asked.until)
        if gone:
            months = ", ".join(row["month"] for row in gone)
            raise BadRequest(f"The hours of {months} are no longer kept: ask for whole days, by day.", param="from")


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value
