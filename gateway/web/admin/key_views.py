"""Keys as operators see them: never a key itself, only its last four characters."""

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import Struct

from gateway.core.call import Account
from gateway.core.record import ApiKey, KeyRecord, Secret
from gateway.web import public
from gateway.web.admin import limit_fields, standing
from gateway.web.admin.deps import AdminDeps
from gateway.web.admin.limit_fields import LimitsInForce, OwnLimits

DIGITS_KNOWN = 8
"""of a digest, by which Redis remembers when a secret was last used"""


class SecretView(Struct, kw_only=True):
    """One of the secrets of a key: two while it is rotated. `last_used_at` is null also while Redis is away."""

    last_four: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class KeyView(OwnLimits, kw_only=True):
    """A key: what it says of its limits itself, and in `effective` what its tier and the defaults make of that.

    `enabled` says whether it is switched on, `expired` whether its time is over. `secrets` are those that have not
    ended, the newest first. `effective.burst` is the number that counts, also where it is a minute's worth. `credits`
    is null for a key that is not metered, and while Redis, which counts them, is away.
    """

    id: str
    label: str
    owner_email: str
    enabled: bool
    expired: bool
    last_four: str
    tier: str | None
    team_id: str | None
    scopes: list[str]
    models: list[str]
    networks: list[str]
    shadow: bool
    metered: bool
    effective: LimitsInForce
    secrets: list[SecretView]
    credits: public.Credits | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class CreatedKey(KeyView, kw_only=True):
    """The one answer that holds the key; null when the same request is sent again."""

    key: str | None
    message: str


class KeyList(Struct, kw_only=True):
    """A page of keys, newest first; `next` is the cursor of the following page."""

    data: list[KeyView]
    next: str | None


async def shown(deps: AdminDeps, keys: Sequence[ApiKey]) -> list[KeyView]:
    records = await deps.keys.records(keys)
    accounts = await standing.of_keys(deps, keys)
    now_ms = deps.now_ms()
    return [_shown(record, account, now_ms) for record, account in zip(records, accounts, strict=True)]


def _shown(record: KeyRecord, account: Account | None, now_ms: int) -> KeyView:
    key = record.key
    used_ms = account.used_ms if account else {}
    return KeyView(
        id=key.id,
        label=key.label,
        owner_email=key.owner_email,
        enabled=key.enabled,
        expired=is_over(key.expires_at_ms, now_ms),
        last_four=key.secrets[0].last_four if key.secrets else "",
        tier=key.tier,
        team_id=key.team_id,
        scopes=list(key.scopes),
        models=list(key.models),
        networks=list(key.networks),
        shadow=key.shadow,
        metered=key.metered,
        **limit_fields.own(key.limits),
        effective=LimitsInForce(**limit_fields.effective(record.limits)),
        secrets=[_secret(one, used_ms) for one in key.secrets if not is_over(one.expires_at_ms, now_ms)],
        credits=public.credits_of(account) if account else None,
        created_at=at(key.created_at_ms),
        updated_at=at(key.updated_at_ms),
        expires_at=maybe_at(key.expires_at_ms),
        revoked_at=maybe_at(key.revoked_at_ms),
    )


def _secret(secret: Secret, used_ms: dict[str, int]) -> SecretView:
    return SecretView(
        last_four=secret.last_four,
        created_at=at(secret.created_at_ms),
        expires_at=maybe_at(secret.expires_at_ms),
        last_used_at=maybe_at(used_ms.get(secret.digest[:DIGITS_KNOWN])),
    )


def is_over(expires_at_ms: int | None, now_ms: int) -> bool:
    return expires_at_ms is not None and expires_at_ms <= now_ms


def at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def maybe_at(ms: int | None) -> datetime | None:
    return None if ms is None else at(ms)
