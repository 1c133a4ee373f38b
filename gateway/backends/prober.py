"""Asks every backend, again and again, which models it has and which it has loaded, and tells the pool."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import httpx
import msgspec
from msgspec import Struct

from gateway.backends.pool import Pool
from gateway.core import names
from gateway.core.routing import Model

PROBE_S = 3.0
JITTER = 0.3
PROBE_AGAIN_S = 0.2
"""least time between two probes of one backend, however much it is suspected"""
PROBE_S_MAX = 10.0
"""/api/ps can stall for five seconds while a node unloads a model"""
MISSES_MAX = 2
INVENTORY_PROBES = 10
"""every so many probes the models are listed again: the backend walks its disk for that"""
BODY_BYTES_MAX = 16 << 20


class _Entry(Struct):
    name: str
    modified_at: str = ""
    capabilities: list[str] | None = None
    remote_host: str = ""


class _List(Struct):
    models: list[_Entry] | None = None


_decoder = msgspec.json.Decoder(_List)


class Prober:
    """One loop for each backend. `on_change` hears (backend, whether it answered) after every probe."""

    def __init__(self, pool: Pool, http: httpx.AsyncClient, on_change: Callable[[str, bool], None]) -> None:
        self._pool = pool
        self._http = http
        self._on_change = on_change
        self._misses: dict[str, int] = {}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as loops:
            for backend in self._pool.snapshot():
                loops.create_task(self._watch(backend.name, backend.url))

    async def probe_all(self) -> None:
        """One round over all backends, so that a replica knows its fleet before it says that it is ready."""
        await asyncio.gather(*(self.probe(backend.name, backend.url, {}) for backend in self._pool.snapshot()))

    async def probe(self, name: str, url: str, known: dict[str, Model]) -> dict[str, Model]:
        """Ask one backend; list its models when none are `known`. Returns the models, none when it does not answer."""
        try:
            async with asyncio.timeout(PROBE_S_MAX):
                models = known or _inventory(await self._get(url + "/api/tags"))
                loaded = frozenset(_canonical_names(await self._get(url + "/api/ps")))
        except (httpx.HTTPError, msgspec.DecodeError, ValueError, TimeoutError):
            self._missed(name)
            return {}
        self._misses[name] = 0
        self._pool.saw(name, models, loaded)
        self._on_change(name, True)
        return models

    def _missed(self, name: str) -> None:
        """One miss is asked again at once; several in a row mean that the backend is away."""
        self._misses[name] = misses = self._misses.get(name, 0) + 1
        if misses < MISSES_MAX:
            self._pool.suspected[name].set()
            return
        self._pool.lost(name)
        self._on_change(name, False)

    async def _watch(self, name: str, url: str) -> None:
        models: dict[str, Model] = {}
        probes = 0
        while True:
            models = await self.probe(name, url, models if probes % INVENTORY_PROBES else {})
            probes += 1
            await self._rest(name)

    async def _rest(self, name: str) -> None:
        """Until the next probe is due, or a call could not reach the backend."""
        suspected = self._pool.suspected[name]
        await asyncio.sleep(PROBE_AGAIN_S)
        with suppress(TimeoutError):
            await asyncio.wait_for(suspected.wait(), PROBE_S * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311
        suspected.clear()

    async def _get(self, url: str) -> list[_Entry]:
        async with self._http.stream("GET", url, timeout=PROBE_S_MAX) as reply:
            reply.raise_for_status()
            body = bytearray()
            async for piece in reply.aiter_raw():
                body += piece
                if len(body) > BODY_BYTES_MAX:
                    raise ValueError("too large")
        return _decoder.decode(body).models or []


def _inventory(entries: list[_Entry]) -> dict[str, Model]:
    """Models by canonical name, without those whose prompts would leave the site."""
    found = {}
    for entry in entries:
        name = names.canonical(entry.name)
        if name and not entry.remote_host and not names.is_cloud(name):
            found[name] = Model(entry.name, _unix_s(entry.modified_at), frozenset(entry.capabilities or ()))
    return found


def _canonical_names(entries: list[_Entry]) -> list[str]:
    return [name for entry in entries if (name := names.canonical(entry.name))]


def _unix_s(text: str) -> int:
    try:
        return int(msgspec.convert(text, datetime).timestamp())
    except (msgspec.ValidationError, ValueError, OverflowError):
        return 0
