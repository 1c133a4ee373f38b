"""Keys, teams and authors for tests of what stores them."""

from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

from msgspec.structs import replace

from gateway.admin.aliases import AliasStore
from gateway.admin.audit import AuditEntry, AuditStore
from gateway.admin.author import Author
from gateway.admin.backends import BackendStore
from gateway.admin.credits import CreditStore
from gateway.admin.keys import KeyStore
from gateway.admin.postgres import Postgres, open_pool
from gateway.admin.prices import PriceStore
from gateway.admin.teams import TeamStore
from gateway.admin.tiers import TierStore
from gateway.core.keys import SHARDS_MAX, shard_of
from gateway.core.limits import Limits
from gateway.core.record import ApiKey, Secret, Team
from workers.migrate import migrate

AT_MS = 1_795_292_735_107
BY = Author(name="admin", request_id="request-1")
DEFAULTS = Limits(rate_limit_per_min=20, monthly_token_limit=1_000_000)


def by(idempotency_key: str, fingerprint: str = "f0") -> Author:
    return replace(BY, idempotency_key=idempotency_key, fingerprint=fingerprint)


def secret(number: int, **changes: Any) -> Secret:
    made = Secret(digest=sha256(str(number).encode()).hexdigest(), last_four="wxyz", created_at_ms=AT_MS + number)
    return replace(made, **changes)


def record(number: int, **changes: Any) -> ApiKey:
    """The same key for the same number; what the store sets itself is left at its default."""
    made = ApiKey(
        id=f"key{number:05d}",
        secrets=(secret(number),),
        label="Büro 🦙",
        owner_email="someone@example.org",
        created_at_ms=AT_MS + number,
    )
    return replace(made, **changes)


def team(number: int, **changes: Any) -> Team:
    return replace(Team(id=f"team{number:05d}", label="Entwicklung", created_at_ms=AT_MS + number), **changes)


def beside(owner: Team, count: int = 1) -> list[ApiKey]:
    """Keys that can join the team."""
    shard = shard_of(owner.id, SHARDS_MAX)
    fitting = (n for n in range(10**6) if shard_of(record(n).id, SHARDS_MAX) == shard)
    return [record(next(fitting)) for _ in range(count)]


def apart(owner: Team) -> ApiKey:
    """A key that cannot join the team."""
    shard = shard_of(owner.id, SHARDS_MAX)
    return record(next(n for n in range(10**6) if shard_of(record(n).id, SHARDS_MAX) != shard))


class Stores:
    """All of them on one database."""

    def __init__(self, postgres: Postgres) -> None:
        self.postgres = postgres
        self.keys = KeyStore(postgres, DEFAULTS, SHARDS_MAX)
        self.teams = TeamStore(postgres)
        self.tiers = TierStore(postgres)
        self.prices = PriceStore(postgres)
        self.credits = CreditStore(postgres)
        self.backends = BackendStore(postgres)
        self.aliases = AliasStore(postgres)
        self.audit = AuditStore(postgres)

    async def entries(self, object: str | None = None) -> list[AuditEntry]:
        """The audit log, oldest first."""
        return (await self.audit.page(object, None, None, None, 500)).items[::-1]

    async def value(self, statement: str, *args: Any) -> Any:
        async with self.postgres.transaction() as connection:
            return await connection.fetchval(statement, *args)


async def opened(database_url: str) -> AsyncIterator[Stores]:
    await migrate(database_url)
    postgres = await open_pool(database_url)
    yield Stores(postgres)
    await postgres.close()


def stored(one: ApiKey, there: ApiKey) -> ApiKey:
    """`one` with what only the store knows of the one that is there."""
    return replace(one, updated_at_ms=there.updated_at_ms, revoked_at_ms=there.revoked_at_ms)
