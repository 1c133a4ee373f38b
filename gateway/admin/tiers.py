"""The truth about tiers: rows of `tiers`."""

from collections.abc import Callable

from msgspec.structs import replace

import sql
from gateway.admin import audit, row
from gateway.admin.author import Author, Made
from gateway.admin.claim import answer, claim
from gateway.admin.postgres import Connection, Postgres
from gateway.core.record import Tier
from gateway.errors import Conflict, TierNotFound

TIERS_MAX = 100


class TierStore:
    """Every method raises `StoreUnavailable`, those with a name `TierNotFound`; what no row can hold: `BadRequest`."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def create(self, by: Author, tier: Tier) -> Made[Tier]:
        """Raises `Conflict` for a name that is taken, and for one tier too many."""
        async with self._postgres.change("tier") as connection:
            if (again := await claim(connection, by)) is not None:
                return Made(await _read(connection, again), True)
            statements = sql.queries()
            await connection.execute(statements["lock_tiers"])
            if await connection.fetchval(statements["count_tiers"]) >= TIERS_MAX:
                raise Conflict(f"This gateway keeps no more than {TIERS_MAX} tiers: remove one first.")
            columns = [tier.name, tier.multiplier_milli, row.limits_json(tier.limits), tier.weight]
            if (found := await connection.fetchrow(statements["create_tier"], *columns)) is None:
                raise Conflict("There is a tier with that name.")
            made = row.tier(found)
            await audit.write(connection, by, "create", _object(tier.name), None, audit.shown_tier(made))
            await answer(connection, by, tier.name)
            return Made(made, False)

    async def get(self, name: str) -> Tier:
        found = await self._postgres.find("get_tier", name)
        if not found:
            raise TierNotFound
        return row.tier(found[0])

    async def all(self) -> list[Tier]:
        """By name; no more than `TIERS_MAX`."""
        return [row.tier(one) for one in await self._postgres.find("all_tiers", TIERS_MAX)]

    async def change(self, by: Author, name: str, edit: Callable[[Tier], Tier]) -> Tier:
        """The tier as `edit` makes it; its keys get a new version, for what replicas know of them changes with it.

        Raises what `edit` does.
        """
        async with self._postgres.change("tier") as connection:
            before = await _lock(connection, name)
            wanted = replace(
                edit(before), name=name, created_at_ms=before.created_at_ms, updated_at_ms=before.updated_at_ms
            )
            if wanted == before:
                return before
            columns = [name, wanted.multiplier_milli, row.limits_json(wanted.limits), wanted.weight]
            await connection.execute(sql.queries()["update_tier"], *columns)
            after = await _read(connection, name)
            shown = audit.shown_tier(before), audit.shown_tier(after)
            await audit.write(connection, by, "update", _object(name), *shown)
            return after

    async def remove(self, by: Author, name: str) -> None:
        """Raises `Conflict` while keys are in it."""
        async with self._postgres.change("tier") as connection:
            before = await _lock(connection, name)
            if await connection.fetchval(sql.queries()["has_keys_of_tier"], name):
                raise Conflict("This tier has keys: put them into another one first.")
            await connection.execute(sql.queries()["remove_tier"], name)
            await audit.write(connection, by, "remove", _object(name), audit.shown_tier(before), None)


def _object(name: str) -> str:
    return f"tier:{name}"


async def _read(connection: Connection, name: str) -> Tier:
    found = await connection.fetchrow(sql.queries()["get_tier"], name)
    if found is None:
        raise TierNotFound
    return row.tier(found)


async def _lock(connection: Connection, name: str) -> Tier:
    known = name.isascii() and name.isprintable()
    if not known or await connection.fetchval(sql.queries()["lock_tier"], name) is None:
        raise TierNotFound
    return await _read(connection, name)
