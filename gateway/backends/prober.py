"""Asks every backend, again and again, which models it has and which it has loaded, and tells the pool."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

import httpx
from msgspec.structs import replace

from gateway.backends import inventory, lookup
from gateway.backends.inventory import Inventory
from gateway.backends.pool import Pool
from gateway.backends.shows import Shows

PROBE_S = 3.0
JITTER = 0.3
PROBE_AGAIN_S = 0.2
"""least time between two probes of one backend, however much it is suspected"""
PROBE_S_MAX = 10.0
MISSES_MAX = 2
INVENTORY_PROBES = 10
"""every so many probes the models are listed again: the backend walks its disk for that"""


class Prober:
    """One loop for each backend. `on_change` hears (backend, whether it answered) after every probe."""

    def __init__(
        self, pool: Pool, http: httpx.AsyncClient, shows: Shows, on_change: Callable[[str, bool], None]
    ) -> None:
        self._pool = pool
        self._http = http
        self._shows = shows
        self._on_change = on_change
        self._urls = {backend.name: backend.url for backend in pool.snapshot()}
        self._turns = {name: asyncio.Lock() for name in self._urls}
        self._known: dict[str, Inventory] = {}
        self._misses: dict[str, int] = {}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as loops:
            for name in self._urls:
                loops.create_task(self._watch(name))

    async def probe_all(self) -> None:
        """One round over all backends, so that a replica knows its fleet before it says that it is ready."""
        await asyncio.gather(*(self.probe(name, afresh=True) for name in self._urls))

    async def probe(self, name: str, *, afresh: bool) -> None:
        """Ask one backend and tell the pool; `afresh`: its models too, which are listed anyway while none are known."""
        async with self._turns[name]:
            known = None if afresh else self._known.get(name)
            try:
                async with asyncio.timeout(PROBE_S_MAX):
                    found = known if known and known.models else await self._list(name)
                    loaded = inventory.read_loaded(await self._get(name, "/api/ps"))
            except lookup.SILENCE:
                self._known.pop(name, None)
                self._missed(name)
                return
            self._misses[name] = 0
            self._known[name] = found
            self._pool.saw(name, found, loaded)
            self._on_change(name, True)
            if found is not known:
                await self._shows.learn(self._urls[name], found.models.values())
                self._known[name] = self._corrected(found)
                self._pool.saw(name, self._known[name], loaded)

    async def _list(self, name: str) -> Inventory:
        """The models and, where the backend says it, the version. What /api/show has said before is in it."""
        found = inventory.read_models(await self._get(name, "/api/tags"), cloud=self._pool.allow_cloud)
        with suppress(*lookup.SILENCE):
            found = replace(found, version=inventory.read_version(await self._get(name, "/api/version")))
        return self._corrected(found)

    def _corrected(self, found: Inventory) -> Inventory:
        return replace(found, models={name: self._shows.corrected(model) for name, model in found.models.items()})

    def _missed(self, name: str) -> None:
        """One miss is asked again at once; several in a row mean that the backend is away."""
        self._misses[name] = misses = self._misses.get(name, 0) + 1
        if misses < MISSES_MAX:
            self._pool.suspected[name].set()
            return
        self._pool.lost(name)
        self._on_change(name, False)

    async def _watch(self, name: str) -> None:
        probes = 0
        while True:
            await self.probe(name, afresh=probes % INVENTORY_PROBES == 0)
            probes += 1
            await self._rest(name)

    async def _rest(self, name: str) -> None:
        """Until the next probe is due, or a call could not reach the backend."""
        suspected = self._pool.suspected[name]
        await asyncio.sleep(PROBE_AGAIN_S)
        with suppress(TimeoutError):
            await asyncio.wait_for(suspected.wait(), PROBE_S * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311
        suspected.clear()

    async def _get(self, name: str, path: str) -> bytes:
        return await lookup.ask(self._http, self._urls[name] + path)
