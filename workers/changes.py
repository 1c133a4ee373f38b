"""Changes of one kind of rows (keys, teams) since the last look, published one by one."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from gateway.admin.author import Page
from gateway.admin.publisher import all_of
from gateway.core.record import Spent
from workers.clock import month_of

OVERLAP_US = 60_000_000
"""How far back each look goes: a row may become visible so much later than its time of change says."""
PUBLISHED_AT_ONCE_MAX = 64


class Versioned(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def version(self) -> int: ...


Row = TypeVar("Row", bound=Versioned)


class Source(Protocol[Row]):
    """What `KeyStore` and `TeamStore` have in common. Raises `StoreUnavailable`."""

    async def changed_since(self, since_us: int, after: str | None = None) -> Page[Row]: ...

    async def spent(self, ids: Sequence[str], month: str, /) -> dict[str, Spent]: ...


class Clock(Protocol):
    async def now_ms(self) -> int: ...


Publish = Callable[[Sequence[Row], dict[str, Spent]], Awaitable[list[Awaitable[None]]]]
"""What publishes each of some rows, given what they have spent."""


class Changes(Generic[Row]):
    """Where the looks at one table have come to."""

    def __init__(self, source: Source[Row], publish: Publish[Row], clock: Clock) -> None:
        self._source = source
        self._publish = publish
        self._clock = clock
        self._since_us = 0
        self._seen: dict[str, int] = {}
        """Version of each row in the last look, so that the overlap is not published over and over."""

    def begin_again(self) -> None:
        """The next look is at all rows."""
        self._since_us, self._seen = 0, {}

    async def publish(self, began_us: int) -> int:
        """Everything since the last look, and a little before it; the look counts only when all of it was written."""
        published = 0
        seen: dict[str, int] = {}
        async for page in self._pages():
            fresh = [row for row in page if self._seen.get(row.id) != row.version]
            await self._publish_all(fresh)
            published += len(fresh)
            seen |= {row.id: row.version for row in page if self._since_us}
        self._since_us, self._seen = max(1, began_us - OVERLAP_US), seen
        return published

    async def _pages(self) -> AsyncIterator[list[Row]]:
        page = await self._source.changed_since(self._since_us)
        yield page.items
        while page.after:
            page = await self._source.changed_since(self._since_us, page.after)
            yield page.items

    async def _publish_all(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        spent = await self._source.spent([row.id for row in rows], month_of(await self._clock.now_ms()))
        for start in range(0, len(rows), PUBLISHED_AT_ONCE_MAX):
            await all_of(await self._publish(rows[start : start + PUBLISHED_AT_ONCE_MAX], spent))
