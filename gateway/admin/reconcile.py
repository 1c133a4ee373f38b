"""Whether everybody's credits agree in all ledgers, page by page, while calls go on."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias
from uuid import UUID

from msgspec import Struct

from gateway.admin import moment
from gateway.admin.author import Page
from gateway.admin.credits import OwnerSums
from gateway.admin.postgres import Postgres
from gateway.core.books import Balance, Difference, Entry, Owner, Waiting, charges, differences, waiting
from gateway.core.usage import UsageEvent

LOOKS_MAX = 3
LOOK_AGAIN_S = 0.5
OWNERS_MAX = 1_000_000

Backlog: TypeAlias = tuple[list[UsageEvent], bool]
"""events that are in the stream, and whether these are all"""


class Ledger(Protocol):
    """Redis' part. Every method raises `LimitsUnavailable`."""

    async def check_ready(self) -> None: ...

    async def balances(self, owners: Sequence[Owner]) -> dict[Owner, Balance]: ...

    async def events(self) -> Backlog: ...


class Sums(Protocol):
    """Postgres' part. Every method raises `StoreUnavailable`."""

    async def sums(self, after: str | None) -> Page[OwnerSums]: ...


class Overdrawn(Struct, frozen=True):
    """A metered owner with a balance below zero: credits were taken back while a call came in. No difference."""

    owner: Owner
    balance_micro: int


class Report(Struct, frozen=True, kw_only=True):
    """How many keys and teams were compared, how many events waited, and what disagreed to the last look.

    `complete`: whether all waiting events were read; else charges could be more than their rows say.
    """

    keys: int = 0
    teams: int = 0
    events: int = 0
    complete: bool = True
    differences: tuple[Difference, ...] = ()
    overdrawn: tuple[Overdrawn, ...] = ()

    @property
    def agrees(self) -> bool:
        return self.complete and not self.differences

    def plus(self, other: "Report") -> "Report":
        return Report(
            keys=self.keys + other.keys,
            teams=self.teams + other.teams,
            events=max(self.events, other.events),
            complete=self.complete and other.complete,
            differences=self.differences + other.differences,
            overdrawn=self.overdrawn + other.overdrawn,
        )


async def _pause() -> None:
    await asyncio.sleep(LOOK_AGAIN_S)


class Reconciler:
    """Raises `StoreUnavailable` and `LimitsUnavailable`. `pause` is what passes between two looks at one page."""

    def __init__(
        self, credits: Sums, stored: "StoredEvents", ledger: Ledger, pause: Callable[[], Awaitable[None]] = _pause
    ) -> None:
        self._credits = credits
        self._stored = stored
        self._ledger = ledger
        self._pause = pause

    async def run(self) -> Report:
        """All keys and teams; `OWNERS_MAX` at most, of more the rest is not complete.

        Waiting events are read once, and once more for a page that they do not explain: what was charged since is none
        of them, so it makes a difference there, and none that is real goes away.
        """
        await self._ledger.check_ready()
        backlog = await self._ledger.events()
        report, after = Report(), None
        while report.keys + report.teams < OWNERS_MAX:
            owners = await self._credits.sums(after)
            report = report.plus(await self._settled(after, _owners(owners), backlog))
            if owners.after is None:
                return report
            after = owners.after
        return report.plus(Report(complete=False))

    async def _settled(self, after: str | None, owners: Sequence[Owner], backlog: Backlog) -> Report:
        """One page of owners, looked at until nothing differs, and `LOOKS_MAX` times at most."""
        report = await self._look(after, owners, backlog)
        for _ in range(LOOKS_MAX - 1):
            if not report.differences:
                break
            await self._pause()
            report = await self._look(after, owners, None)
        return report

    async def _look(self, after: str | None, owners: Sequence[Owner], backlog: Backlog | None) -> Report:
        """Redis first and last, and the rows in between, as `core.books` wants it."""
        before = await self._ledger.balances(owners)
        events, whole = backlog or await self._ledger.events()
        theirs = [event for event in events if any(owner in before for owner, _ in charges(event))]
        rows_before = await self._stored.among(theirs)
        page = await self._credits.sums(after)
        rows_after = await self._stored.among(theirs)
        now = await self._ledger.balances(_owners(page))
        costs = waiting(theirs, rows_before, rows_after, whole=whole)
        unknown = Waiting(0, 0 if whole else None)
        entries = [
            _entry(owner, one, costs.get(owner, unknown), before.get(owner, now[owner]), now[owner])
            for one, owner in zip(page.items, _owners(page), strict=True)
        ]
        keys = sum(entry.owner.kind == "key" for entry in entries)
        return Report(
            keys=keys,
            teams=len(entries) - keys,
            events=len(events),
            complete=whole,
            differences=tuple(difference for entry in entries for difference in differences(entry)),
            overdrawn=tuple(_overdrawn(page.items, now)),
        )


class StoredEvents:
    """Which events are usage rows by now. Raises `StoreUnavailable`."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def among(self, events: Sequence[UsageEvent]) -> set[str]:
        """The ids of those that are."""
        if not events:
            return set()
        ids, times = [UUID(event.id) for event in events], [moment.at_ms(event.at_ms) for event in events]
        return {str(row["id"]) for row in await self._postgres.find("stored_events", ids, times)}


def _owners(page: Page[OwnerSums]) -> list[Owner]:
    return [_owner(one) for one in page.items]


def _owner(one: OwnerSums) -> Owner:
    return Owner("key", one.key_id) if one.key_id is not None else Owner("team", one.team_id or "")


def _overdrawn(found: Iterable[OwnerSums], now: Mapping[Owner, Balance]) -> Iterator[Overdrawn]:
    for one in found:
        owner = _owner(one)
        balance_micro = (now[owner].granted_micro or 0) - (now[owner].charged_micro or 0)
        if one.metered and balance_micro < 0:
            yield Overdrawn(owner, balance_micro)


def _entry(owner: Owner, sums: OwnerSums, costs: Waiting, before: Balance, after: Balance) -> Entry:
    return Entry(
        owner=owner,
        grants_micro=sums.ledger_micro,
        granted_micro=sums.granted_micro,
        rows_micro=sums.charged_micro,
        waiting=costs,
        before=before,
        after=after,
    )
