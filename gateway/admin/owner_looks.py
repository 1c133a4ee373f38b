"""One look at a page of keys or teams: Redis and Postgres side by side, while calls go on."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol

from msgspec import Struct

from gateway.admin.author import Page
from gateway.admin.credits import OwnerSums
from gateway.admin.report import Overdrawn, Report
from gateway.core.books import Balance, Entry, Waiting, differences, waiting
from gateway.core.charges import Backlog, Charge, Owner, by_owner


class Ledger(Protocol):
    """Redis' part. Every method raises `LimitsUnavailable`."""

    async def check_ready(self) -> None: ...

    async def now_us(self) -> int: ...

    async def balances(self, owners: Sequence[Owner], month: str) -> dict[Owner, Balance]: ...

    async def backlog(self) -> Backlog: ...


class Sums(Protocol):
    """Postgres' part of what Redis has too. Every method raises `StoreUnavailable`."""

    async def sums(self, after: str | None, month: str) -> Page[OwnerSums]: ...


class Rows(Protocol):
    """Which calls are rows. Every method raises `StoreUnavailable`."""

    async def among(self, charges: Sequence[Charge]) -> set[str]: ...


class Asked(Struct, frozen=True):
    """One page of owners, the one behind `after`, and the month; `past`: it is over."""

    after: str | None
    month: str
    past: bool


class Waits:
    """A backlog, by owner."""

    def __init__(self, backlog: Backlog) -> None:
        self.backlog = backlog
        self._by_owner = by_owner(backlog.charges)

    def of(self, owners: Iterable[Owner]) -> list[Charge]:
        """The charges of all of them, each once."""
        return list({one.id: one for owner in owners for one in self._by_owner.get(owner, ())}.values())

    def costs(self, owner: Owner, *, month: str, rows_before: set[str], rows_after: set[str]) -> Waiting:
        theirs, whole = self._by_owner.get(owner, []), self.backlog.whole
        return waiting(owner, theirs, month, rows_before=rows_before, rows_after=rows_after, whole=whole)


class OwnerLooks:
    """Raises `StoreUnavailable` and `LimitsUnavailable`."""

    def __init__(self, credits: Sums, rows: Rows, ledger: Ledger) -> None:
        self._credits = credits
        self._rows = rows
        self._ledger = ledger

    async def look(self, asked: Asked, owners: Sequence[Owner], waits: Waits | None = None) -> Report:
        """Redis first and last, and the rows in between, as `core.books` wants it."""
        before = await self._ledger.balances(owners, asked.month)
        waits = waits or Waits(await self._ledger.backlog())
        theirs = waits.of(owners)
        rows_before = await self._rows.among(theirs)
        page = await self._credits.sums(asked.after, asked.month)
        rows_after = await self._rows.among(theirs)
        now = await self._ledger.balances(owners_of(page), asked.month)
        seen = partial(waits.costs, month=asked.month, rows_before=rows_before, rows_after=rows_after)
        entries = [
            _entry(owner, one, asked, seen(owner), before[owner], now[owner])
            for one, owner in zip(page.items, owners_of(page), strict=True)
            if owner in before  # who came meanwhile is for the next run
        ]
        found = tuple(difference for entry in entries for difference in differences(entry))
        keys = sum(entry.owner.kind == "key" for entry in entries)
        return Report(
            month=asked.month,
            keys=keys,
            teams=len(entries) - keys,
            events=waits.backlog.events,
            dead=waits.backlog.dead,
            complete=waits.backlog.whole,
            differing=len(found),
            differences=found,
            overdrawn=tuple(_overdrawn(page.items, now)),
        )


def owners_of(page: Page[OwnerSums]) -> list[Owner]:
    return [_owner(one) for one in page.items]


def _owner(one: OwnerSums) -> Owner:
    return Owner("key", one.key_id) if one.key_id is not None else Owner("team", one.team_id or "")


def _overdrawn(found: Iterable[OwnerSums], now: Mapping[Owner, Balance]) -> Iterator[Overdrawn]:
    for one in found:
        owner = _owner(one)
        balance_micro = (now[owner].granted_micro or 0) - (now[owner].charged_micro or 0)
        if one.metered and balance_micro < 0:
            yield Overdrawn(owner, balance_micro)


def _entry(owner: Owner, sums: OwnerSums, asked: Asked, waits: Waiting, before: Balance, after: Balance) -> Entry:
    return Entry(
        owner=owner,
        grants_micro=sums.ledger_micro,
        granted_micro=sums.granted_micro,
        charged_micro=sums.charged_micro,
        tokens=sums.tokens,
        past=asked.past,
        waiting=waits,
        before=before,
        after=after,
    )
