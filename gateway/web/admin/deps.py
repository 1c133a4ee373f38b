"""What the admin API needs of the world."""

from collections.abc import Callable
from typing import Any

from litestar import Request
from msgspec import Struct

from gateway.admin.aliases import AliasStore
from gateway.admin.audit import AuditStore
from gateway.admin.backends import BackendStore
from gateway.admin.credits import CreditStore
from gateway.admin.keys import KeyStore
from gateway.admin.prices import PriceStore
from gateway.admin.publisher import Publisher
from gateway.admin.reconcile import Reconciler
from gateway.admin.replays import Replays
from gateway.admin.teams import TeamStore
from gateway.admin.tiers import TierStore
from gateway.admin.usage import UsageReports
from gateway.core.keys import Peppers
from gateway.ports import Fleet, Inspector
from gateway.state.dead import DeadEvents
from gateway.state.failures import Failures
from gateway.web.credentials import Door
from gateway.web.own_use import OwnUses

Requested = Request[Any, Any, Any]


class AdminDeps(Struct, frozen=True, kw_only=True):
    """The stores, what puts changes in force, what Redis knows, and who may ask."""

    keys: KeyStore
    teams: TeamStore
    tiers: TierStore
    prices: PriceStore
    credits: CreditStore
    backends: BackendStore
    aliases: AliasStore
    audit: AuditStore
    usage: UsageReports
    own_uses: OwnUses
    dead: DeadEvents
    replays: Replays
    publisher: Publisher
    reconciler: Reconciler
    inspector: Inspector
    fleet: Fleet
    door: Door
    peppers: Peppers
    failures: Failures
    """of those who do not know the admin secret"""
    secrets: tuple[str, ...]
    """each opens the admin API; none: it is off"""
    port: int
    """the only one that has the admin API; 0: every one has"""
    prefix: str
    """of new keys"""
    output_tokens_max: int
    shadow: bool
    """whether limits refuse nobody, whatever the keys say"""
    clock_s: Callable[[], float]
    new_id: Callable[[], str]
    entropy: Callable[[int], bytes]

    def now_ms(self) -> int:
        return int(self.clock_s() * 1000)


def deps_of(request: Requested) -> AdminDeps:
    deps: AdminDeps = request.app.state.admin
    return deps
