"""The audit log: who changed what, and what it was before and after. Entries are only ever added."""

from typing import Any, TypeAlias

import msgspec
from asyncpg import Record
from msgspec import Struct

import sql
from gateway.admin import cursor, moment
from gateway.admin.author import Author, Page
from gateway.admin.postgres import Connection, Postgres
from gateway.core.fleet import Alias, Node
from gateway.core.limits import said
from gateway.core.pricing import MULTIPLIER_ONE, Price, credits
from gateway.core.record import ApiKey, Team, Tier


class AuditEntry(Struct, frozen=True, kw_only=True):
    """One change. `object` is `key:<id>`, or so of a `team`, `tier`, `price`, `backend` or `alias`, by id or name; or
    `usage:dead`."""

    id: int
    at_ms: int
    actor: str
    action: str
    """create, update, revoke, rotate, grant, remove or replay"""
    object: str
    before: dict[str, Any] | None
    """None: it did not exist"""
    after: dict[str, Any] | None
    """None: it no longer does"""
    request_id: str


class AuditStore:
    """Every method raises `StoreUnavailable`."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def page(
        self, object: str | None, action: str | None, actor: str | None, after: str | None, limit: int
    ) -> Page[AuditEntry]:
        """Newest first; None lets everything through. Raises `BadRequest` for a false cursor."""
        limit = cursor.rows(limit)
        before = cursor.number(after, cursor.NUMBER_MAX)
        found = await self._postgres.find("audit_before", before, limit + 1, object, action, actor)
        return cursor.page(found, limit, _entry, lambda row: (0, str(row["id"])))


Shown: TypeAlias = dict[str, Any] | None


async def write(connection: Connection, by: Author, action: str, object: str, before: Shown, after: Shown) -> None:
    """One entry, in the transaction of the change itself: there is no change without one."""
    await connection.execute(
        sql.queries()["write_audit"], by.name, action, object, _json(before), _json(after), by.request_id
    )


def shown_key(key: ApiKey) -> dict[str, Any]:
    """The key as the admin API has it, without anything that it could be recognised or guessed by."""
    secrets = [
        _with_times({
            "last_four": secret.last_four,
            "created_at_ms": secret.created_at_ms,
            "expires_at_ms": secret.expires_at_ms,
        })
        for secret in key.secrets
    ]  # fmt: skip
    return _shown(key) | {"secrets": secrets, "limits": said(key.limits)}


def shown_team(team: Team) -> dict[str, Any]:
    return _shown(team) | {"limits": said(team.limits)}


def shown_tier(tier: Tier) -> dict[str, Any]:
    shown = _with_times(msgspec.to_builtins(tier))
    shown["multiplier"] = shown.pop("multiplier_milli") / MULTIPLIER_ONE
    return shown | {"limits": said(tier.limits)}


def shown_price(price: Price) -> dict[str, Any]:
    """In credits, as people set it."""
    return _with_times({
        "id": price.id,
        "model": price.model,
        "valid_from_ms": price.valid_from_ms,
        "per_request": credits(price.per_request_micro),
        "per_1k_prompt_tokens": credits(price.per_1k_prompt_micro),
        "per_1k_completion_tokens": credits(price.per_1k_completion_micro),
    })  # fmt: skip


def shown_node(node: Node) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(node)
    has_bearer, has_ca = bool(shown.pop("bearer")), bool(shown.pop("ca_pem"))
    return shown | {"has_bearer": has_bearer, "has_ca": has_ca}


def shown_alias(alias: Alias) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(alias)
    return shown


def _shown(owner: ApiKey | Team) -> dict[str, Any]:
    shown = _with_times(msgspec.to_builtins(owner))
    shown["credits_granted"] = credits(shown.pop("granted_micro"))
    return shown


def _with_times(shown: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds since 1970 as the times that people read, under their names without `_ms`."""
    times = {name: shown.pop(name) for name in list(shown) if name.endswith("_ms")}
    return shown | {
        name.removesuffix("_ms"): None if ms is None else msgspec.to_builtins(moment.at_ms(ms))
        for name, ms in times.items()
    }


def _json(shown: dict[str, Any] | None) -> str | None:
    return None if shown is None else msgspec.json.encode(shown).decode()


def _entry(row: Record) -> AuditEntry:
    return AuditEntry(
        id=row["id"],
        at_ms=moment.ms(row["at"]),
        actor=row["actor"],
        action=row["action"],
        object=row["object"],
        before=_read(row["before"]),
        after=_read(row["after"]),
        request_id=row["request_id"],
    )


def _read(text: str | None) -> dict[str, Any] | None:
    return None if text is None else msgspec.json.decode(text, type=dict[str, Any])
