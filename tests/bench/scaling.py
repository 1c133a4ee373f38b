"""More than one replica, the worker, Redis: what else a system's throughput hangs on."""

import asyncio
import time
from collections.abc import Callable

from tests.bench import processor, request, wrk
from tests.bench.admissions import Admissions
from tests.bench.finding import Finding
from tests.bench.load import Address, ClosedLoop
from tests.bench.request import OPENAI
from tests.bench.scenario import GATEWAY, QUICK_MODEL
from tests.bench.system import System

CONNECTIONS = 32
WARM_S = 1.0
SECONDS = 4.0
POLL_S = 0.02
DRAIN_S = 300.0
EVENTS_MIN = 1_000
"""fewer say nothing of a rate"""
WORKER = "worker"
REPLICAS = "replicas"


class Scaling:
    def __init__(self, system: System, say: Callable[[str], None]) -> None:
        self._system = system
        self._say = say

    async def all(self) -> list[Finding]:
        found = await self._replicas()
        return found + await Admissions(self._system).measure()

    async def _replicas(self) -> list[Finding]:
        """One on its core, then two on a core each. Everything else takes what they leave of both cores."""
        system = self._system
        if system.cores.shared:
            self._say("one core alone: two replicas are not measured")
            return []
        second = await system.new_replica("second", core=system.cores.rest)
        system.spread({system.cores.measured, system.cores.rest})
        try:
            one = await self._per_s([system.replica.address])
            two = await self._per_s([system.replica.address, second.address])
        finally:
            system.spread({system.cores.rest})
            await system.retire(second)
        return [
            Finding(REPLICAS, GATEWAY, "requests a second of one", one),
            Finding(REPLICAS, GATEWAY, "requests a second of two", two),
            Finding(REPLICAS, GATEWAY, "times as many", two / one),
        ]

    async def _per_s(self, addresses: list[Address]) -> float:
        """Good answers a second of all of them together."""
        await self._served(addresses, WARM_S)
        return await self._served(addresses, SECONDS) / SECONDS

    async def _served(self, addresses: list[Address], seconds: float) -> int:
        """Good answers in so many seconds, to CONNECTIONS clients of each."""
        body = request.body(OPENAI, QUICK_MODEL, prompt_bytes=1_024, stream=False)
        served = self._by_wrk if wrk.PROGRAM else self._by_loop
        found = await asyncio.gather(*(served(address, body, seconds) for address in addresses))
        self._system.books.add(sum(found), CONNECTIONS * len(addresses))
        return sum(found)

    async def _by_wrk(self, address: Address, body: bytes, seconds: float) -> int:
        file = self._system.directory / "scaling.lua"
        file.write_text(wrk.script(OPENAI.path, self._system.key, body))
        told = await wrk.run(address, file, connections=CONNECTIONS, seconds=seconds)
        return told.requests - told.statuses

    async def _by_loop(self, address: Address, body: bytes, seconds: float) -> int:
        load = ClosedLoop(address, request.post(OPENAI.path, body, self._system.key), CONNECTIONS)
        await load.start()
        await asyncio.sleep(seconds)
        load.stop()
        return load.answered


async def drained(system: System) -> list[Finding]:
    """Let the worker make rows of all events that wait; how fast it was."""
    worker, postgres = processor.tree(system.worker.pid), processor.tree(system.postgres.pid)
    events, began_s = await system.events(), time.monotonic()
    before = processor.cpu_ns(worker), processor.cpu_ns(postgres)
    system.resume_worker()
    async with asyncio.timeout(DRAIN_S):
        while await system.events():
            await asyncio.sleep(POLL_S)
    took_s = time.monotonic() - began_s
    used = processor.cpu_ns(worker) - before[0], processor.cpu_ns(processor.tree(system.postgres.pid)) - before[1]
    if events < EVENTS_MIN:
        return []
    return [
        Finding(WORKER, WORKER, "events made rows", events),
        Finding(WORKER, WORKER, "events a second", events / took_s),
        Finding(WORKER, WORKER, "CPU us an event", used[0] / 1e3 / events),
        Finding(WORKER, WORKER, "CPU us an event in Postgres", used[1] / 1e3 / events),
    ]
