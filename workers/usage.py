"""Usage: one batch of stream entries becomes rows."""

import time
from collections.abc import Callable, Sequence

from gateway.core.usage import UsageEvent
from gateway.errors import StoreUnavailable
from gateway.telemetry.logs import Log
from gateway.telemetry.worker import WorkerMetrics
from workers.batch import Bad, Entry, sort_entries
from workers.failpoint import Failpoint, go_on
from workers.store import Inserted, UsageStore, took_too_long
from workers.stream import UsageStream


class UsageWorker:
    """Durable first, then acknowledged, poison aside: whatever dies in between, the next reader repeats the rest."""

    def __init__(
        self,
        stream: UsageStream,
        store: UsageStore,
        log: Log,
        failpoint: Failpoint = go_on,
        metrics: WorkerMetrics | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._store = store
        self._log = log
        self._failpoint = failpoint
        self._metrics = metrics or WorkerMetrics()
        self._clock_s = clock_s

    async def run_once(self) -> int:
        """One batch. Returns how many entries were settled.

        Raises `Unavailable` when Redis or Postgres is away; the batch is then still pending, and read again next time.
        """
        self._failpoint("before read")
        entries = await self._stream.read()
        if not entries:
            return 0
        self._failpoint("after read")
        await self._settle(entries)
        return len(entries)

    async def _settle(self, entries: Sequence[Entry]) -> None:
        began_s = self._clock_s()
        good, bad = sort_entries(entries)
        inserted = await self._insert([one.event for one in good])
        bad += [Bad(good[index].entry, reason) for index, reason in inserted.refused.items()]
        self._failpoint("before ack")
        await self._stream.ack([one.entry.id for index, one in enumerate(good) if index not in inserted.refused])
        self._failpoint("after ack")
        self._failpoint("before set_aside")
        await self._stream.set_aside(bad)
        self._failpoint("after set_aside")
        repeated = len(entries) - len(bad) - inserted.rows
        if repeated:
            self._log.info("usage_repeated", entries=repeated, rows=inserted.rows)
        self._metrics.stored(
            rows=inserted.rows, repeated=repeated, set_aside=len(bad), seconds=self._clock_s() - began_s
        )

    async def _insert(self, events: Sequence[UsageEvent]) -> Inserted:
        """As the store does. Smaller batches after one that it had no time for, and larger ones as it gets by."""
        try:
            inserted = await self._store.insert(events)
        except StoreUnavailable as error:
            if took_too_long(error):
                self._stream.size.shrink()
                self._log.warning("usage_batch_too_slow", events=len(events), next=self._stream.size.policy.rows_max)
            raise
        self._stream.size.grow()
        return inserted
