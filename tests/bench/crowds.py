"""Trials with many streams at once: what an idle one takes, readers that stall, all clients leaving together."""

import asyncio
import resource

from tests.bench import processor, request
from tests.bench.finding import ERRORS, Finding
from tests.bench.gates import SILENT, leave
from tests.bench.load import Address, ClosedLoop
from tests.bench.request import NATIVE, OPENAI, Dialect
from tests.bench.scenario import GATEWAY, NGINX
from tests.bench.stalled import LONG, Stalled, settled
from tests.bench.stats import idle, told
from tests.bench.stub import HOSTS
from tests.bench.system import System

IDLE_STREAMS = 5_000
IDLE_STREAMS_MIN = 500
"""where files are allowed for fewer, the memory of one is not told apart from what a process takes anyway"""
FILES_SPARE = 1_000
"""open files that a process needs beside two a stream"""
QUIET_S = 6.0
"""how long idle streams are watched: longer than between two renewals of their leases"""
WARM_STREAMS = 50
STORM = 1_000
OPEN_PER_S = 500
"""streams begun: how a herd is received is what the overload trial is about"""
OUTPUT_TOKENS = 64
"""few: what thousands of calls reserve at once stays below the largest limit on tokens a minute that there is"""
OPEN_S = 120.0
MODELS = (LONG,)


class Crowds:
    def __init__(self, system: System) -> None:
        self._system = system

    async def all(self) -> list[Finding]:
        found = await self._idle_gateway() + await self._idle_nginx()
        for target in (GATEWAY, NGINX):
            if self._system.has(target):
                found += await Stalled(self._system, target).measure()
        return found + await self._storm()

    async def _idle_gateway(self) -> list[Finding]:
        """On a replica of its own: memory that others have given back would be used again unseen."""
        system = self._system
        names = [await system.replica.add_node(f"http://{host}:{system.nodes.slow[1]}") for host in HOSTS[1:]]
        replica = await system.new_replica("idle")
        try:
            pids = processor.tree(replica.child.pid)
            return await self._idle(GATEWAY, replica.address, OPENAI, pids)
        finally:
            await system.retire(replica)
            for name in names:
                await system.replica.remove_node(name)

    async def _idle_nginx(self) -> list[Finding]:
        if not self._system.has(NGINX):
            return []
        child, address = await self._system.nodes.new_nginx("idle-nginx")
        try:
            return await self._idle(NGINX, address, NATIVE, processor.tree(child.pid))
        finally:
            await child.kill()

    async def _idle(self, target: str, address: Address, dialect: Dialect, pids: list[int]) -> list[Finding]:
        warm = self._load(address, dialect, SILENT, WARM_STREAMS)
        await self._open(target, warm)
        self._end(target, warm)
        await idle(self._system.nodes.slow)
        count = min(IDLE_STREAMS, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - FILES_SPARE) // 2)
        if count < IDLE_STREAMS_MIN:
            return []
        kib, used_ns = processor.rss_kib(pids), processor.cpu_ns(pids)
        load = self._load(address, dialect, SILENT, count)
        await self._open(target, load)
        opened_ns = processor.cpu_ns(pids)
        await asyncio.sleep(QUIET_S)
        quiet_ns, more_kib = processor.cpu_ns(pids) - opened_ns, processor.rss_kib(pids) - kib
        await self._leave(target, load)
        trial = "idle_streams"
        return [
            Finding(trial, target, "streams", count),
            Finding(trial, target, ERRORS, load.tally.errors.total()),
            Finding(trial, target, "KiB a stream", more_kib / count),
            Finding(trial, target, "CPU us to open one", (opened_ns - used_ns) / 1e3 / count),
            Finding(trial, target, "% of a core while they are idle", quiet_ns / 1e7 / QUIET_S),
        ]

    async def _storm(self) -> list[Finding]:
        """All clients leave at once."""
        pids = self._system.pids(GATEWAY)
        load = self._load(self._system.replica.address, OPENAI, SILENT, STORM)
        await self._open(GATEWAY, load)
        used_ns = processor.cpu_ns(pids)
        took_s, left = await leave(self._system.nodes.slow, load, OPEN_S)
        await settled(pids)  # asking whether all is settled would cost more than settling
        ended_ns = processor.cpu_ns(pids) - used_ns
        self._end(GATEWAY, load)
        await self._system.rest()
        trial = "disconnect_storm"
        return [
            Finding(trial, GATEWAY, ERRORS, load.tally.errors.total() + left),
            Finding(trial, GATEWAY, "streams left open at the node", left),
            Finding(trial, GATEWAY, f"s until all {STORM} were closed", took_s),
            Finding(trial, GATEWAY, "CPU us to end one", ended_ns / 1e3 / STORM),
        ]

    def _load(self, address: Address, dialect: Dialect, model: str, connections: int) -> ClosedLoop:
        body = request.body(dialect, model, prompt_bytes=64, stream=True, output_tokens=OUTPUT_TOKENS)
        content = request.post(dialect.path, body, self._system.key)
        return ClosedLoop(address, content, connections, spread_ms=1_000 * connections / OPEN_PER_S)

    async def _open(self, target: str, load: ClosedLoop) -> None:
        """All its streams; none, if not all of them come. Raises TimeoutError."""
        try:
            await load.start()
            await load.all_answered(OPEN_S)
        except TimeoutError:
            self._end(target, load)
            raise

    def _end(self, target: str, load: ClosedLoop) -> None:
        load.stop()
        if target == GATEWAY:
            self._system.books.add(load.answered, load.abandoned)

    async def _leave(self, target: str, load: ClosedLoop) -> None:
        self._end(target, load)
        async with asyncio.timeout(OPEN_S):
            while (await told(self._system.nodes.slow)).open:
                await asyncio.sleep(1.0)
