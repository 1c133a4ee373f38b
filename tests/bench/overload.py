"""Ten times what can be served is asked for: as much is served as before, and the rest hears no at once."""

import asyncio
import time

from msgspec import Struct

from tests.bench import meter, request
from tests.bench.finding import ERRORS, Finding
from tests.bench.load import ClosedLoop, OpenLoop
from tests.bench.meter import Meter, latencies_us
from tests.bench.nodes import free_address
from tests.bench.pacer import Pacer
from tests.bench.request import OPENAI
from tests.bench.sample import FOREIGN_SHARE_MAX
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
HERD_CONNECTIONS = 8_192
"""enough for all that a replica lets wait for their turn, and as many to refuse"""
GOODPUT, REFUSALS, UNSENT = "goodput, % of peak", "refusals' p99 ms", "requests a second that could not be sent"
PEAK, ASKED = "calls a second that can be served", "requests a second sent"


class Served(Struct, frozen=True):
    """Good answers a second; of one core, what the replica used for them; whether others used the cores."""

    per_s: float
    core_share: float
    noisy: bool


class Overload:
    def __init__(self, system: System) -> None:
        self._system = system
        self._meter = Meter(system)
        self._pacer = Pacer()

    async def all(self) -> list[Finding]:
        try:
            return await self._of_the_replica() + await self._of_a_key() + await self._of_nodes()
        finally:
            self._pacer.close()

    async def _of_the_replica(self) -> list[Finding]:
        """Its core is what is short. Ten times the clients, each asking again when it is answered; then ten times the
        calls a second, however many of the last ones are not answered yet."""
        peak = await self._served(QUICK_MODEL, CONNECTIONS)
        many = await self._served(QUICK_MODEL, TIMES * CONNECTIONS)
        trial = f"overload: {TIMES}x the clients"
        if not peak.per_s:
            return [Finding(trial, GATEWAY, ERRORS, 1)]
        await self._system.rest()
        return [
            Finding(trial, GATEWAY, PEAK, peak.per_s, peak.noisy),
            Finding(trial, GATEWAY, "% of a core that the replica uses for that", 100 * peak.core_share, peak.noisy),
            Finding(trial, GATEWAY, GOODPUT, 100 * many.per_s / peak.per_s, peak.noisy or many.noisy),
            *await self._offered(
                f"overload: {TIMES}x the replica's peak", QUICK_MODEL, self._system.key, peak.per_s, HERD_CONNECTIONS
            ),
        ]

    async def _of_a_key(self) -> list[Finding]:
        """Ten times what the key's limit lets in."""
        key = await self._system.replica.create_key(rate_limit_per_min=KEY_PER_S * 60, burst=KEY_PER_S)
        return await self._offered(f"overload: {TIMES}x a key's limit", QUICK_MODEL, key, KEY_PER_S, OPEN_CONNECTIONS)

    async def _of_nodes(self) -> list[Finding]:
        """Ten times what the nodes can do: they have few slots, and the line is full."""
        address = free_address()
        await self._system.nodes.new_stub("small-node", address, [NODE_MODEL])
        name = await self._system.replica.add_node(f"http://{address[0]}:{address[1]}", slots=NODE_SLOTS)
        peak = await self._served(NODE_MODEL, 2 * NODE_SLOTS)
        trial = f"overload: {TIMES}x what nodes can do"
        if not peak.per_s:
            return [Finding(trial, GATEWAY, ERRORS, 1)]
        found = await self._offered(trial, NODE_MODEL, self._system.key, peak.per_s, OPEN_CONNECTIONS)
        await self._system.replica.remove_node(name)
        return found

    async def _served(self, model: str, connections: int) -> Served:
        """What so many clients get."""
        load = ClosedLoop(self._system.replica.address, self._content(model, self._system.key), connections)
        pids = self._system.pids(GATEWAY)
        await load.start()
        await asyncio.sleep(WARM_S)
        before, answered = self._meter.usage(pids), load.answered
        await asyncio.sleep(SECONDS)
        served = load.answered - answered
        after = self._meter.usage(pids)
        load.stop()
        self._system.books.add(load.answered, load.abandoned)
        noisy = meter.foreign_share(before, after) > FOREIGN_SHARE_MAX
        return Served(served / (after.at_s - before.at_s), meter.core_share(before, after), noisy)

    async def _offered(self, trial: str, model: str, key: str, peak: float, connections: int) -> list[Finding]:
        content, pids = self._content(model, key), self._system.pids(GATEWAY)
        load = OpenLoop(self._system.replica.address, content, TIMES * peak, connections, self._pacer)
        await load.start()
        await asyncio.sleep(WARM_S)
        before, clients_s = self._meter.usage(pids), time.process_time()
        load.clear()
        await asyncio.sleep(SECONDS)
        after, clients_s = self._meter.usage(pids), time.process_time() - clients_s
        load.stop()
        self._system.books.add(load.answered, load.abandoned)
        await self._system.rest()
        seconds, noisy = after.at_s - before.at_s, meter.foreign_share(before, after) > FOREIGN_SHARE_MAX
        return [
            *_findings(trial, load, peak, seconds, noisy=noisy),
            Finding(trial, GATEWAY, "% of a core that the replica uses", 100 * meter.core_share(before, after), noisy),
            Finding(trial, GATEWAY, "% of the other core that these clients use", 100 * clients_s / seconds, noisy),
        ]

    def _content(self, model: str, key: str) -> bytes:
        return request.post(OPENAI.path, request.body(OPENAI, model, prompt_bytes=256, stream=False), key)


def _findings(trial: str, load: OpenLoop, peak: float, seconds: float, *, noisy: bool) -> list[Finding]:
    """What `load` has seen in so many seconds."""
    good = len(load.by_status.get(b"200", ()))
    refused = [taken for status, times in load.by_status.items() if status != b"200" for taken in times]
    found = {
        PEAK: peak,
        ASKED: (load.offered - load.unsent) / seconds,
        UNSENT: load.unsent / seconds,
        GOODPUT: 100 * good / seconds / peak,
        "refused a second": len(refused) / seconds,
        **({REFUSALS: latencies_us(refused)[99] / 1e3} if refused else {}),
    }
    return [Finding(trial, GATEWAY, what, value, noisy) for what, value in found.items()]
