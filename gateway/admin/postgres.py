"""Postgres, one transaction at a time, in a way that works behind a transaction-mode pooler.

Such a pooler may give every transaction another session. So there is no statement outside a transaction, no prepared
statement that outlives one, and every setting is local to it. asyncpg's exceptions end here: callers see `Refused`
(these values, now and ever) or `StoreUnavailable` (not now).
"""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import Pool, PoolConnectionProxy

import sql
from gateway.errors import BadRequest, SchemaMissing, StoreUnavailable
from gateway.telemetry.stores import StoreMetrics

Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

CONNECTIONS_MAX = 8
CONNECT_S_MAX = 3.0
STATEMENT_S_MAX = 5.0
LOCK_S_MAX = 2.0
REPLY_GRACE_S = 2.0
"""The server gives a statement up this much before the client gives the server up."""
IDLE_S_MAX = 60.0

_DATA_CLASSES = ("22", "23")  # data exception, integrity constraint violation
_TOO_LARGE = "54000"  # program_limit_exceeded: a text too long for an index


class Refused(Exception):
    """Postgres refuses these values and always will. The text names the rule that was broken, never a value."""


async def open_pool(
    database_url: str,
    *,
    connections_max: int = CONNECTIONS_MAX,
    statement_s_max: float = STATEMENT_S_MAX,
    metrics: StoreMetrics | None = None,
) -> "Postgres":
    """A pool that connects when it is first used, so whoever opens it may start while Postgres is down."""
    pool = await asyncpg.create_pool(
        database_url,
        min_size=0,
        max_size=connections_max,
        max_inactive_connection_lifetime=IDLE_S_MAX,
        statement_cache_size=0,
        timeout=CONNECT_S_MAX,
        command_timeout=statement_s_max + REPLY_GRACE_S,
    )
    return Postgres(pool, statement_s_max, metrics)


class Postgres:
    """Bounded transactions on a pool."""

    def __init__(
        self,
        pool: "Pool[asyncpg.Record]",
        statement_s_max: float = STATEMENT_S_MAX,
        metrics: StoreMetrics | None = None,
    ) -> None:
        self._pool = pool
        self._metrics = metrics
        self._bounds = (str(round(statement_s_max * 1000)), str(round(LOCK_S_MAX * 1000)))
        self._acquire_s_max = CONNECT_S_MAX + statement_s_max

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Commits at the end, rolls back on any exception. Raises `Refused` or `StoreUnavailable`.

        When the connection is lost during the commit it is unknown whether it happened.
        """
        with self._timed(), translated():
            async with self._pool.acquire(timeout=self._acquire_s_max) as connection, connection.transaction():
                await connection.execute(sql.queries()["bound_transaction"], *self._bounds)
                yield connection

    @asynccontextmanager
    async def change(self, what: str) -> AsyncIterator[Connection]:
        """As `transaction`, for the sake of a client: what Postgres refuses of `what` is a `BadRequest`."""
        try:
            async with self.transaction() as connection:
                yield connection
        except Refused as error:
            raise BadRequest(f"The database refuses this {what}: {error}") from error

    async def find(self, name: str, *args: Any) -> list[asyncpg.Record]:
        """The rows of one named statement. A value that no row can hold finds none. Raises `StoreUnavailable`."""
        try:
            async with self.transaction() as connection:
                return await connection.fetch(sql.queries()[name], *args)
        except Refused:
            return []

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Refused values are an answer; a block that fails for reasons of its own is not Postgres' failure either."""
        began_s, failed = time.monotonic(), False
        try:
            yield
        except StoreUnavailable:
            failed = True
            raise
        finally:
            if self._metrics:
                self._metrics.postgres(time.monotonic() - began_s, failed=failed)

    async def close(self) -> None:
        """Ends idle connections now and busy ones by force."""
        self._pool.terminate()


@contextmanager
def translated() -> Iterator[None]:
    """asyncpg's exceptions as ours."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        reason = refusal(error)
        if reason:
            raise Refused(reason) from error
        if isinstance(error, asyncpg.UndefinedTableError):
            raise SchemaMissing from error
        raise StoreUnavailable from error
    except (OSError, TimeoutError, asyncpg.InternalClientError) as error:
        raise StoreUnavailable from error


def refusal(error: Exception) -> str | None:
    """Which rule the values break, when it is the values' fault; None when waiting may help."""
    if not isinstance(error, asyncpg.PostgresError):
        return None
    state = error.sqlstate or ""  # 22000 also when asyncpg itself finds that a value does not fit its column
    if state[:2] not in _DATA_CLASSES and state != _TOO_LARGE:
        return None
    return f"postgres {state} {getattr(error, 'constraint_name', None) or type(error).__name__}"
