"""Bring a database to this version's schema: plain SQL, one transaction a step, one migrator at a time."""

from collections.abc import Mapping, Sequence

import asyncpg

import sql
from gateway.admin.postgres import Connection, Postgres, Refused, open_pool
from gateway.errors import StoreUnavailable
from sql import Migration

STATEMENT_S_MAX = 3_600.0
"""For one statement; waiting for another migrator is one too."""
AWAY_CLASSES = ("08", "53", "55", "57")  # connection, resources, lock not available, operator intervention: may pass


class MigrationRefused(Exception):
    """The database and this version do not belong together. The text says which migration and what to do."""


async def migrate(database_url: str) -> list[str]:
    """Apply what is missing; the names of what was applied. Any number of migrators may run at once.

    Raises `StoreUnavailable` when the database does not answer, `MigrationRefused` when it says no.
    """
    postgres = await open_pool(database_url, connections_max=1, statement_s_max=STATEMENT_S_MAX)
    steps = sql.migrations()
    try:
        return [step.name for step in steps if await _told(postgres, step, steps)]
    finally:
        await postgres.close()


async def _told(postgres: Postgres, step: Migration, steps: Sequence[Migration]) -> bool:
    """As `_apply`; what Postgres objects to (a missing privilege, rows that do not fit) is told in its own words."""
    try:
        return await _apply(postgres, step, steps)
    except (Refused, StoreUnavailable) as error:
        objection = error.__cause__
        if isinstance(objection, asyncpg.PostgresError) and (objection.sqlstate or "")[:2] not in AWAY_CLASSES:
            raise MigrationRefused(f"{step.name} cannot be applied: {objection}") from error
        raise


async def _apply(postgres: Postgres, step: Migration, steps: Sequence[Migration]) -> bool:
    """One step, unless it is there. What was applied is read anew each time, since the lock is held for one step."""
    async with postgres.transaction() as connection:
        await connection.execute("SET LOCAL lock_timeout = 0")  # others hold this lock for as long as a step takes
        await connection.execute(sql.queries()["lock_migrations"])
        await connection.execute("SET LOCAL lock_timeout = '2s'")  # but running calls are never held up behind DDL
        applied = await _applied(connection)
        check(steps, applied)
        if step.name in applied:
            return False
        await connection.execute(step.text)
        await connection.execute(sql.queries()["record_migration"], step.name, step.checksum)
        return True


async def _applied(connection: Connection) -> dict[str, str]:
    """Name and checksum of what the database says it has."""
    if not await connection.fetchval(sql.queries()["has_migrations"]):
        return {}
    return {row["name"]: row["checksum"] for row in await connection.fetch(sql.queries()["applied_migrations"])}


def check(steps: Sequence[Migration], applied: Mapping[str, str]) -> None:
    """Raises `MigrationRefused` unless `applied` is a beginning of `steps`, unchanged."""
    known = {step.name: step.checksum for step in steps}
    if newer := sorted(applied.keys() - known.keys()):
        raise MigrationRefused(
            f"The database has migrations that this version does not know: {', '.join(newer)}."
            " It belongs to a newer version: run that one."
        )
    if changed := sorted(name for name, checksum in applied.items() if known[name] != checksum):
        raise MigrationRefused(
            f"Migrations were changed after they had been applied: {', '.join(changed)}."
            " Restore their files, and put the change into a new migration."
        )
    if gaps := [step.name for step in steps[: len(applied)] if step.name not in applied]:
        raise MigrationRefused(f"The database has later migrations but not {', '.join(gaps)}: it was changed by hand.")
