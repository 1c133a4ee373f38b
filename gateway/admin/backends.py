"""The truth about nodes: rows of `backends`. Those of OLLAMA_BASE_URL have one only where an operator overrules it."""

from collections.abc import Callable, Collection
from typing import Any

import msgspec
from asyncpg import Record
from msgspec.structs import replace

import sql
from gateway.admin import audit
from gateway.admin.author import Author, Made
from gateway.admin.claim import answer, claim
from gateway.admin.postgres import Connection, Postgres
from gateway.core.fleet import NODES_MAX, Alias, Node, Registry
from gateway.errors import BackendNotFound, Conflict

_nodes = msgspec.json.Decoder(tuple[Node, ...])
_aliases = msgspec.json.Decoder(tuple[Alias, ...])


class BackendStore:
    """Every method raises `StoreUnavailable`; what no row can hold: `BadRequest`."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def add(self, by: Author, node: Node, beside: Collection[Node] = ()) -> Made[Node]:
        """A node that is neither there nor one of those `beside`, which have no row.

        Raises `Conflict` for a name or a URL that is taken, and for one node too many.
        """
        async with self._postgres.change("backend") as connection:
            if (again := await claim(connection, by)) is not None:
                return Made(await _read(connection, again), True)
            for other in beside:
                _check_apart(node, other)
            made = await _insert(connection, node)
            await audit.write(connection, by, "create", _object(made.name), None, audit.shown_node(made))
            await answer(connection, by, made.name)
            return Made(made, False)

    async def all(self) -> list[Node]:
        """By name; no more than `NODES_MAX`."""
        return [_node(row) for row in await self._postgres.find("all_backends", NODES_MAX)]

    async def change(self, by: Author, name: str, edit: Callable[[Node], Node], unwritten: Node | None) -> Node:
        """The node as `edit` makes it; `unwritten` is what is edited where there is no row, which then gets one.

        Its name and URL stay. Raises `BackendNotFound` where there is neither, and what `edit` does.
        """
        async with self._postgres.change("backend") as connection:
            await connection.execute(sql.queries()["lock_backends"])
            row = await connection.fetchrow(sql.queries()["get_backend"], name)
            before = unwritten if row is None else _node(row)
            if before is None:
                raise BackendNotFound
            wanted = replace(edit(before), name=before.name, url=before.url)
            if wanted == before:
                return before
            after = await (_insert if row is None else _update)(connection, wanted)
            shown = audit.shown_node(before), audit.shown_node(after) | _replaced(before, after)
            await audit.write(connection, by, "update", _object(after.name), *shown)
            return after

    async def remove(self, by: Author, name: str) -> None:
        """Raises `BackendNotFound`: there is no such row."""
        async with self._postgres.change("backend") as connection:
            gone = await connection.fetchrow(sql.queries()["remove_backend"], name)
            if gone is None:
                raise BackendNotFound
            await audit.write(connection, by, "remove", _object(name), audit.shown_node(_node(gone)), None)

    async def registry(self) -> Registry:
        """All nodes and aliases. One snapshot."""
        (row,) = await self._postgres.find("registry")
        return Registry(
            version=row["version"], nodes=_nodes.decode(row["nodes"]), aliases=_aliases.decode(row["aliases"])
        )


def _object(name: str) -> str:
    return f"backend:{name}"


def _check_apart(node: Node, other: Node) -> None:
    """Raises `Conflict`: the same server must not be counted as two."""
    if node.name == other.name:
        raise Conflict("There is a backend with that name, from OLLAMA_BASE_URL: change it instead.")
    if node.url == other.url:
        raise Conflict(f"That URL is in OLLAMA_BASE_URL, as the backend {other.name}: change it instead.")


async def _insert(connection: Connection, node: Node) -> Node:
    statements = sql.queries()
    await connection.execute(statements["lock_backends"])
    if await connection.fetchval(statements["count_backends"]) >= NODES_MAX:
        raise Conflict(f"This gateway keeps no more than {NODES_MAX} backends: remove one first.")
    made = await connection.fetchrow(statements["create_backend"], node.name, node.url, *_said(node))
    if made is None:
        raise Conflict("There is a backend with that name or URL.")
    return _node(made)


async def _update(connection: Connection, node: Node) -> Node:
    changed = await connection.fetchrow(sql.queries()["update_backend"], node.name, *_said(node))
    if changed is None:
        raise BackendNotFound
    return _node(changed)


async def _read(connection: Connection, name: str) -> Node:
    found = await connection.fetchrow(sql.queries()["get_backend"], name)
    if found is None:
        raise BackendNotFound
    return _node(found)


def _replaced(before: Node, after: Node) -> dict[str, Any]:
    """That a secret is another one now, for neither is shown."""
    names = ("bearer", "ca_pem")
    found = [name for name in names if getattr(before, name) != getattr(after, name)]
    return {"replaced": found} if found else {}


def _said(node: Node) -> list[Any]:
    return [node.slots, node.weight, node.draining, list(node.tags), node.bearer, node.ca_pem]


def _node(row: Record) -> Node:
    return Node(
        name=row["name"],
        url=row["url"],
        slots=row["slots"],
        weight=row["weight"],
        draining=row["draining"],
        tags=tuple(row["tags"]),
        bearer=row["bearer"],
        ca_pem=row["ca_pem"],
    )
