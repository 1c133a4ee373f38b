"""The truth about teams: rows of `teams`."""

from collections.abc import Callable, Sequence

from msgspec.structs import replace

import sql
from gateway.admin import audit, cursor, moment, row
from gateway.admin.author import Author, Made, Page
from gateway.admin.claim import answer, claim
from gateway.admin.credits import open_balance
from gateway.admin.postgres import Connection, Postgres
from gateway.core.record import Spent, Team
from gateway.errors import Conflict, TeamNotFound


class TeamStore:
    """Every method raises `StoreUnavailable`, those with an id `TeamNotFound`; values no row can hold: `BadRequest`."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def create(self, by: Author, team: Team, opening_micro: int | None) -> Made[Team]:
        """A new team and, unless `opening_micro` is None, its first credits: calls are then charged to them."""
        metered, granted_micro = team.metered or opening_micro is not None, opening_micro or 0
        async with self._postgres.change("team") as connection:
            if (again := await claim(connection, by)) is not None:
                return Made(await _read(connection, again), True)
            limits, created = row.limits_json(team.limits), moment.at_ms(team.created_at_ms)
            columns = [team.id, team.label, limits, team.shadow, metered, granted_micro, created]
            await connection.execute(sql.queries()["create_team"], *columns)
            await open_balance(connection, by, granted_micro, team_id=team.id)
            made = await _read(connection, team.id)
            await audit.write(connection, by, "create", _object(team.id), None, audit.shown_team(made))
            await answer(connection, by, team.id)
            return Made(made, False)

    async def get(self, team_id: str) -> Team:
        found = await self._postgres.find("get_team", team_id)
        if not found:
            raise TeamNotFound
        return row.team(found[0])

    async def page(self, after: str | None, limit: int) -> Page[Team]:
        """Newest first. Raises `BadRequest` for a false cursor."""
        limit = cursor.rows(limit)
        us, team_id = cursor.read(after, (moment.US_MAX, ""))
        found = await self._postgres.find("teams_before", moment.at_us(us), team_id, limit + 1)
        return cursor.page(found, limit, row.team, lambda one: (moment.us(one["created_at"]), one["id"]))

    async def change(self, by: Author, team_id: str, edit: Callable[[Team], Team]) -> Team:
        """The team as `edit` makes it of the one that is there; an edit that changes nothing leaves no trace.

        Its id, grants and times are not for `edit` to change. Raises what `edit` does.
        """
        async with self._postgres.change("team") as connection:
            before = await _lock(connection, team_id)
            wanted = _with_what_stays(edit(before), before)
            if wanted == before:
                return before
            columns = [wanted.id, wanted.label, row.limits_json(wanted.limits), wanted.shadow, wanted.metered]
            await connection.execute(sql.queries()["update_team"], *columns)
            after = await _read(connection, team_id)
            shown = audit.shown_team(before), audit.shown_team(after)
            await audit.write(connection, by, "update", _object(team_id), *shown)
            return after

    async def remove(self, by: Author, team_id: str) -> None:
        """Its grants stay in the ledger; keys that are revoked go out of it. Raises `Conflict` for any other key."""
        async with self._postgres.change("team") as connection:
            before = await _lock(connection, team_id)
            if await connection.fetchval(sql.queries()["has_keys_of_team"], team_id):
                raise Conflict(
                    "This team has keys that are not revoked. Revoke them, or take each out of it (its `team_id` null)."
                )
            for (key_id,) in await connection.fetch(sql.queries()["forget_team"], team_id):
                out = {"team_id": team_id}, {"team_id": None}
                await audit.write(connection, by, "update", f"key:{key_id}", *out)
            await connection.execute(sql.queries()["remove_team"], team_id)
            await audit.write(connection, by, "remove", _object(team_id), audit.shown_team(before), None)

    async def changed_since(self, since_us: int, after: str | None = None) -> Page[Team]:
        """Teams changed after `since_us` (on the store's clock), oldest change first. 0: all teams."""
        us, team_id = cursor.read(after, (max(0, since_us), ""))
        limit = cursor.PAGE_ROWS
        found = await self._postgres.find("teams_changed_after", moment.at_us(us), team_id, limit + 1)
        return cursor.page(found, limit, row.team, lambda one: (moment.us(one["updated_at"]), one["id"]))

    async def spent(self, team_ids: Sequence[str], month: str) -> dict[str, Spent]:
        """What the rows say about each team: tokens of `month` and credits ever."""
        return row.spent(await self._postgres.find("spent_by_teams", list(team_ids), month), team_ids, month)


def _object(team_id: str) -> str:
    return f"team:{team_id}"


async def _read(connection: Connection, team_id: str) -> Team:
    found = await connection.fetchrow(sql.queries()["get_team"], team_id)
    if found is None:
        raise TeamNotFound
    return row.team(found)


async def _lock(connection: Connection, team_id: str) -> Team:
    known = team_id.isalnum() and team_id.isascii()
    if not known or await connection.fetchval(sql.queries()["lock_team"], team_id) is None:
        raise TeamNotFound
    return await _read(connection, team_id)


def _with_what_stays(wanted: Team, before: Team) -> Team:
    return replace(
        wanted,
        id=before.id,
        version=before.version,
        granted_micro=before.granted_micro,
        created_at_ms=before.created_at_ms,
        updated_at_ms=before.updated_at_ms,
    )
