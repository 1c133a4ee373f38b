"""The truth about API keys: rows of `api_keys` and `api_key_secrets`."""

from collections.abc import Callable, Sequence

from asyncpg import Record
from msgspec import Struct
from msgspec.structs import replace

import sql
from gateway.admin import audit, cursor, moment, row
from gateway.admin.author import Author, Made, Page
from gateway.admin.claim import answer, claim
from gateway.admin.credits import open_balance
from gateway.admin.postgres import Connection, Postgres
from gateway.core.keys import shard_of
from gateway.core.limits import Limits
from gateway.core.record import ApiKey, KeyRecord, Secret, Spent, resolve
from gateway.errors import BadRequest, Conflict, KeyNotFound

REVOKED = "This key is revoked, for good: make a new one."


class KeyFilter(Struct, frozen=True, kw_only=True):
    """Which keys; None lets all through. `label`: a part of it; that and the address in any case."""

    label: str | None = None
    owner_email: str | None = None
    team_id: str | None = None
    tier: str | None = None
    enabled: bool | None = None


class KeyStore:
    """Every method raises `StoreUnavailable`, those with an id `KeyNotFound`; values no row can hold: `BadRequest`."""

    def __init__(self, postgres: Postgres, defaults: Limits, shards: int) -> None:
        self._postgres = postgres
        self._defaults = defaults
        self._shards = shards

    async def create(self, by: Author, key: ApiKey, opening_micro: int | None) -> Made[ApiKey]:
        """A new key and, unless `opening_micro` is None, its first credits: calls are then charged to them."""
        metered = key.metered or opening_micro is not None
        key = replace(key, metered=metered, granted_micro=opening_micro or 0)
        async with self._postgres.change("key") as connection:
            if (again := await claim(connection, by)) is not None:
                return Made(await _read(connection, again), True)
            await self._check_place(connection, key)
            statements = sql.queries()
            *columns, created = *row.key_columns(key), moment.at_ms(key.created_at_ms)
            await connection.execute(statements["create_key"], *columns, key.granted_micro, created)
            for secret in reversed(key.secrets):
                await connection.execute(statements["create_secret"], *row.secret_columns(key.id, secret))
            await open_balance(connection, by, key.granted_micro, key_id=key.id)
            made = await _read(connection, key.id)
            await audit.write(connection, by, "create", _object(key.id), None, audit.shown_key(made))
            await answer(connection, by, key.id)
            return Made(made, False)

    async def get(self, key_id: str) -> ApiKey:
        found = await self._postgres.find("get_key", key_id)
        if not found:
            raise KeyNotFound
        return row.key(found[0])

    async def page(self, wanted: KeyFilter, after: str | None, limit: int) -> Page[ApiKey]:
        """Newest first. Raises `BadRequest` for a false cursor."""
        limit = cursor.rows(limit)
        us, key_id = cursor.read(after, (moment.US_MAX, ""))
        filters = [wanted.label, wanted.owner_email, wanted.team_id, wanted.tier, wanted.enabled]
        found = await self._postgres.find("keys_before", moment.at_us(us), key_id, limit + 1, *filters)
        return cursor.page(found, limit, row.key, lambda one: (moment.us(one["created_at"]), one["id"]))

    async def change(self, by: Author, key_id: str, edit: Callable[[ApiKey], ApiKey], action: str = "update") -> ApiKey:
        """The key as `edit` makes it of the one that is there; an edit that changes nothing leaves no trace.

        Its id, secrets, grants and times are not for `edit` to change. Raises what `edit` does, and `Conflict`.
        """
        async with self._postgres.change("key") as connection:
            before = await _lock(connection, key_id)
            wanted = _with_what_stays(edit(before), before)
            if wanted == before:
                return before
            if before.revoked_at_ms is not None and wanted.enabled:
                raise Conflict(REVOKED)
            await self._check_place(connection, wanted, before)
            await connection.execute(sql.queries()["update_key"], *row.key_columns(wanted))
            return await _told(connection, by, action, before)

    async def revoke(self, by: Author, key_id: str) -> ApiKey:
        """The key as revoked; doing it again changes nothing."""
        async with self._postgres.change("key") as connection:
            before = await _lock(connection, key_id)
            if before.revoked_at_ms is not None:
                return before
            await connection.execute(sql.queries()["revoke_key"], key_id)
            return await _told(connection, by, "revoke", before)

    async def rotate(self, by: Author, key_id: str, secret: Secret, overlap_s: int, unused: str = "") -> Made[ApiKey]:
        """The key with a new secret; the one before works for another `overlap_s`; 0: no other works any longer.

        `unused`: the digest of a secret that nobody has used. Where two work and the newest is that one, the new one
        replaces it. Raises `Conflict` where both may be in use, and for a key that is revoked or expired.
        """
        async with self._postgres.change("secret") as connection:
            if (again := await claim(connection, by)) is not None:
                return Made(await _read(connection, again), True)
            before = await _lock(connection, key_id)
            statements = sql.queries()
            now_ms = moment.ms(await connection.fetchval(statements["clock"]))
            _check_rotates(before, now_ms)
            kept = _kept(before, unused, now_ms) if overlap_s > 0 else ""  # at once, whatever the clock of Redis says
            await connection.execute(statements["keep_secret"], key_id, kept)
            await connection.execute(statements["expire_secrets"], key_id, overlap_s)
            await connection.execute(statements["create_secret"], *row.secret_columns(key_id, secret))
            await connection.execute(statements["touch_key"], key_id)
            after = await _told(connection, by, "rotate", before)
            await answer(connection, by, key_id)
            return Made(after, False)

    async def records(self, keys: Sequence[ApiKey]) -> list[KeyRecord]:
        """What replicas are told of each: its limits after its tier's and the gateway's defaults.

        Read after the keys, so a tier is never older than what the version of a key in it stands for.
        """
        names = sorted({key.tier for key in keys if key.tier is not None})
        found = await self._postgres.find("tiers_named", names) if names else []
        tiers = {tier.name: tier for tier in map(row.tier, found)}
        return [resolve(key, tiers.get(key.tier or ""), self._defaults) for key in keys]

    async def changed_since(self, since_us: int, after: str | None = None) -> Page[ApiKey]:
        """Keys changed after `since_us` (on this store's clock), oldest change first. 0: all keys."""
        us, key_id = cursor.read(after, (max(0, since_us), ""))
        limit = cursor.PAGE_ROWS
        found = await self._postgres.find("keys_changed_after", moment.at_us(us), key_id, limit + 1)
        return cursor.page(found, limit, row.key, lambda one: (moment.us(one["updated_at"]), one["id"]))

    async def of_tier(self, tier: str, after: str | None) -> Page[ApiKey]:
        """The keys of a tier, by id."""
        _, key_id = cursor.read(after, (0, ""))
        limit = cursor.PAGE_ROWS
        found = await self._postgres.find("keys_of_tier", tier, key_id, limit + 1)
        return cursor.page(found, limit, row.key, lambda one: (0, one["id"]))

    async def spent(self, key_ids: Sequence[str], month: str) -> dict[str, Spent]:
        """What the rows say about each key: tokens of `month` and credits ever."""
        return row.spent(await self._postgres.find("spent_by_keys", list(key_ids), month), key_ids, month)

    async def now_us(self) -> int:
        """This store's clock, microseconds since 1970."""
        return moment.us((await self._postgres.find("clock"))[0][0])

    async def _check_place(self, connection: Connection, wanted: ApiKey, before: ApiKey | None = None) -> None:
        """Whether the key may come into the tier and the team that it was not in before.

        Holds the tier until the end: else a change of it might neither see this key nor be seen by it.
        """
        tier, team = wanted.tier, wanted.team_id
        moved = tier is not None and (before is None or tier != before.tier)
        if moved and await connection.fetchval(sql.queries()["hold_tier"], tier) is None:
            raise BadRequest("There is no such tier. Name one that the gateway has.", param="tier")
        if team is not None and shard_of(wanted.id, self._shards) != shard_of(team, self._shards):
            raise Conflict("This key cannot join that team, for it lives in another shard. Make a new key in the team.")


def _object(key_id: str) -> str:
    return f"key:{key_id}"


async def _read(connection: Connection, key_id: str) -> ApiKey:
    found: Record | None = await connection.fetchrow(sql.queries()["get_key"], key_id)
    if found is None:
        raise KeyNotFound
    return row.key(found)


async def _lock(connection: Connection, key_id: str) -> ApiKey:
    """In two steps: a statement that has waited for a lock sees the row anew, but not the secrets."""
    if not key_id.isalnum() or not key_id.isascii():
        raise KeyNotFound
    if await connection.fetchval(sql.queries()["lock_key"], key_id) is None:
        raise KeyNotFound
    return await _read(connection, key_id)


def _check_rotates(key: ApiKey, now_ms: int) -> None:
    """Raises `Conflict` for a key of which no secret could work."""
    if key.revoked_at_ms is not None:
        raise Conflict(REVOKED)
    if key.expires_at_ms is not None and key.expires_at_ms <= now_ms:
        raise Conflict("This key is expired: change its `expires_at` first.")


def _kept(key: ApiKey, unused: str, now_ms: int) -> str:
    """The digest of the secret that works on beside a new one; "": there is none. Raises `Conflict`."""
    working = [one for one in key.secrets if one.expires_at_ms is None or one.expires_at_ms > now_ms]
    if len(working) < 2:
        return working[0].digest if working else ""
    newest, former = working[:2]
    if newest.digest == unused:
        return former.digest
    until = moment.at_ms(former.expires_at_ms).isoformat(timespec="seconds") if former.expires_at_ms else "the key ends"
    raise Conflict(
        f"Two secrets of this key work, and the newest was used: the former one works until {until}. Rotate after that,"
        " or with `overlap_seconds` 0, which ends both at once."
    )


async def _told(connection: Connection, by: Author, action: str, before: ApiKey) -> ApiKey:
    """The key as it is now, with an entry in the audit log."""
    after = await _read(connection, before.id)
    shown = audit.shown_key(before), audit.shown_key(after)
    await audit.write(connection, by, action, _object(before.id), *shown)
    return after


def _with_what_stays(wanted: ApiKey, before: ApiKey) -> ApiKey:
    return replace(
        wanted,
        id=before.id,
        secrets=before.secrets,
        version=before.version,
        granted_micro=before.granted_micro,
        created_at_ms=before.created_at_ms,
        updated_at_ms=before.updated_at_ms,
        revoked_at_ms=before.revoked_at_ms,
    )
