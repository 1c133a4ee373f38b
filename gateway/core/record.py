"""What Postgres knows of a key, in the form that Redis and the replicas are given."""

from msgspec import Struct

from gateway.core.limits import Limits


class KeyRecord(Struct, frozen=True, kw_only=True):
    """One API key. `version` grows with every change, so that an older record never replaces a newer one."""

    id: str
    digest: str
    """hex SHA-256 of the whole key"""
    last_four: str
    label: str
    owner_email: str
    enabled: bool
    """False once revoked; revoking is final"""
    version: int
    limits: Limits
    created_at_ms: int
    expires_at_ms: int | None = None


class Spent(Struct, frozen=True, kw_only=True):
    """What the usage rows say a key has used: tokens of `month` (UTC, YYYYMM) and credits ever."""

    month: str
    tokens: int = 0
    credits_micro: int = 0
