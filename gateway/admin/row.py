"""Rows of Postgres as what they stand for. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from asyncpg import Record
from msgspec import Struct

from gateway.admin import moment
from gateway.core.limits import Limits
from gateway.core.record import ApiKey, Secret, Spent, Team, Tier


class _StoredSecret(Struct):
    """A row of api_key_secrets, as json_agg writes it."""

    digest: str
    pepper_id: str
    last_four: str
    created_at: datetime
    expires_at: datetime | None


_limits = msgspec.json.Decoder(Limits)
_secrets = msgspec.json.Decoder(list[_StoredSecret])


def limits_json(limits: Limits) -> str:
    """As the columns called `limits` hold them."""
    return msgspec.json.encode(limits).decode()


def key(row: Record) -> ApiKey:
    return ApiKey(
        id=row["id"],
        secrets=tuple(map(_secret, _secrets.decode(row["secrets"]))),
        label=row["label"],
        owner_email=row["owner_email"],
        enabled=row["enabled"],
        version=row["version"],
        limits=_limits.decode(row["limits"]),
        tier=row["tier"],
        team_id=row["team_id"],
        scopes=tuple(row["scopes"]),
        models=tuple(row["models"]),
        networks=tuple(row["networks"]),
        shadow=row["shadow"],
        metered=row["metered"],
        granted_micro=row["credits_granted_micro"],
        created_at_ms=moment.ms(row["created_at"]),
        updated_at_ms=moment.ms(row["updated_at"]),
        expires_at_ms=moment.maybe_ms(row["expires_at"]),
        revoked_at_ms=moment.maybe_ms(row["revoked_at"]),
    )


def team(row: Record) -> Team:
    return Team(
        id=row["id"],
        label=row["label"],
        version=row["version"],
        limits=_limits.decode(row["limits"]),
        shadow=row["shadow"],
        metered=row["metered"],
        granted_micro=row["credits_granted_micro"],
        created_at_ms=moment.ms(row["created_at"]),
        updated_at_ms=moment.ms(row["updated_at"]),
    )


def tier(row: Record) -> Tier:
    return Tier(
        name=row["name"],
        multiplier_milli=row["multiplier_milli"],
        limits=_limits.decode(row["limits"]),
        weight=row["weight"],
        created_at_ms=moment.ms(row["created_at"]),
        updated_at_ms=moment.ms(row["updated_at"]),
    )


def spent(rows: Iterable[Record], ids: Sequence[str], month: str) -> dict[str, Spent]:
    """What each of `ids` has spent; nothing where it has no row."""
    found = {row["id"]: (row["tokens"], row["credits_micro"]) for row in rows}
    figures = {one: found.get(one, (0, 0)) for one in ids}
    return {one: Spent(month=month, tokens=tokens, credits_micro=micro) for one, (tokens, micro) in figures.items()}


def key_columns(one: ApiKey) -> list[Any]:
    """In the order of the statement update_key."""
    return [
        one.id,
        one.label,
        one.owner_email,
        one.enabled,
        moment.maybe_at_ms(one.expires_at_ms),
        limits_json(one.limits),
        one.tier,
        one.team_id,
        list(one.scopes),
        list(one.models),
        list(one.networks),
        one.shadow,
        one.metered,
    ]


def secret_columns(key_id: str, one: Secret) -> list[Any]:
    """In the order of the statement create_secret."""
    created, expires = moment.at_ms(one.created_at_ms), moment.maybe_at_ms(one.expires_at_ms)
    return [key_id, one.digest, one.pepper_id, one.last_four, created, expires]


def _secret(stored: _StoredSecret) -> Secret:
    return Secret(
        digest=stored.digest,
        pepper_id=stored.pepper_id,
        last_four=stored.last_four,
        created_at_ms=moment.ms(stored.created_at),
        expires_at_ms=moment.maybe_ms(stored.expires_at),
    )
