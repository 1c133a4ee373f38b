"""Trials with many streams at once: what an idle one takes, readers that stall, all clients leaving together."""

import asyncio
import resource
import socket
import time

from tests.bench import processor, request
from tests.bench.finding import ERRORS, Finding
from tests.bench.gates import SILENT, SMALL, leave
from tests.bench.load import Address, ClosedLoop
from tests.bench.meter import latencies_us
from tests.bench.request import NATIVE, OPENAI, Dialect
from tests.bench.scenario import GATEWAY, NGINX
from tests.bench.stats import idle, told
from tests.bench.stub import HOSTS
from tests.bench.system import System

IDLE_STREAMS = 5_000
FILES_SPARE = 1_000
"""open files that a process needs beside two a stream"""
QUIET_S = 6.0
"""how long idle streams are watched: longer than between two renewals of their leases"""
WARM_STREAMS = 50
STALLED = 50
SETTLED_S_MAX = 60.0
SETTLED_LOOK_S = 0.5
SETTLED_SHARE = 0.1
"""of a core, below which a target has nothing more to do for those who stall"""
STALLED_BUFFER_BYTES = 4_096
LONG = "n60000"
"""a stream of some 8 MB, as fast as it is read"""
STORM = 1_000
BESIDE_CONNECTIONS = 4
BESIDE_S = 1.0
OPEN_PER_S = 500
"""streams begun: how a herd is received is what the overload trial is about"""
OUTPUT_TOKENS = 64
"""few: what thousands of calls reserve at once stays below the largest limit on tokens a minute that there is"""
OPEN_S = 120.0
MODELS = (LONG,)
_KIB_OF_MIB = 1_024


class Crowds:
    def __init__(self, system: System) -> None:
        self._system = system

    async def all(self) -> list[Finding]:
        found = await self._idle_gateway() + await self._idle_nginx()
        for target in (GATEWAY, NGINX):
            if self._system.has(target):
                found += await self._stalled(target)
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
        await warm.start()
        await warm.all_answered(OPEN_S)
        self._end(target, warm)
        await idle(self._system.nodes.slow)
        count = min(IDLE_STREAMS, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - FILES_SPARE) // 2)
        kib, used_ns = processor.rss_kib(pids), processor.cpu_ns(pids)
        load = self._load(address, dialect, SILENT, count)
        await load.start()
        await load.all_answered(OPEN_S)
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

    async def _stalled(self, target: str) -> list[Finding]:
        """Clients that ask for much and read nothing of it must cost little, and others nothing."""
        system = self._system
        address, dialect = system.address_of(target, quick=False), OPENAI if target == GATEWAY else NATIVE
        pids = system.pids(target)
        kib = processor.rss_kib(pids)
        content = request.post(dialect.path, request.body(dialect, LONG, prompt_bytes=64, stream=True), system.key)
        readers = [await _stalled_reader(address, content) for _ in range(STALLED)]
        settled_s = await _settled(pids)
        more_kib = processor.rss_kib(pids) - kib
        beside = self._load(address, dialect, SMALL, BESIDE_CONNECTIONS, stream=False)
        await beside.start()
        await asyncio.sleep(BESIDE_S)
        times_us = latencies_us(beside.tally.whole_ns)
        self._end(target, beside)
        for reader in readers:
            reader.close()
        if target == GATEWAY:
            system.books.add(0, STALLED)
        await idle(system.nodes.slow)
        trial = "stalled_readers"
        return [
            Finding(trial, target, "MiB a stream", more_kib / _KIB_OF_MIB / STALLED),
            Finding(trial, target, "s until nothing moved any more", settled_s),
            Finding(trial, target, "requests a second beside them", beside.tally.requests / BESIDE_S),
            Finding(trial, target, "p99 ms of these", times_us.get(99, 0.0) / 1e3),
            Finding(trial, target, ERRORS, beside.tally.errors.total() + (not times_us)),
        ]

    async def _storm(self) -> list[Finding]:
        """All clients leave at once."""
        replica = self._system.replica
        pids = self._system.pids(GATEWAY)
        load = self._load(replica.address, OPENAI, SILENT, STORM)
        await load.start()
        await load.all_answered(OPEN_S)
        used_ns = processor.cpu_ns(pids)
        took_s, left = await leave(self._system, load, OPEN_S)
        await replica.quiet()
        trial = "disconnect_storm"
        return [
            Finding(trial, GATEWAY, ERRORS, load.tally.errors.total()),
            Finding(trial, GATEWAY, "streams left open at the node", left),
            Finding(trial, GATEWAY, f"s until all {STORM} were closed", took_s),
            Finding(trial, GATEWAY, "CPU us to end one", (processor.cpu_ns(pids) - used_ns) / 1e3 / STORM),
        ]

    def _load(
        self, address: Address, dialect: Dialect, model: str, connections: int, *, stream: bool = True
    ) -> ClosedLoop:
        body = request.body(dialect, model, prompt_bytes=64, stream=stream, output_tokens=OUTPUT_TOKENS)
        content = request.post(dialect.path, body, self._system.key)
        return ClosedLoop(address, content, connections, spread_ms=1_000 * connections / OPEN_PER_S)

    def _end(self, target: str, load: ClosedLoop) -> None:
        load.stop()
        if target == GATEWAY:
            self._system.books.add(load.answered, load.abandoned)

    async def _leave(self, target: str, load: ClosedLoop) -> None:
        self._end(target, load)
        async with asyncio.timeout(OPEN_S):
            while (await told(self._system.nodes.slow)).open:
                await asyncio.sleep(1.0)


async def _settled(pids: list[int]) -> float:
    """Seconds until these processes had nothing much to do, or SETTLED_S_MAX."""
    began_s = time.monotonic()
    while (passed_s := time.monotonic() - began_s) < SETTLED_S_MAX:
        before_ns = processor.cpu_ns(pids)
        await asyncio.sleep(SETTLED_LOOK_S)
        if processor.cpu_ns(pids) - before_ns < SETTLED_SHARE * SETTLED_LOOK_S * 1e9:
            break
    return passed_s


async def _stalled_reader(address: Address, content: bytes) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STALLED_BUFFER_BYTES)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, address)
    await loop.sock_sendall(sock, content)
    return sock
