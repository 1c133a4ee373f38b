"""The admin API over keys: Postgres first, which is the truth, then Redis, which the replicas read."""

import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from typing import Annotated, Any

from litestar import Controller, Request, delete, get, post
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.core import keys, pricing
from gateway.core.limits import PER_MINUTE_MAX, Limits
from gateway.core.record import KeyRecord, Spent
from gateway.errors import AdminUnauthorized, BadRequest, KeyNotFound, LimitsUnavailable
from gateway.ports import Directory, Keys

CREDITS_MAX = 1_000_000_000
TOKENS_MAX = 10**12
CONCURRENCY_MAX = 10_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")

SHOWN_ONCE = "Keep this key now: it is shown only this once."
NOT_YET = SHOWN_ONCE + " It starts to work when the gateway's Redis is back."

PerMinute = Annotated[int, Meta(ge=1, le=PER_MINUTE_MAX)]


class AdminDeps(Struct, frozen=True, kw_only=True):
    """What the admin API needs. An empty `secret` means that it is off."""

    keys: Keys
    directory: Directory
    secret: str
    prefix: str
    defaults: Limits
    clock_s: Callable[[], float]


class CreateKey(Struct, kw_only=True, forbid_unknown_fields=True):
    """A new key. A limit left out takes the gateway's default; null means unlimited (credits: none kept)."""

    label: Annotated[str, Meta(min_length=1, max_length=64)] = "unnamed"
    owner_email: Annotated[str, Meta(max_length=254, pattern=r"^([^@\s]+@[^@\s]+)?$")] = ""
    rate_limit_per_min: PerMinute | UnsetType = UNSET
    tokens_per_min: PerMinute | None = None
    monthly_token_limit: Annotated[int, Meta(ge=1, le=TOKENS_MAX)] | UnsetType | None = UNSET
    credits: Annotated[float, Meta(ge=0, le=CREDITS_MAX)] | None = None
    concurrency: Annotated[int, Meta(ge=1, le=CONCURRENCY_MAX)] | None = None


class KeyView(Struct, kw_only=True):
    """A key as operators see it: never the key itself, only its last four characters."""

    id: str
    label: str
    owner_email: str
    enabled: bool
    last_four: str
    rate_limit_per_min: int
    tokens_per_min: int | None
    monthly_token_limit: int | None
    credits: float | None
    concurrency: int | None
    created_at: datetime


class CreatedKey(KeyView, kw_only=True):
    """The one answer that holds the key."""

    key: str
    message: str


class KeyList(Struct, kw_only=True):
    """A page of keys, newest first; `next` is the cursor of the following page."""

    data: list[KeyView]
    next: str | None


def admins_only(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Compares digests, so that neither length nor content of the secret shows in the time it takes."""
    expected = connection.app.state.admin.secret
    given = connection.headers.get("x-admin-secret", "")
    if not expected:
        raise AdminUnauthorized("The admin API of this gateway is off: its operator has set no ADMIN_SECRET.")
    if not compare_digest(sha256(given.encode()).digest(), sha256(expected.encode()).digest()):
        raise AdminUnauthorized


class KeyController(Controller):
    """Create, list and revoke API keys."""

    path = "/admin/api-keys"
    tags = ("admin",)
    security = ({"AdminSecret": []},)
    guards = (admins_only,)

    @post("/", operation_id="createApiKey", summary="Create a key; the answer is the only place it is shown")
    async def create(self, request: Request[Any, Any, Any], data: JSONBody[CreateKey]) -> CreatedKey:
        deps: AdminDeps = request.app.state.admin
        if _CONTROL.search(data.label + data.owner_email):
            raise BadRequest("Labels and addresses must not hold control characters.")
        key = keys.mint(deps.prefix, secrets.token_bytes(keys.ENTROPY_BYTES))
        record = await deps.keys.create(_record(key, data, deps))
        try:
            await deps.directory.publish(record, Spent(month=_month(deps.clock_s())))
        except LimitsUnavailable:
            return _created(record, key, NOT_YET)  # the worker publishes it when Redis is back
        return _created(record, key, SHOWN_ONCE)

    @get("/", operation_id="listApiKeys", summary="All keys, newest first")
    async def list_keys(self, request: Request[Any, Any, Any], after: FromQuery[str | None] = None) -> KeyList:
        deps: AdminDeps = request.app.state.admin
        records, following = await deps.keys.page(after)
        return KeyList(data=[KeyView(**_view(record)) for record in records], next=following)

    @delete("/{key_id:str}", status_code=200, operation_id="revokeApiKey", summary="Revoke a key at once, for good")
    async def revoke(self, request: Request[Any, Any, Any], key_id: FromPath[str]) -> KeyView:
        deps: AdminDeps = request.app.state.admin
        record = await deps.keys.revoke(key_id)
        if record is None:
            raise KeyNotFound
        await deps.directory.publish(record, None)  # when this fails, so does the request: it is not in force yet
        return KeyView(**_view(record))


def _record(key: str, data: CreateKey, deps: AdminDeps) -> KeyRecord:
    credential = keys.read(key)
    assert credential is not None  # we have just made it
    rate, monthly = data.rate_limit_per_min, data.monthly_token_limit
    return KeyRecord(
        id=credential.key_id,
        digest=credential.digest,
        last_four=keys.last_four(key),
        label=data.label,
        owner_email=data.owner_email,
        enabled=True,
        version=1,
        limits=Limits(
            requests_per_min=deps.defaults.requests_per_min if rate is UNSET else rate,
            tokens_per_min=data.tokens_per_min,
            monthly_tokens=deps.defaults.monthly_tokens if monthly is UNSET else monthly,
            credits_micro=None if data.credits is None else round(data.credits * pricing.MICRO),
            concurrency=data.concurrency,
        ),
        created_at_ms=int(deps.clock_s() * 1000),
    )


def _view(record: KeyRecord) -> dict[str, Any]:
    limits = record.limits
    return {
        "id": record.id,
        "label": record.label,
        "owner_email": record.owner_email,
        "enabled": record.enabled,
        "last_four": record.last_four,
        "rate_limit_per_min": limits.requests_per_min,
        "tokens_per_min": limits.tokens_per_min,
        "monthly_token_limit": limits.monthly_tokens,
        "credits": None if limits.credits_micro is None else pricing.credits(limits.credits_micro),
        "concurrency": limits.concurrency,
        "created_at": datetime.fromtimestamp(record.created_at_ms / 1000, UTC),
    }


def _created(record: KeyRecord, key: str, message: str) -> CreatedKey:
    return CreatedKey(key=key, message=message, **_view(record))


def _month(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y%m")
