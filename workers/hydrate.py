"""Hydration: what Postgres says about keys gets into Redis, whole after Redis lost its data, else change by change.

The admin API publishes a change itself, at once. This makes good what it could not, because it died or Redis was away
between the two: a change is published here within seconds, and no older version ever replaces a newer one.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from gateway.admin.store import KeyPage
from gateway.core.record import KeyRecord, Spent
from gateway.errors import Unavailable
from gateway.telemetry.logs import Log
from workers.clock import month_of

OVERLAP_US = 60_000_000
"""How far back each look goes: a row may become visible so much later than its time of change says."""
WHOLE_EVERY_US = 300_000_000
"""How often all keys are published, changed or not."""
PUBLISHED_AT_ONCE_MAX = 64


class Truth(Protocol):
    """What `gateway.admin.store.KeyStore` knows. Raises `StoreUnavailable`."""

    async def changed_since(self, since_us: int, after: str | None = None) -> KeyPage: ...

    async def spent(self, key_ids: Sequence[str], month: str) -> dict[str, Spent]: ...

    async def now_us(self) -> int: ...


class Directory(Protocol):
    """What replicas read. Raises `LimitsUnavailable`."""

    async def is_ready(self, shard: int) -> bool: ...

    async def incarnation(self) -> str:
        """Which run of the server answers: another text after a restart or a failover."""

    async def publish(self, record: KeyRecord, spent: Spent | None) -> None:
        """Write a key, unless a newer version is there. `spent` counts only where Redis has no figure of its own."""

    async def begin(self, shard: int) -> str:
        """Put down a mark that is lost with everything else, should Redis lose its data."""

    async def mark_ready(self, shard: int, mark: str) -> bool:
        """Say that the shard holds every key. False, and nothing is said: the mark is gone, so keys are too."""


class Clock(Protocol):
    async def now_ms(self) -> int: ...


class Hydrator:
    """Any number may run side by side: publishing is idempotent."""

    def __init__(self, truth: Truth, directory: Directory, clock: Clock, shards: int, log: Log) -> None:
        self._truth = truth
        self._directory = directory
        self._clock = clock
        self._shards = shards
        self._log = log
        self._incarnation = ""
        self._whole_us = 0
        self._since_us = 0
        self._seen: dict[str, int] = {}
        """Version of each key in the last look, so that the overlap is not published over and over."""

    async def run_once(self) -> int:
        """How many keys were published. Raises `Unavailable` when Redis or Postgres is away; then ask again."""
        try:
            began_us = await self._truth.now_us()
            await self._begin_again_if_due(began_us)
            return await self._catch_up(began_us)
        except Unavailable:
            self._since_us, self._seen = 0, {}
            raise

    async def _begin_again_if_due(self, now_us: int) -> None:
        """A Redis that was restarted may have lost its last second, and any may have lost something: look at all."""
        incarnation = await self._directory.incarnation()
        if incarnation != self._incarnation or now_us - self._whole_us >= WHOLE_EVERY_US:
            self._since_us, self._seen = 0, {}
            self._incarnation, self._whole_us = incarnation, now_us

    async def _catch_up(self, began_us: int) -> int:
        empty = [shard for shard in range(self._shards) if not await self._directory.is_ready(shard)]
        marks = {shard: await self._directory.begin(shard) for shard in empty}
        if empty:
            self._since_us, self._seen = 0, {}
        published = await self._publish_changes(began_us)
        if empty:
            # Once more, for what changed meanwhile: a key that was read before it was revoked must not stay valid.
            published += await self._publish_changes(began_us)
        for shard, mark in marks.items():
            if not await self._directory.mark_ready(shard, mark):  # the next run begins again
                self._log.warning("hydration_lost", shard=shard)
        if empty:
            self._log.info("hydrated", shards=empty, keys=published)
        return published

    async def _publish_changes(self, began_us: int) -> int:
        """Everything since the last look, and a little before it; the look counts only when all of it was written."""
        published = 0
        seen: dict[str, int] = {}
        async for page in self._pages():
            fresh = [key for key in page if self._seen.get(key.id) != key.version]
            await self._publish(fresh)
            published += len(fresh)
            seen |= {key.id: key.version for key in page if self._since_us}
        self._since_us, self._seen = max(1, began_us - OVERLAP_US), seen
        return published

    async def _pages(self) -> AsyncIterator[list[KeyRecord]]:
        page = await self._truth.changed_since(self._since_us)
        yield page.keys
        while page.after:
            page = await self._truth.changed_since(self._since_us, page.after)
            yield page.keys

    async def _publish(self, keys: Sequence[KeyRecord]) -> None:
        if not keys:
            return
        spent = await self._truth.spent([key.id for key in keys], month_of(await self._clock.now_ms()))
        for start in range(0, len(keys), PUBLISHED_AT_ONCE_MAX):
            batch = keys[start : start + PUBLISHED_AT_ONCE_MAX]
            outcomes = await asyncio.gather(
                *(self._directory.publish(key, spent[key.id]) for key in batch), return_exceptions=True
            )
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome
