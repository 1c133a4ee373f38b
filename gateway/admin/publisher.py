"""What the admin API has changed in Postgres, told to Redis at once; the worker tells what could not be told here."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Protocol

from gateway.admin import moment
from gateway.admin.backends import BackendStore
from gateway.admin.keys import KeyStore
from gateway.admin.prices import PriceStore
from gateway.admin.teams import TeamStore
from gateway.core.fleet import Registry
from gateway.core.pricing import PriceList
from gateway.core.record import ApiKey, KeyRecord, Spent, Team

PUBLISHED_AT_ONCE_MAX = 512
FIRST_VERSION = 1


class Directory(Protocol):
    """What replicas read. Raises `LimitsUnavailable`."""

    async def publish(self, record: KeyRecord, spent: Spent | None) -> None: ...

    async def publish_team(self, team: Team, spent: Spent | None) -> None: ...

    async def publish_prices(self, prices: PriceList) -> None: ...


class FleetDirectory(Protocol):
    """What replicas read of the fleet. Raises `LimitsUnavailable`."""

    async def publish(self, registry: Registry) -> None: ...


async def all_of(calls: Iterable[Awaitable[None]]) -> None:
    """Wait for all of them, whatever becomes of one; then raise what the first that failed has raised."""
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


class Publisher:
    """Every method raises `LimitsUnavailable` when Redis is away: the change is made but not in force yet."""

    def __init__(
        self,
        *,
        keys: KeyStore,
        teams: TeamStore,
        prices: PriceStore,
        backends: BackendStore,
        directory: Directory,
        fleet: FleetDirectory,
    ) -> None:
        self._keys = keys
        self._teams = teams
        self._prices = prices
        self._backends = backends
        self._directory = directory
        self._fleet = fleet

    async def key(self, key: ApiKey) -> None:
        (record,) = await self._keys.records([key])
        await self._directory.publish(record, await self._first_figures(self._keys, key))

    async def team(self, team: Team) -> None:
        await self._directory.publish_team(team, await self._first_figures(self._teams, team))

    async def tier(self, name: str) -> None:
        """All keys of a tier, of which each depends on it: some thousand a second."""
        after: str | None = None
        while True:
            page = await self._keys.of_tier(name, after)
            records = await self._keys.records(page.items)
            for start in range(0, len(records), PUBLISHED_AT_ONCE_MAX):
                batch = records[start : start + PUBLISHED_AT_ONCE_MAX]
                told = (self._directory.publish(record, None) for record in batch)
                await all_of(told)
            if page.after is None:
                return
            after = page.after

    async def prices(self) -> None:
        await self._directory.publish_prices(await self._prices.price_list())

    async def fleet(self) -> None:
        """All nodes and aliases."""
        await self._fleet.publish(await self._backends.registry())

    async def _first_figures(self, store: KeyStore | TeamStore, owner: ApiKey | Team) -> Spent | None:
        """What a new owner has spent, so that it can be charged at once; of an old one Redis has figures of its own.

        From the rows, for this may be a late repetition, after Redis has lost what was charged meanwhile.
        """
        if owner.version > FIRST_VERSION:
            return None
        month = moment.month(await self._keys.now_us())
        return (await store.spent([owner.id], month))[owner.id]
