"""The ledger: rows of `credit_grants`. A grant is counted once, however often it is sent."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from asyncpg import Record
from msgspec import Struct
from msgspec.structs import replace

import sql
from gateway.admin import audit, cursor, moment
from gateway.admin.author import Author, Made, Page
from gateway.admin.claim import answer, claim
from gateway.admin.postgres import Connection, Postgres
from gateway.core.pricing import CREDITS_MICRO_MAX, credits
from gateway.errors import BadRequest, Conflict, KeyNotFound, TeamNotFound

SUMS_ROWS = 100
OPENING = "opening-"
"""before a key's or a team's id: the id of its first grant"""
OPENING_NOTE = "opening balance"
Bound: TypeAlias = Callable[[], Awaitable[int]]


class Grant(Struct, frozen=True, kw_only=True):
    """Credits given to a key or to a team; taken back where `amount_micro` is negative."""

    id: str
    """chosen by whoever grants it"""
    key_id: str | None = None
    team_id: str | None = None
    amount_micro: int
    note: str = ""
    granted_by: str = ""
    """set by the store: the author's name"""
    created_at_ms: int = 0
    """set by the store"""


class OwnerSums(Struct, frozen=True, kw_only=True):
    """What Postgres knows of the credits of a key or a team, in millionths, three times over, and of its tokens."""

    key_id: str | None
    team_id: str | None
    metered: bool
    ledger_micro: int
    """the sum of its grants"""
    granted_micro: int
    """what its own row says they are: what replicas are told"""
    charged_micro: int
    """what its usage rows cost, of all months"""
    tokens: int
    """those of its usage rows of one month"""


class CreditStore:
    """Every method raises `StoreUnavailable`; values no row can hold: `BadRequest`."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def grant(self, by: Author, grant: Grant, bound_micro: Bound | None = None) -> Made[Grant]:
        """Into the ledger and onto the balance, once for each id: the same again changes nothing.

        From the first credits it is given, the owner's calls are charged to them. Raises `KeyNotFound`, `TeamNotFound`,
        and `Conflict` when the id was used for something else or the sum leaves what can be counted. `bound_micro`:
        what must be left of all grants when some are taken back; it is asked while no other grant to the owner is made.
        """
        if (grant.key_id is None) == (grant.team_id is None):
            raise BadRequest("Grant credits to one key or to one team.")
        wanted = replace(grant, granted_by=by.name)
        async with self._postgres.change("grant") as connection:
            if (again := await claim(connection, by)) is not None:
                return Made(await _read(connection, again), True)
            columns = [grant.id, grant.key_id, grant.team_id, grant.amount_micro, grant.note, by.name]
            found = await connection.fetchrow(sql.queries()["create_grant"], *columns)
            if found is None:
                made = Made(_same(await _read(connection, grant.id), wanted), True)
            else:
                made = Made(_grant(found), False)
                await _raise_balance(connection, by, made.what, bound_micro)
            await answer(connection, by, grant.id)
            return made

    async def page(self, key_id: str | None, team_id: str | None, after: str | None, limit: int) -> Page[Grant]:
        """Newest first, of one key, one team or all. Raises `BadRequest` for a false cursor."""
        limit = cursor.rows(limit)
        us, last = cursor.read(after, (moment.US_MAX, ""))
        found = await self._postgres.find("grants_before", moment.at_us(us), last, limit + 1, key_id, team_id)
        return cursor.page(found, limit, _grant, lambda one: (moment.us(one["created_at"]), one["id"]))

    async def sums(self, after: str | None, month: str) -> Page[OwnerSums]:
        """Of keys and teams, in a fixed order; tokens are those of `month` (YYYYMM). A page is one snapshot.

        Raises `BadRequest` for a false cursor.
        """
        _, last = cursor.read(after, (0, "key:"))
        kind, colon, owner = last.partition(":")
        if kind not in ("key", "team") or not colon:
            raise cursor.false()
        found = await self._postgres.find("credit_sums", kind, owner, SUMS_ROWS + 1, month)
        return cursor.page(found, SUMS_ROWS, _sums, lambda one: (0, f"{one['kind']}:{one['id']}"))


async def open_balance(
    connection: Connection, by: Author, amount_micro: int, *, key_id: str | None = None, team_id: str | None = None
) -> None:
    """The first grant of a new key or team, whose row has the sum already. 0 is none. Raises `Conflict`."""
    if not amount_micro:
        return
    columns = [f"{OPENING}{key_id or team_id}", key_id, team_id, amount_micro, OPENING_NOTE, by.name]
    if await connection.fetchrow(sql.queries()["create_grant"], *columns) is None:
        raise Conflict("There is another grant with the id of this opening balance.")


async def _raise_balance(connection: Connection, by: Author, grant: Grant, bound_micro: Bound | None) -> None:
    """One more version of the owner's record, with the sum of its grants."""
    statements = sql.queries()
    kind, owner = ("key", grant.key_id) if grant.key_id is not None else ("team", grant.team_id)
    if await connection.fetchval(statements[f"lock_{kind}"], owner) is None:
        raise KeyNotFound if kind == "key" else TeamNotFound
    row = await connection.fetchrow(statements[f"granted_to_{kind}"], owner)
    before, was_metered = row or (0, False)
    after = before + grant.amount_micro
    if grant.amount_micro < 0 and bound_micro and after < await bound_micro():
        raise Conflict("So many credits cannot be taken back: they are spent, or held by running calls.")
    if not 0 <= after <= CREDITS_MICRO_MAX:
        raise Conflict(f"All grants together must be between 0 and {credits(CREDITS_MICRO_MAX)} credits.")
    metered: bool = await connection.fetchval(statements[f"grant_to_{kind}"], owner, grant.amount_micro)
    shown: dict[str, Any] = {"credits_granted": credits(before)}
    told = {"credits_granted": credits(after), "grant": grant.id, "amount": credits(grant.amount_micro)}
    if metered != was_metered:
        shown, told = shown | {"metered": was_metered}, told | {"metered": metered}
    await audit.write(connection, by, "grant", f"{kind}:{owner}", shown, told)


async def _read(connection: Connection, grant_id: str) -> Grant:
    found = await connection.fetchrow(sql.queries()["get_grant"], grant_id)
    if found is None:
        raise Conflict("This grant cannot be read back.")  # the ledger is append-only: nobody takes it out
    return _grant(found)


def _same(there: Grant, wanted: Grant) -> Grant:
    """The grant that is there, when it is the one that is wanted, whoever asks for it. Raises `Conflict`."""
    if replace(wanted, granted_by=there.granted_by, created_at_ms=there.created_at_ms) != there:
        raise Conflict("There is another grant with that id: every grant needs an id of its own.")
    return there


def _grant(row: Record) -> Grant:
    return Grant(
        id=row["id"],
        key_id=row["api_key_id"],
        team_id=row["team_id"],
        amount_micro=row["amount_micro"],
        note=row["note"],
        granted_by=row["granted_by"],
        created_at_ms=moment.ms(row["created_at"]),
    )


def _sums(row: Record) -> OwnerSums:
    return OwnerSums(
        key_id=row["api_key_id"],
        team_id=row["team_id"],
        metered=row["metered"],
        ledger_micro=row["ledger_micro"],
        granted_micro=row["credits_granted_micro"],
        charged_micro=row["charged_micro"],
        tokens=row["tokens"],
    )
