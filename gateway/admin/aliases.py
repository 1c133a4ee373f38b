"""The truth about aliases: rows of `model_aliases`. `BackendStore.registry` tells replicas of them."""

from collections.abc import Callable
from typing import Any

import msgspec
from asyncpg import Record
from msgspec.structs import replace

import sql
from gateway.admin import audit
from gateway.admin.author import Author, Made
from gateway.admin.claim import answer, claim
from gateway.admin.postgres import Connection, Postgres
from gateway.core.fleet import ALIASES_MAX, Alias
from gateway.errors import AliasNotFound, Conflict

_options = msgspec.json.Decoder(dict[str, Any])


class AliasStore:
    """Every method raises `StoreUnavailable`, those with a name `AliasNotFound`; values no row can hold: `BadRequest`.

    Names are canonical.
    """

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def add(self, by: Author, alias: Alias) -> Made[Alias]:
        """Raises `Conflict` for a name that is an alias already, and for one alias too many."""
        async with self._postgres.change("alias") as connection:
            if (again := await claim(connection, by)) is not None:
                return Made(await _read(connection, again), True)
            statements = sql.queries()
            await connection.execute(statements["lock_aliases"])
            if await connection.fetchval(statements["count_aliases"]) >= ALIASES_MAX:
                raise Conflict(f"This gateway keeps no more than {ALIASES_MAX} aliases: remove one first.")
            found = await connection.fetchrow(statements["create_alias"], alias.name, *_said(alias))
            if found is None:
                raise Conflict("There is an alias with that name.")
            made = _alias(found)
            await audit.write(connection, by, "create", _object(made.name), None, audit.shown_alias(made))
            await answer(connection, by, made.name)
            return Made(made, False)

    async def get(self, name: str) -> Alias:
        found = await self._postgres.find("get_alias", name)
        if not found:
            raise AliasNotFound
        return _alias(found[0])

    async def all(self) -> list[Alias]:
        """By name; no more than `ALIASES_MAX`."""
        return [_alias(row) for row in await self._postgres.find("all_aliases", ALIASES_MAX)]

    async def change(self, by: Author, name: str, edit: Callable[[Alias], Alias]) -> Alias:
        """The alias as `edit` makes it; its name stays. Raises what `edit` does."""
        async with self._postgres.change("alias") as connection:
            await connection.execute(sql.queries()["lock_aliases"])
            before = await _read(connection, name)
            wanted = replace(edit(before), name=before.name)
            if wanted == before:
                return before
            found = await connection.fetchrow(sql.queries()["update_alias"], name, *_said(wanted))
            if found is None:
                raise AliasNotFound
            after = _alias(found)
            shown = audit.shown_alias(before), audit.shown_alias(after)
            await audit.write(connection, by, "update", _object(name), *shown)
            return after

    async def remove(self, by: Author, name: str) -> None:
        async with self._postgres.change("alias") as connection:
            gone = await connection.fetchrow(sql.queries()["remove_alias"], name)
            if gone is None:
                raise AliasNotFound
            await audit.write(connection, by, "remove", _object(name), audit.shown_alias(_alias(gone)), None)


def _object(name: str) -> str:
    return f"alias:{name}"


async def _read(connection: Connection, name: str) -> Alias:
    found = await connection.fetchrow(sql.queries()["get_alias"], name)
    if found is None:
        raise AliasNotFound
    return _alias(found)


def _said(alias: Alias) -> list[Any]:
    return [list(alias.targets), msgspec.json.encode(alias.options).decode(), alias.context_tokens]


def _alias(row: Record) -> Alias:
    return Alias(
        name=row["name"],
        targets=tuple(row["targets"]),
        options=_options.decode(row["options"]),
        context_tokens=row["context_tokens"],
    )
