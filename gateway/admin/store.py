"""The truth about API keys: rows of `api_keys`, as records."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from asyncpg import Record
from msgspec import Struct

import sql
from gateway.admin.postgres import Postgres, Refused, open_pool
from gateway.core.limits import Limits
from gateway.core.record import KeyRecord, Spent
from gateway.errors import BadRequest

__all__ = ["PAGE_ROWS", "KeyPage", "KeyStore", "open_pool"]

PAGE_ROWS = 500
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
END = datetime(9999, 1, 1, tzinfo=UTC)
CURSOR_CHARS_MAX = 100
US_MAX = (END - EPOCH) // timedelta(microseconds=1)


class KeyPage(Struct, frozen=True):
    """Some keys and, unless they are the last, where to go on."""

    keys: list[KeyRecord]
    after: str | None


class KeyStore:
    """Every method raises `StoreUnavailable` when the database does not answer in time."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def create(self, record: KeyRecord) -> KeyRecord:
        """The key as it is stored. Raises `BadRequest` for a taken id and for values no row can hold."""
        try:
            return _record((await self._fetch("create_key", *_columns(record)))[0])
        except Refused as error:
            raise BadRequest(f"The database refuses this key: {error}") from error

    async def get(self, key_id: str) -> KeyRecord | None:
        rows = await self._ask("get_key", key_id)
        return _record(rows[0]) if rows else None

    async def page(self, after: str | None) -> tuple[list[KeyRecord], str | None]:
        """The newest keys that come after the cursor, and the next cursor. Raises `BadRequest` for a false cursor."""
        at, key_id = _place(after) if after else (END, "")
        rows = await self._ask("keys_before", at, key_id, PAGE_ROWS)
        return [_record(row) for row in rows], _cursor(rows, "created_at")

    async def changed_since(self, since_us: int, after: str | None = None) -> KeyPage:
        """Keys changed after `since_us` (on this store's clock), oldest change first. 0: all keys."""
        at, key_id = _place(after) if after else (EPOCH + timedelta(microseconds=max(0, since_us)), "")
        rows = await self._ask("keys_changed_after", at, key_id, PAGE_ROWS)
        return KeyPage([_record(row) for row in rows], _cursor(rows, "updated_at"))

    async def revoke(self, key_id: str) -> KeyRecord | None:
        """The key as revoked; revoking again changes nothing. None: there is no such key."""
        rows = await self._ask("revoke_key", key_id)
        return _record(rows[0]) if rows else await self.get(key_id)

    async def spent(self, key_ids: Sequence[str], month: str) -> dict[str, Spent]:
        """What the rows say about each key: tokens of `month` and credits ever."""
        rows = {row["api_key_id"]: row for row in await self._ask("spent_by_keys", list(key_ids), month)}
        return {
            key_id: Spent(month=month, tokens=rows[key_id]["tokens"], credits_micro=rows[key_id]["credits_micro"])
            if key_id in rows
            else Spent(month=month)
            for key_id in key_ids
        }

    async def now_us(self) -> int:
        """This store's clock, microseconds since 1970."""
        return _us((await self._ask("clock"))[0][0])

    async def _ask(self, name: str, *args: Any) -> list[Record]:
        """As `_fetch`, for questions: a value that no row can hold finds none."""
        try:
            return await self._fetch(name, *args)
        except Refused:
            return []

    async def _fetch(self, name: str, *args: Any) -> list[Record]:
        async with self._postgres.transaction() as connection:
            return await connection.fetch(sql.queries()[name], *args)


def _columns(record: KeyRecord) -> list[Any]:
    """In the order of the statement create_key."""
    limits = record.limits
    return [
        record.id,
        record.digest,
        record.last_four,
        record.label,
        record.owner_email,
        record.enabled,
        None if record.expires_at_ms is None else _at(record.expires_at_ms),
        limits.requests_per_min,
        limits.tokens_per_min,
        limits.concurrency,
        limits.monthly_tokens,
        limits.credits_micro,
        record.version,
        _at(record.created_at_ms),
    ]


def _record(row: Record) -> KeyRecord:
    return KeyRecord(
        id=row["id"],
        digest=row["digest"],
        last_four=row["last_four"],
        label=row["label"],
        owner_email=row["owner_email"],
        enabled=row["enabled"],
        version=row["version"],
        limits=Limits(
            requests_per_min=row["rate_limit_per_min"],
            tokens_per_min=row["tokens_per_min"],
            concurrency=row["concurrency"],
            monthly_tokens=row["monthly_token_limit"],
            credits_micro=row["credits_granted_micro"],
        ),
        created_at_ms=_us(row["created_at"]) // 1000,
        expires_at_ms=None if row["expires_at"] is None else _us(row["expires_at"]) // 1000,
    )


def _cursor(rows: list[Record], column: str) -> str | None:
    """The last row's place, as `_place` reads it; None after the last page."""
    return f"{_us(rows[-1][column])}-{rows[-1]['id']}" if len(rows) == PAGE_ROWS else None


def _place(cursor: str) -> tuple[datetime, str]:
    us, dash, key_id = cursor.partition("-")
    known = len(cursor) <= CURSOR_CHARS_MAX and dash and us.isascii() and us.isdigit() and int(us) <= US_MAX
    if not known or not key_id.isalnum() or not key_id.isascii():
        raise BadRequest("This cursor is none that the gateway has given out.")
    return EPOCH + timedelta(microseconds=int(us)), key_id


def _at(ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=ms)


def _us(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)
