"""The composition root's other half: constructs what the admin API alone uses."""

import secrets
import time
from collections.abc import Callable

from msgspec import Struct

from gateway.admin.aliases import AliasStore
from gateway.admin.audit import AuditStore
from gateway.admin.backends import BackendStore
from gateway.admin.credits import CreditStore
from gateway.admin.keys import KeyStore
from gateway.admin.postgres import Postgres
from gateway.admin.prices import PriceStore
from gateway.admin.publisher import Publisher
from gateway.admin.reconcile import Reconciler
from gateway.admin.replays import Replays
from gateway.admin.stored import StoredUsage
from gateway.admin.teams import TeamStore
from gateway.admin.tiers import TierStore
from gateway.admin.usage import UsageReports
from gateway.backends.pool import Pool
from gateway.core.keys import Peppers
from gateway.settings import Settings
from gateway.state.dead import DeadEvents
from gateway.state.directory import KeyDirectory
from gateway.state.failures import Failures
from gateway.state.functions import Functions
from gateway.state.inspector import RedisInspector
from gateway.state.ledger import RedisLedger
from gateway.state.registry import RegistryDirectory
from gateway.web.admin.deps import AdminDeps
from gateway.web.credentials import Door
from gateway.web.own_use import OwnUses


class UsedOfRedis(Struct, frozen=True):
    """What the admin API uses of Redis, and shares with calls."""

    functions: Functions
    directory: KeyDirectory
    registry: RegistryDirectory
    inspector: RedisInspector
    ledger: RedisLedger
    dead: DeadEvents
    door: Door


class Administration:
    """`clock_ms` is monotonic; `new_id` makes the id of a request."""

    def __init__(
        self, settings: Settings, peppers: Peppers, clock_ms: Callable[[], int], new_id: Callable[[], str]
    ) -> None:
        self._settings = settings
        self._peppers = peppers
        self._clock_ms = clock_ms
        self._new_id = new_id

    def of(self, database: Postgres, redis: UsedOfRedis, fleet: Pool, own_uses: OwnUses) -> AdminDeps:
        """What its routes need."""
        settings = self._settings
        keys, teams, prices = (
            KeyStore(database, settings.defaults(), settings.shards),
            TeamStore(database),
            PriceStore(database),
        )
        credits, backends = CreditStore(database), BackendStore(database)
        return AdminDeps(
            keys=keys,
            teams=teams,
            tiers=TierStore(database),
            prices=prices,
            credits=credits,
            backends=backends,
            aliases=AliasStore(database),
            audit=AuditStore(database),
            usage=UsageReports(database),
            own_uses=own_uses,
            dead=redis.dead,
            replays=Replays(database, redis.dead),
            publisher=Publisher(
                keys=keys,
                teams=teams,
                prices=prices,
                backends=backends,
                directory=redis.directory,
                fleet=redis.registry,
            ),
            reconciler=Reconciler(credits, StoredUsage(database), redis.ledger),
            inspector=redis.inspector,
            fleet=fleet,
            door=redis.door,
            peppers=self._peppers,
            failures=self._failures(redis.functions),
            secrets=settings.admin_secrets(),
            port=settings.admin_port,
            prefix=settings.api_key_prefix,
            output_tokens_max=settings.output_tokens_max,
            shadow=settings.shadow_limits,
            clock_s=time.time,
            new_id=self._new_id,
            entropy=secrets.token_bytes,
        )

    def _failures(self, functions: Functions) -> Failures:
        settings = self._settings
        per_min = settings.admin_failures_per_min
        return Failures(functions, settings.shards, self._clock_ms, per_min=per_min, kind="admin:")
