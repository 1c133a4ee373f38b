"""What operators send of a key, and the key that it makes of one. Pure."""

from datetime import datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from gateway.core import addresses
from gateway.core.limits import Glob
from gateway.core.record import ApiKey, Scope
from gateway.errors import BadRequest
from gateway.web.admin import limit_fields, words
from gateway.web.admin.amounts import Credits
from gateway.web.admin.limit_fields import LimitFields
from gateway.web.admin.words import Email, Label

MODELS_MAX = 64
NETWORKS_MAX = 64
NETWORK_CHARS_MAX = 64
NAME_CHARS_MAX = 64
OVERLAP_S_MAX = 30 * 86_400
OVERLAP_S = 86_400
AS_GIVEN = ("label", "owner_email", "tier", "team_id", "shadow", "enabled", "metered")

Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]
"""of a tier or a team, which the gateway itself has given out"""
Time = Annotated[datetime, Meta(tz=True)]
Globs = Annotated[list[Glob], Meta(max_length=MODELS_MAX)]
Networks = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=NETWORK_CHARS_MAX)]], Meta(max_length=NETWORKS_MAX)
]


class KeyFields(LimitFields, kw_only=True, forbid_unknown_fields=True):
    """What a key is made of, and may be changed in."""

    label: Label | UnsetType = UNSET
    owner_email: Email | UnsetType = UNSET
    tier: Name | UnsetType | None = UNSET
    team_id: Name | UnsetType | None = UNSET
    scopes: Annotated[list[Scope], Meta(min_length=1)] | UnsetType = UNSET
    models: Globs | UnsetType = UNSET
    networks: Networks | UnsetType = UNSET
    shadow: bool | UnsetType = UNSET
    expires_at: Time | UnsetType | None = UNSET


class CreateKey(KeyFields, kw_only=True, forbid_unknown_fields=True):
    """A new key. `credits` is its first grant: its calls are then charged; null or left out: none are counted."""

    credits: Credits | None = None


class ChangeKey(KeyFields, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays as it is. `enabled`: whether the key works; revoking it, other than this, is for good.

    `metered`: whether calls are charged to the key's credits.
    """

    enabled: bool | UnsetType = UNSET
    metered: bool | UnsetType = UNSET


class RotateKey(Struct, kw_only=True, forbid_unknown_fields=True):
    """How long the former secret works on. While two work, the new one replaces the newest if it was never used."""

    overlap_seconds: Annotated[int, Meta(ge=0, le=OVERLAP_S_MAX)] = OVERLAP_S


def changed(key: ApiKey, given: KeyFields, now_ms: int) -> ApiKey:
    """The key with what is given. Raises `BadRequest` that names the field."""
    words.label(given.label)
    words.email(given.owner_email)
    said: dict[str, Any] = {name: value for name in AS_GIVEN if (value := getattr(given, name, UNSET)) is not UNSET}
    if given.scopes is not UNSET:
        said["scopes"] = tuple(dict.fromkeys(given.scopes))
    if given.models is not UNSET:
        said["models"] = limit_fields.globs(given.models, "models")
    if given.networks is not UNSET:
        said["networks"] = tuple(dict.fromkeys(map(_network, given.networks)))
    if given.expires_at is not UNSET:
        said["expires_at_ms"] = given.expires_at and _future_ms(given.expires_at, now_ms)
    return replace(key, limits=limit_fields.changed(key.limits, given), **said)


def _network(text: str) -> str:
    try:
        return addresses.network(text)
    except ValueError:
        raise BadRequest("Write networks as 10.0.0.0/8 or fd00::/8, or single addresses.", param="networks") from None


def _future_ms(at: datetime, now_ms: int) -> int:
    at_ms = int(at.timestamp() * 1000)
    if at_ms <= now_ms:
        raise BadRequest("A key cannot expire in the past: to end it now, revoke it.", param="expires_at")
    return at_ms
