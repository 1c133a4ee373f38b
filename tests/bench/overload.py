"""Ten times what can be served is asked for: as much is served as before, and the rest hears no at once."""

import asyncio

from tests.bench import request
from tests.bench.finding import Finding
from tests.bench.load import ClosedLoop, OpenLoop
from tests.bench.meter import latencies_us
from tests.bench.nodes import free_address
from tests.bench.pacer import Pacer
from tests.bench.request import OPENAI
from tests.bench.scenario import GATEWAY, QUICK_MODEL
from tests.bench.system import System

TIMES = 10
CONNECTIONS = 32
KEY_PER_S = 100
"""what the limit of a key lets in"""
NODE_SLOTS, NODE_MODEL = 8, "s65t80"
"""of a node that could do 100 calls a second"""
WARM_S = 1.5
SECONDS = 4.0
OPEN_CONNECTIONS = 2_048
"""enough for all that wait in the line of a model"""
GOODPUT, REFUSALS, UNSENT = "goodput, % of peak", "refusals' p99 ms", "requests that could not be sent"


class Overload:
    def __init__(self, system: System) -> None:
        self._system = system
        self._pacer = Pacer()

    async def all(self) -> list[Finding]:
        try:
            return await self._of_clients() + await self._of_a_key() + await self._of_nodes()
        finally:
            self._pacer.close()

    async def _of_clients(self) -> list[Finding]:
        """Ten times the clients, each asking again when it is answered: the replica's core is what is short."""
        peak = await self._served(QUICK_MODEL, CONNECTIONS)
        served = await self._served(QUICK_MODEL, TIMES * CONNECTIONS)
        trial = f"overload: {TIMES}x the clients"
        return [
            Finding(trial, GATEWAY, "peak calls a second", peak),
            Finding(trial, GATEWAY, GOODPUT, 100 * served / peak),
        ]

    async def _of_a_key(self) -> list[Finding]:
        """Ten times what the key's limit lets in."""
        key = await self._system.replica.create_key(rate_limit_per_min=KEY_PER_S * 60, burst=KEY_PER_S)
        return await self._offered(f"overload: {TIMES}x a key's limit", QUICK_MODEL, key, KEY_PER_S)

    async def _of_nodes(self) -> list[Finding]:
        """Ten times what the nodes can do: they have few slots, and the line is full."""
        address = free_address()
        await self._system.nodes.new_stub("small-node", address, [NODE_MODEL])
        name = await self._system.replica.add_node(f"http://{address[0]}:{address[1]}", slots=NODE_SLOTS)
        peak = await self._served(NODE_MODEL, 2 * NODE_SLOTS)
        found = await self._offered(f"overload: {TIMES}x what nodes can do", NODE_MODEL, self._system.key, peak)
        await self._system.replica.quiet()
        await self._system.replica.remove_node(name)
        return found

    async def _served(self, model: str, connections: int) -> float:
        """Good answers a second to so many clients."""
        load = ClosedLoop(self._system.replica.address, self._content(model, self._system.key), connections)
        await load.start()
        await asyncio.sleep(WARM_S)
        before = load.answered
        await asyncio.sleep(SECONDS)
        served = (load.answered - before) / SECONDS
        load.stop()
        self._system.books.add(load.answered, load.abandoned)
        return served

    async def _offered(self, trial: str, model: str, key: str, peak: float) -> list[Finding]:
        content = self._content(model, key)
        load = OpenLoop(self._system.replica.address, content, TIMES * peak, OPEN_CONNECTIONS, self._pacer)
        await load.start()
        await asyncio.sleep(WARM_S)
        load.clear()
        await asyncio.sleep(SECONDS)
        good = len(load.by_status.get(b"200", ())) / SECONDS
        refused = [taken for status, times in load.by_status.items() if status != b"200" for taken in times]
        unsent = load.unsent
        load.stop()
        self._system.books.add(load.answered, load.abandoned)
        slowest_us = latencies_us(refused).get(99)
        return [
            Finding(trial, GATEWAY, "calls a second that can be served", peak),
            Finding(trial, GATEWAY, GOODPUT, 100 * good / peak),
            Finding(trial, GATEWAY, "refused a second", len(refused) / SECONDS),
            *([] if slowest_us is None else [Finding(trial, GATEWAY, REFUSALS, slowest_us / 1e3)]),
            Finding(trial, GATEWAY, UNSENT, unsent),
        ]

    def _content(self, model: str, key: str) -> bytes:
        return request.post(OPENAI.path, request.body(OPENAI, model, prompt_bytes=256, stream=False), key)
