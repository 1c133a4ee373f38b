"""Usage: one batch of stream entries becomes rows."""

from collections.abc import Callable

from gateway.telemetry.logs import Log
from workers.batch import Bad, sort_entries
from workers.store import UsageStore
from workers.stream import UsageStream

Failpoint = Callable[[str], None]
"""Called with the step that has just been done: read, commit, set_aside, ack. Tests make it raise or kill."""


class UsageWorker:
    """Durable first, poison aside, acknowledge last: whatever dies in between, the next reader repeats the rest."""

    def __init__(self, stream: UsageStream, store: UsageStore, log: Log, failpoint: Failpoint | None = None) -> None:
        self._stream = stream
        self._store = store
        self._log = log
        self._after = failpoint or _go_on

    async def run_once(self) -> int:
        """One batch. Returns how many entries were settled.

        Raises `Unavailable` when Redis or Postgres is away; the batch is then still pending, and read again next time.
        """
        entries = await self._stream.read()
        if not entries:
            return 0
        self._after("read")
        good, bad = sort_entries(entries)
        inserted = await self._store.insert([one.event for one in good])
        self._after("commit")
        bad += [Bad(good[index].entry, reason) for index, reason in inserted.refused.items()]
        await self._stream.set_aside(bad)
        self._after("set_aside")
        await self._stream.ack([one.entry.id for index, one in enumerate(good) if index not in inserted.refused])
        self._after("ack")
        repeated = len(good) - len(inserted.refused) - inserted.rows
        if repeated:
            self._log.info("usage_repeated", entries=repeated, rows=inserted.rows)
        return len(entries)


def _go_on(step: str) -> None:
    pass
