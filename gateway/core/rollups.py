"""Rows and their sums by hour, day and month, and where they disagree. Read in one statement, they never do."""

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from typing import TypeAlias

from msgspec import Struct

from gateway.core.books import Difference, Unit, What
from gateway.core.charges import Owner

Figures: TypeAlias = tuple[int, ...]
"""in the order of `UNITS`"""
UNITS: tuple[Unit, ...] = ("calls", "prompt_tokens", "completion_tokens", "credits", "credits")
TEAM_CREDITS = 4
"""which of them the team has paid, not the key; in millionths, as the key's"""


class DaySums(Struct, frozen=True, kw_only=True):
    """What there is of one day, key and team. None: it may be gone, for the months that are kept are over."""

    key_id: str
    team_id: str
    daily: Figures
    hourly: Figures | None
    rows: Figures | None


class MonthSums(Struct, frozen=True, kw_only=True):
    """The same of one month."""

    key_id: str
    team_id: str
    monthly: Figures
    daily: Figures


def days(month: str) -> list[date]:
    """Of a month as YYYYMM."""
    first = date(int(month[:4]), int(month[4:]), 1)
    return [day for number in range(31) if (day := first + timedelta(number)).month == first.month]


def of_day(sums: DaySums, day: date) -> Iterator[Difference]:
    """Of three figures the one that stands alone is the wrong one; where that is not clear, the day's is right."""
    named: dict[What, Figures | None] = {"daily": sums.daily, "hourly": sums.hourly, "rows": sums.rows}
    for place, unit in enumerate(UNITS):
        seen = {what: figures[place] for what, figures in named.items() if figures is not None}
        expected = Counter(seen.values()).most_common(1)[0][0]
        for what, found in seen.items():
            if found != expected:
                owner = _payer(sums.key_id, sums.team_id, place)
                yield Difference(owner=owner, what=what, unit=unit, day=day.isoformat(), expected=expected, found=found)


def of_month(sums: MonthSums) -> Iterator[Difference]:
    for place, unit in enumerate(UNITS):
        expected, found = sums.monthly[place], sums.daily[place]
        if found != expected:
            owner = _payer(sums.key_id, sums.team_id, place)
            yield Difference(owner=owner, what="daily", unit=unit, expected=expected, found=found)


def _payer(key_id: str, team_id: str, place: int) -> Owner:
    return Owner("team", team_id) if place == TEAM_CREDITS and team_id else Owner("key", key_id)
