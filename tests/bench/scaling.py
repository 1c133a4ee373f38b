"""More than one replica, the worker, Redis: what else a system's throughput hangs on."""

import asyncio
import time
from collections.abc import Callable

from msgspec import Struct

from tests.bench import meter, processor, request, wrk
from tests.bench.admissions import Admissions
from tests.bench.finding import ERRORS, Finding
from tests.bench.gateway import Replica
from tests.bench.load import Address, ClosedLoop
from tests.bench.meter import Meter
from tests.bench.request import OPENAI
from tests.bench.sample import FOREIGN_SHARE_MAX
from tests.bench.scenario import GATEWAY, QUICK_MODEL
from tests.bench.system import System

CONNECTIONS = 32
WARM_S = 1.0
SECONDS = 4.0
POLL_S = 0.02
DRAIN_S = 300.0
EVENTS_MIN = 1_000
"""fewer say nothing of a rate"""
FULL_SHARE = 0.9
"""of its cores: a machine with no more to spare is what holds replicas back"""
WORKER = "worker"
REPLICAS = "replicas"


class Rate(Struct, frozen=True, kw_only=True):
    """What replicas have done: good answers a second, how much of a core each has used and Redis has, how much of the
    cores that the run is on anybody has used, and whether others used much of that."""

    per_s: float
    core_share: float
    redis_share: float
    full_share: float
    noisy: bool = False


class Scaling:
    def __init__(self, system: System, say: Callable[[str], None]) -> None:
        self._system = system
        self._meter = Meter(system)
        self._say = say

    async def all(self) -> list[Finding]:
        found = await self._replicas()
        return found + await Admissions(self._system).measure()

    async def _replicas(self) -> list[Finding]:
        """One on its core, then two on a core each. Everything else takes what they leave of these cores, or the others
        where there are more."""
        system = self._system
        if system.cores.shared:
            self._say("one core alone: two replicas are not measured")
            return []
        second = await system.new_replica("second", core=system.cores.rest)
        system.spread(set(system.cores.spare) or system.cores.used)
        try:
            one = await self._rate([system.replica])
            two = await self._rate([system.replica, second])
        finally:
            system.spread({system.cores.rest})
            await system.retire(second)
        return compared(one, two)

    async def _rate(self, replicas: list[Replica]) -> Rate:
        """What all of them do together."""
        addresses = [replica.address for replica in replicas]
        pids = [pid for replica in replicas for pid in processor.tree(replica.child.pid)]
        await self._per_s(addresses, WARM_S)
        before = self._meter.usage(pids)
        per_s = await self._per_s(addresses, SECONDS)
        after = self._meter.usage(pids)
        return Rate(
            per_s=per_s,
            core_share=meter.core_share(before, after) / len(replicas),
            redis_share=(after.redis_ns - before.redis_ns) / 1e9 / (after.at_s - before.at_s),
            full_share=meter.full_share(before, after),
            noisy=meter.foreign_share(before, after) > FOREIGN_SHARE_MAX,
        )

    async def _per_s(self, addresses: list[Address], seconds: float) -> float:
        """Good answers a second, to CONNECTIONS clients of each."""
        body = request.body(OPENAI, QUICK_MODEL, prompt_bytes=1_024, stream=False)
        served = self._by_wrk if wrk.PROGRAM else self._by_loop
        found = await asyncio.gather(*(served(address, body, seconds) for address in addresses))
        self._system.books.add(sum(count for count, _ in found), CONNECTIONS * len(addresses))
        return sum(count / took_s for count, took_s in found)

    async def _by_wrk(self, address: Address, body: bytes, seconds: float) -> tuple[int, float]:
        """Good answers, and the seconds that they took."""
        file = self._system.directory / f"scaling-{address[1]}.lua"
        file.write_text(wrk.script(OPENAI.path, self._system.key, body))
        told = await wrk.run(address, file, connections=CONNECTIONS, seconds=seconds)
        return told.requests - told.statuses, told.duration_us / 1e6

    async def _by_loop(self, address: Address, body: bytes, seconds: float) -> tuple[int, float]:
        load = ClosedLoop(address, request.post(OPENAI.path, body, self._system.key), CONNECTIONS)
        await load.start()
        began_s = time.monotonic()
        await asyncio.sleep(seconds)
        load.stop()
        return load.answered, time.monotonic() - began_s


def compared(one: Rate, two: Rate) -> list[Finding]:
    """What a second replica adds, and whether it is the machine that has no more to give rather than the replicas."""
    full = two.full_share >= FULL_SHARE > two.core_share
    limit = ", no more as the cores of the machine are full, and not with replicas alone" if full else ""
    found = {
        "requests a second of one": one.per_s,
        "requests a second of two": two.per_s,
        f"times as many with two{limit}": two.per_s / one.per_s if one.per_s else 0.0,
        "% of its core that one uses": 100 * one.core_share,
        "% of its core that each of two uses": 100 * two.core_share,
        "% of a core that Redis uses with one": 100 * one.redis_share,
        "% of a core that Redis uses with two": 100 * two.redis_share,
        "% of both cores that all together use with one": 100 * one.full_share,
        "% of both cores that all together use with two": 100 * two.full_share,
        ERRORS: float(not (one.per_s and two.per_s)),
    }
    return [Finding(REPLICAS, GATEWAY, what, value, one.noisy or two.noisy) for what, value in found.items()]


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
