"""Hydration: what Postgres says about keys, teams, prices, nodes and aliases gets into Redis, whole after Redis lost
its data, else change by change.

The admin API publishes a change itself, at once. This makes good what it could not, because it died or Redis was away
between the two: a change is published here within seconds, and no older version ever replaces a newer one.
"""

from collections.abc import Awaitable, Sequence
from typing import Protocol

from gateway.core.fleet import Registry
from gateway.core.pricing import PriceList
from gateway.core.record import ApiKey, KeyRecord, Spent, Team
from gateway.errors import Unavailable
from gateway.telemetry.logs import Log
from workers.changes import Changes, Clock, Source

WHOLE_EVERY_US = 300_000_000
"""How often everything is published, changed or not."""


class Keys(Source[ApiKey], Protocol):
    """What `gateway.admin.keys.KeyStore` knows. Raises `StoreUnavailable`."""

    async def records(self, keys: Sequence[ApiKey]) -> list[KeyRecord]: ...

    async def now_us(self) -> int: ...


class Prices(Protocol):
    """What `gateway.admin.prices.PriceStore` knows. Raises `StoreUnavailable`."""

    async def price_list(self) -> PriceList: ...


class Backends(Protocol):
    """What `gateway.admin.backends.BackendStore` knows. Raises `StoreUnavailable`."""

    async def registry(self) -> Registry: ...


class FleetDirectory(Protocol):
    """What replicas read of the fleet. Raises `LimitsUnavailable`."""

    async def publish(self, registry: Registry) -> None:
        """Write it, unless a newer version is there."""


class Directory(Protocol):
    """What replicas read. Raises `LimitsUnavailable`."""

    async def is_ready(self, shard: int) -> bool: ...

    async def incarnation(self) -> str:
        """Which run of the server answers: another text after a restart or a failover."""

    async def publish(self, record: KeyRecord, spent: Spent | None) -> None:
        """Write a key, unless a newer version is there. `spent` counts only where Redis has no figure of its own."""

    async def publish_team(self, team: Team, spent: Spent | None) -> None: ...

    async def publish_prices(self, prices: PriceList) -> None: ...

    async def begin(self, shard: int) -> str:
        """Put down a mark that is lost with everything else, should Redis lose its data."""

    async def mark_ready(self, shard: int, mark: str) -> bool:
        """Say that the shard holds every key. False, and nothing is said: the mark is gone, so keys are too."""


class Hydrator:
    """Any number may run side by side: publishing is idempotent."""

    def __init__(
        self,
        *,
        keys: Keys,
        teams: Source[Team],
        prices: Prices,
        backends: Backends,
        directory: Directory,
        fleet: FleetDirectory,
        clock: Clock,
        shards: int,
        log: Log,
    ) -> None:
        self._records = keys.records
        self._now_us = keys.now_us
        self._keys = Changes(keys, self._publish_keys, clock)
        self._teams = Changes(teams, self._publish_teams, clock)
        self._prices = prices
        self._backends = backends
        self._directory = directory
        self._fleet = fleet
        self._shards = shards
        self._log = log
        self._incarnation = ""
        self._whole_us = 0
        self._price_version = 0
        """of the last list that was published"""
        self._fleet_version = 0
        """likewise"""

    async def run_once(self) -> int:
        """How many keys and teams were published. Raises `Unavailable` when Redis or Postgres is away: ask again."""
        try:
            began_us = await self._now_us()
            await self._begin_again_if_due(began_us)
            return await self._catch_up(began_us)
        except Unavailable:
            self._begin_again()
            raise

    def _begin_again(self) -> None:
        self._price_version = 0
        self._fleet_version = 0
        self._teams.begin_again()
        self._keys.begin_again()

    async def _begin_again_if_due(self, now_us: int) -> None:
        """A Redis that was restarted may have lost its last second, and any may have lost something: look at all."""
        incarnation = await self._directory.incarnation()
        if incarnation != self._incarnation or now_us - self._whole_us >= WHOLE_EVERY_US:
            self._begin_again()
            self._incarnation, self._whole_us = incarnation, now_us

    async def _catch_up(self, began_us: int) -> int:
        empty = [shard for shard in range(self._shards) if not await self._directory.is_ready(shard)]
        marks = {shard: await self._directory.begin(shard) for shard in empty}
        if empty:
            self._begin_again()
        published = await self._publish_changes(began_us)
        if empty:
            # Once more, for what changed meanwhile: a key that was read before it was revoked must not stay valid.
            published += await self._publish_changes(began_us)
        for shard, mark in marks.items():
            if not await self._directory.mark_ready(shard, mark):  # the next run begins again
                self._log.warning("hydration_lost", shard=shard)
        if empty:
            self._log.info("hydrated", shards=empty, published=published)
        return published

    async def _publish_changes(self, began_us: int) -> int:
        """The fleet, prices and teams first: without them the keys that need them are of no use."""
        registry = await self._backends.registry()
        if registry.version != self._fleet_version:
            await self._fleet.publish(registry)
            self._fleet_version = registry.version
        prices = await self._prices.price_list()
        if prices.version != self._price_version:
            await self._directory.publish_prices(prices)
            self._price_version = prices.version
        return await self._teams.publish(began_us) + await self._keys.publish(began_us)

    async def _publish_keys(self, keys: Sequence[ApiKey], spent: dict[str, Spent]) -> list[Awaitable[None]]:
        records = await self._records(keys)
        return [self._directory.publish(record, spent[record.key.id]) for record in records]

    async def _publish_teams(self, teams: Sequence[Team], spent: dict[str, Spent]) -> list[Awaitable[None]]:
        return [self._directory.publish_team(team, spent[team.id]) for team in teams]
