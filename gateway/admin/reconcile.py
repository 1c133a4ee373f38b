"""Whether all ledgers of a month agree, page by page, while calls go on: Redis, sums and rows."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from functools import partial
from typing import Literal, Protocol, TypeVar

from gateway.admin import moment
from gateway.admin.owner_looks import Asked, Ledger, OwnerLooks, Rows, Sums, Waits, owners_of
from gateway.admin.report import Report
from gateway.admin.stored import DayLook, MonthLook
from gateway.core import rollups
from gateway.core.books import Difference
from gateway.errors import BadRequest

LOOKS_MAX = 3
LOOK_AGAIN_S = 0.5
OWNERS_MAX = 1_000_000
PAGES_MAX = 10_000
"""of keys of a month"""


class Stored(Rows, Protocol):
    """What Postgres alone has: `gateway.admin.stored.StoredUsage`. Every method raises `StoreUnavailable`."""

    async def day(self, day: date) -> DayLook: ...

    async def month(self, month: str, after: str = "") -> MonthLook: ...


class Look(Protocol):
    """One look at something that may be moving."""

    @property
    def differences(self) -> Sequence[Difference]: ...


SomeLook = TypeVar("SomeLook", bound=Look)


async def _pause() -> None:
    await asyncio.sleep(LOOK_AGAIN_S)


class Reconciler:
    """Raises `StoreUnavailable` and `LimitsUnavailable`. `pause` is what passes between two looks at one page."""

    def __init__(
        self, credits: Sums, stored: Stored, ledger: Ledger, pause: Callable[[], Awaitable[None]] = _pause
    ) -> None:
        self._credits = credits
        self._stored = stored
        self._ledger = ledger
        self._owner_looks = OwnerLooks(credits, stored, ledger)
        self._pause = pause

    async def run(self, month: str | None = None) -> Report:
        """Of one month (UTC, YYYYMM), this one unless it is said; of what was granted and charged, ever.

        Raises `BadRequest` for a month that has not begun.
        """
        await self._ledger.check_ready()
        this_month = moment.month(await self._ledger.now_us())
        month = month or this_month
        if month > this_month:
            raise BadRequest("That month has not begun.", param="month")
        report = await self._owners(month, past=month < this_month)
        return report.plus(await self._months(month)).plus(await self._days(month))

    async def _owners(self, month: str, *, past: bool) -> Report:
        """All keys and teams; `OWNERS_MAX` at most, of more the rest is not complete.

        Waiting events are read once, and once more for a page that they do not explain: what was charged since is none
        of them, so it makes a difference there, and none that is real goes away.
        """
        backlog = Waits(await self._ledger.backlog())
        report, after = Report(month=month), None
        while report.keys + report.teams < OWNERS_MAX:
            asked = Asked(after, month, past)
            page = await self._credits.sums(after, month)
            look = partial(self._owner_looks.look, asked, owners_of(page))
            report = report.plus(await self._settled(look(backlog), look))
            if page.after is None:
                return report
            after = page.after
        return report.plus(Report(month=month, complete=False))

    async def _months(self, month: str) -> Report:
        """The month and its days, of all keys that have used it."""
        report, after = Report(month=month), ""
        for _ in range(PAGES_MAX):
            look = partial(self._stored.month, month, after)
            found = await self._settled(look(), look)
            report = report.plus(_report(month, found.differences))
            if found.after is None:
                return report
            after = found.after
        return report.plus(Report(month=month, complete=False))

    async def _days(self, month: str) -> Report:
        """Each day, its hours and its rows."""
        report = Report(month=month)
        for day in rollups.days(month):
            look = partial(self._stored.day, day)
            found = await self._settled(look(), look)
            report = report.plus(_report(month, found.differences, kept=found.kept))
        return report

    async def _settled(self, first: Awaitable[SomeLook], again: Callable[[], Awaitable[SomeLook]]) -> SomeLook:
        """The first look at which nothing differs, or else the last of `LOOKS_MAX`."""
        found = await first
        for _ in range(LOOKS_MAX - 1):
            if not found.differences:
                break
            await self._pause()
            found = await again()
        return found


def _report(month: str, found: Sequence[Difference], *, kept: bool = True) -> Report:
    rows: Literal["kept", "dropped"] = "kept" if kept else "dropped"
    return Report(month=month, rows=rows, differing=len(found), differences=tuple(found))
