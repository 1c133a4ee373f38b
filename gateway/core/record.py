"""Who has limits, as Postgres knows them, and in the form that Redis and the replicas are given."""

from typing import Literal

from msgspec import Struct

from gateway.core import pricing
from gateway.core.limits import Limits, overlay

Scope = Literal["inference", "pull"]
SCOPES: tuple[Scope, ...] = ("inference", "pull")
TIER_WEIGHT_MAX = 100


class Secret(Struct, frozen=True, kw_only=True):
    """One of the secrets of a key: two while it is rotated."""

    digest: str
    """hex SHA-256 of the whole key, or its HMAC-SHA-256 under the pepper"""
    pepper_id: str = ""
    """which pepper; "": none"""
    last_four: str
    created_at_ms: int
    expires_at_ms: int | None = None
    """when it stops to work, before the key does"""


class ApiKey(Struct, frozen=True, kw_only=True):
    """One API key as its owner's operator made it. `version` grows with every change."""

    id: str
    secrets: tuple[Secret, ...]
    """newest first"""
    label: str = "unnamed"
    owner_email: str = ""
    enabled: bool = True
    """False once revoked, which is final, and while it is switched off"""
    version: int = 1
    limits: Limits = Limits()
    """what the key itself says"""
    tier: str | None = None
    team_id: str | None = None
    scopes: tuple[Scope, ...] = ("inference",)
    models: tuple[str, ...] = ()
    """globs of canonical names it may use; empty: all"""
    networks: tuple[str, ...] = ()
    """CIDRs it may be used from; empty: anywhere"""
    shadow: bool = False
    """its limits are counted and refuse nobody"""
    metered: bool = False
    """whether calls are charged to its credits"""
    granted_micro: int = 0
    """all credits it was ever granted, millionths"""
    created_at_ms: int = 0
    updated_at_ms: int = 0
    expires_at_ms: int | None = None
    revoked_at_ms: int | None = None


class Tier(Struct, frozen=True, kw_only=True):
    """A class of keys: limits for those that say nothing themselves, what their calls cost, who goes first."""

    name: str
    multiplier_milli: int = pricing.MULTIPLIER_ONE
    """thousandths of the price"""
    limits: Limits = Limits()
    weight: int = 1
    """share of each of its keys in the waiting line"""
    created_at_ms: int = 0
    updated_at_ms: int = 0


class Team(Struct, frozen=True, kw_only=True):
    """Keys that share limits and credits, beside those of their own."""

    id: str
    label: str = "unnamed"
    version: int = 1
    limits: Limits = Limits()
    shadow: bool = False
    metered: bool = False
    granted_micro: int = 0
    created_at_ms: int = 0
    updated_at_ms: int = 0


class KeyRecord(Struct, frozen=True):
    """What a replica has to know of a key: its limits after tier and defaults, and its tier's multiplier and weight."""

    key: ApiKey
    limits: Limits
    multiplier_milli: int = pricing.MULTIPLIER_ONE
    weight: int = 1


class Spent(Struct, frozen=True, kw_only=True):
    """What the usage rows say a key or a team has used: tokens of `month` (UTC, YYYYMM) and credits ever."""

    month: str
    tokens: int = 0
    credits_micro: int = 0


def resolve(key: ApiKey, tier: Tier | None, defaults: Limits) -> KeyRecord:
    """The key's own word counts before its tier's, and that before the gateway's defaults."""
    if tier is None:
        return KeyRecord(key, overlay(defaults, key.limits))
    return KeyRecord(key, overlay(defaults, tier.limits, key.limits), tier.multiplier_milli, tier.weight)
