"""A trial with clients that ask for much and read nothing of it: they must cost little, and others nothing."""

import asyncio
import socket
import time
from collections.abc import Iterable

from msgspec import Struct

from tests.bench import processor, request
from tests.bench.finding import ERRORS, Finding
from tests.bench.gates import SMALL
from tests.bench.load import Address, ClosedLoop
from tests.bench.meter import latencies_us
from tests.bench.request import NATIVE, OPENAI
from tests.bench.scenario import GATEWAY
from tests.bench.system import System

TRIAL = "stalled_readers"
READERS = 50
BUFFER_BYTES = 4_096
LONG = "n60000"
"""a stream of some 8 MB, as fast as it is read"""
LOOK_S = 0.2
"""between two looks, each of which reads the metrics: that must not look like work for those who stall"""
LOOKS_MAX = 500
RUNNING = "gateway_running_calls"
BESIDE_CONNECTIONS = 4
BESIDE_S = 1.0
SETTLED_S_MAX = 60.0
SETTLED_LOOK_S = 0.5
SETTLED_SHARE = 0.1
"""of a core, below which a target has nothing more to do for those who stall"""
_KIB_OF_MIB = 1_024


class Look(Struct, frozen=True):
    """At one moment: memory that a target has taken since it began, and the readers whose calls it has not ended."""

    more_kib: int
    open: int


def peak(looks: Iterable[Look]) -> Look:
    """The most memory while any reader was there: what is left when all are cut says nothing of them."""
    return max((one for one in looks if one.open), key=lambda one: one.more_kib, default=Look(0, 0))


class Stalled:
    def __init__(self, system: System, target: str) -> None:
        self._system = system
        self._target = target
        self._address = system.address_of(target, quick=False)
        self._dialect = OPENAI if target == GATEWAY else NATIVE
        self._pids = system.pids(target)
        self._before_kib = processor.rss_kib(self._pids)
        self._readers: list[socket.socket] = []
        self._looks: list[Look] = []

    async def measure(self) -> list[Finding]:
        watching = asyncio.create_task(self._watch())
        try:
            content = self._content(LONG, stream=True)
            for _ in range(READERS):
                self._readers.append(await _reader(self._address, content))
            settled_s = await settled(self._pids)
            watching.cancel()
            beside = await self._beside()
        finally:
            watching.cancel()
            for reader in self._readers:
                reader.close()
            if self._target == GATEWAY:
                self._system.books.add(0, len(self._readers))
        await self._system.rest()
        return self._findings(beside, settled_s)

    def _findings(self, beside: ClosedLoop, settled_s: float) -> list[Finding]:
        most, times_us = peak(self._looks), latencies_us(beside.tally.whole_ns)
        found = {
            f"MiB for {READERS} readers, at most while any of them is served": most.more_kib / _KIB_OF_MIB,
            "MiB a reader": most.more_kib / _KIB_OF_MIB / READERS,
            "readers served then": most.open,
            "readers served when nothing moved any more": self._looks[-1].open if self._looks else 0,
            "s until nothing moved any more": settled_s,
            "requests a second beside them": beside.tally.requests / BESIDE_S,
            **({"p99 ms of these": times_us[99] / 1e3} if times_us else {}),
            ERRORS: beside.tally.errors.total() + (not times_us) + (not most.open),
        }
        return [Finding(TRIAL, self._target, what, value) for what, value in found.items()]

    async def _watch(self) -> None:
        while len(self._looks) < LOOKS_MAX:
            there = await self._served()
            self._looks.append(Look(processor.rss_kib(self._pids) - self._before_kib, there))
            await asyncio.sleep(LOOK_S)

    async def _served(self) -> int:
        """Readers whose calls run. nginx ends none of them before the trial is over."""
        if self._target != GATEWAY:
            return len(self._readers)
        return round(await self._system.replica.metric(RUNNING))

    async def _beside(self) -> ClosedLoop:
        """Small requests for a while, while the readers go on reading nothing."""
        load = ClosedLoop(self._address, self._content(SMALL, stream=False), BESIDE_CONNECTIONS)
        await load.start()
        await asyncio.sleep(BESIDE_S)
        load.stop()
        if self._target == GATEWAY:
            self._system.books.add(load.answered, load.abandoned)
        return load

    def _content(self, model: str, *, stream: bool) -> bytes:
        body = request.body(self._dialect, model, prompt_bytes=64, stream=stream)
        return request.post(self._dialect.path, body, self._system.key)


async def settled(pids: list[int]) -> float:
    """Seconds until these processes had nothing much to do, or SETTLED_S_MAX."""
    began_s = time.monotonic()
    while (passed_s := time.monotonic() - began_s) < SETTLED_S_MAX:
        before_ns = processor.cpu_ns(pids)
        await asyncio.sleep(SETTLED_LOOK_S)
        if processor.cpu_ns(pids) - before_ns < SETTLED_SHARE * SETTLED_LOOK_S * 1e9:
            break
    return passed_s


async def _reader(address: Address, content: bytes) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, address)
    await loop.sock_sendall(sock, content)
    return sock
