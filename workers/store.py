"""Usage rows: a batch becomes rows in one statement, and what Postgres will never take is found and named."""

from collections.abc import Sequence
from typing import Any

import asyncpg
from msgspec import Struct

import sql
from gateway.admin.postgres import Postgres, Refused
from gateway.core.usage import UsageEvent
from gateway.errors import StoreUnavailable
from workers.failpoint import Failpoint, go_on


class Inserted(Struct, frozen=True):
    """What became of a batch: how many rows are new, and which events (by index) no row can be made of, and why."""

    rows: int
    refused: dict[int, str]


class UsageStore:
    """Inserts events. An event that is there already is left as it is and counts as done."""

    def __init__(self, postgres: Postgres, failpoint: Failpoint = go_on) -> None:
        self._postgres = postgres
        self._failpoint = failpoint

    async def insert(self, events: Sequence[UsageEvent]) -> Inserted:
        """When it returns, every event is committed or refused. Raises `StoreUnavailable`: some may be, ask again.

        One transaction, unless Postgres refuses the batch for its values: then halves of it, down to those at fault.
        """
        refused: dict[int, str] = {}
        rows = await self._insert_span(events, 0, refused) if events else 0
        return Inserted(rows, refused)

    async def _insert_span(self, events: Sequence[UsageEvent], first: int, refused: dict[int, str]) -> int:
        """Rows made of `events`, which begin at index `first` of the batch; adds to `refused`."""
        try:
            return await self._insert(events)
        except Refused:
            if len(events) == 1:
                return await self._insert_suspect(events[0], first, refused)
        middle = len(events) // 2
        rows = await self._insert_span(events[:middle], first, refused)
        return rows + await self._insert_span(events[middle:], first + middle, refused)

    async def _insert_suspect(self, event: UsageEvent, index: int, refused: dict[int, str]) -> int:
        """Once more: a partition made at that very moment makes Postgres refuse a good row, but only once."""
        try:
            return await self._insert([event])
        except Refused as error:
            refused[index] = str(error)
            return 0

    async def _insert(self, events: Sequence[UsageEvent]) -> int:
        async with self._postgres.transaction() as connection:
            self._failpoint("before insert")
            rows: int = await connection.fetchval(sql.queries()["insert_usage"], *columns(events))
            self._failpoint("after insert")
            self._failpoint("before commit")
        self._failpoint("after commit")
        return rows


def took_too_long(error: StoreUnavailable) -> bool:
    """Whether Postgres had no time for the batch or waited for a lock, so that a smaller one may pass."""
    slow = (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError, TimeoutError)
    return isinstance(error.__cause__, slow)


def columns(events: Sequence[UsageEvent]) -> list[list[Any]]:
    """One list a column, in the order of the statement insert_usage."""
    details = [event.detail for event in events]
    return [
        [event.id for event in events],
        [event.key_id for event in events],
        [event.at_ms for event in events],
        [event.month for event in events],
        [event.prompt_tokens for event in events],
        [event.completion_tokens for event in events],
        [event.credits_micro for event in events],
        [event.estimated for event in events],
        [detail.model for detail in details],
        [detail.endpoint for detail in details],
        [detail.backend for detail in details],
        [detail.status for detail in details],
        [detail.http_status for detail in details],
        [detail.streamed for detail in details],
        [detail.finish_reason for detail in details],
        [detail.response_time_ms for detail in details],
        [detail.first_token_ms for detail in details],
        [detail.load_ms for detail in details],
        [detail.prompt_ms for detail in details],
        [detail.eval_ms for detail in details],
        [detail.end_user for detail in details],
        [event.team_id for event in events],
        [event.team_credits_micro for event in events],
        [detail.dialect for detail in details],
        [detail.queue_ms for detail in details],
        [detail.address_hash for detail in details],
        *_attempt_columns(events),
    ]


def _attempt_columns(events: Sequence[UsageEvent]) -> list[list[Any]]:
    tries = [(event.id, number, one) for event in events for number, one in enumerate(event.detail.attempts, 1)]
    return [
        [event_id for event_id, _, _ in tries],
        [number for _, number, _ in tries],
        [one.backend for _, _, one in tries],
        [one.status for _, _, one in tries],
        [one.queue_ms for _, _, one in tries],
        [one.response_time_ms for _, _, one in tries],
    ]
