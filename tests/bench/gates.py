"""What has to be so however fast it is: connections reused, nothing held back, leaving noticed, flat, accounted for."""

import asyncio
import time

from msgspec import Struct

from tests.bench import request
from tests.bench.answers import MARK
from tests.bench.books import disagreement
from tests.bench.finding import ERRORS, Finding
from tests.bench.load import ClosedLoop
from tests.bench.meter import Meter
from tests.bench.request import ANTHROPIC, NATIVE, OPENAI, Dialect
from tests.bench.sample import Figures
from tests.bench.scenario import GATEWAY
from tests.bench.stats import told
from tests.bench.system import System

REUSE_SHARE_MAX = 0.01
REUSE_S = 1.0
REUSE_CONNECTIONS = 32
REUSE_SPARE = 4
"""connections that asking how many there are, and probing, may open"""
PIECES = 5
PIECES_GAP_MS = 200
LEAVE_S_MAX = 1.0
LEAVERS = 50
FLAT_STREAMS = 500
FLAT_RATIO_MAX = 1.5
FLAT_S = 1.0
FLAT_CONNECTIONS = 8
OPEN_S = 60.0
POLL_S = 0.01
READ_BYTES = 65_536
SMALL = "s64"
STEADY = "n100000d10"
HELD_BACK = f"n{PIECES}d{PIECES_GAP_MS}"
SILENT = "n2d3600000"
"""says one thing, and nothing more for an hour"""
MODELS = (SMALL, STEADY, HELD_BACK, SILENT)
STREAMED = (NATIVE, OPENAI, ANTHROPIC)


class Gate(Struct, frozen=True):
    """Whether something is as it has to be, and what was found."""

    name: str
    good: bool
    found: str


class Gates:
    """Each is asked of the gateway of a system."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._meter = Meter(system)

    async def all(self) -> list[Gate]:
        """But for the accounting, which comes when everything else has ended."""
        found = [await gate() for gate in (self._reuse, self._flat)]
        for dialect in STREAMED:
            found += [await self._pieces(dialect), await self._leaving(dialect)]
        return found

    async def accounting(self) -> Gate:
        rows = await self._system.rows()
        wrong = disagreement(self._system.books, rows)
        return Gate("rows = admitted calls", not wrong, wrong or f"{rows.rows} of {rows.admitted}")

    async def _reuse(self) -> Gate:
        """Once there are as many connections as clients, there are no more of them."""
        load = self._load(NATIVE, SMALL, REUSE_CONNECTIONS, stream=False)
        await self._run(load, REUSE_S / 2)
        before = await told(self._system.nodes.slow)
        await asyncio.sleep(REUSE_S)
        after = await told(self._system.nodes.slow)
        self._end(load)
        opened, asked = after.connections - before.connections, after.requests - before.requests
        good = asked > 0 and not load.tally.errors and opened - REUSE_SPARE <= REUSE_SHARE_MAX * asked
        return Gate("connections to nodes are reused", good, f"{opened} opened for {asked} requests")

    async def _flat(self) -> Gate:
        """A small request costs the same beside open streams."""
        alone_us, failed = await self._small_us()
        streams = self._load(OPENAI, SILENT, FLAT_STREAMS, stream=True)
        await self._run(streams, 0)
        beside_us, failed_beside = await self._small_us()
        self._end(streams)
        ratio = beside_us / alone_us
        errors = failed + failed_beside + streams.tally.errors.total()
        found = f"{alone_us:.0f} us, beside {FLAT_STREAMS} streams {beside_us:.0f} us: {ratio:.2f}x, {errors} errors"
        good = ratio <= FLAT_RATIO_MAX and not errors
        return Gate(f"flat with {FLAT_STREAMS} open streams (<= {FLAT_RATIO_MAX}x)", good, found)

    async def _small_us(self) -> tuple[float, int]:
        """What one costs, and how many went wrong."""
        load = self._load(OPENAI, SMALL, FLAT_CONNECTIONS, stream=False)
        await self._run(load, FLAT_S / 4)
        pids = self._system.pids(GATEWAY)
        load.tally.clear()
        before = self._meter.usage(pids)
        await asyncio.sleep(FLAT_S)
        used_ns = self._meter.usage(pids).target_ns - before.target_ns
        self._end(load)
        return used_ns / 1e3 / max(1, load.tally.requests), load.tally.errors.total()

    async def _pieces(self, dialect: Dialect) -> Gate:
        """Chunks that come one by one leave one by one."""
        body = request.body(dialect, HELD_BACK, prompt_bytes=64, stream=True)
        reader, writer = await asyncio.open_connection(*self._system.replica.address)
        writer.write(request.post(dialect.path, body, self._system.key))
        times: list[float] = []
        chunks = 0
        async with asyncio.timeout(OPEN_S):
            while chunks < PIECES and (data := await reader.read(READ_BYTES)):
                chunks += data.count(MARK)
                times += [time.monotonic()] * (MARK in data)
        writer.close()
        self._system.books.add(0, 1)
        took_s = times[-1] - times[0] if times else 0.0
        good = len(times) >= PIECES and took_s >= (PIECES - 2) * PIECES_GAP_MS / 1000
        return Gate(f"first token not held back, {dialect.name}", good, f"{len(times)} pieces in {took_s:.2f} s")

    async def _leaving(self, dialect: Dialect) -> Gate:
        """A client that leaves ends its request to the node."""
        load = self._load(dialect, STEADY, LEAVERS, stream=True)
        await self._run(load, 0)
        begun = (await told(self._system.nodes.slow)).open
        took_s, left = await leave(self._system, load)
        found = f"{begun - left} of {LEAVERS} closed, the last after {took_s:.2f} s"
        good = begun == LEAVERS and not left and 0 <= took_s <= LEAVE_S_MAX
        return Gate(f"node closed within {LEAVE_S_MAX:.0f} s of leaving, {dialect.name}", good, found)

    def _load(self, dialect: Dialect, model: str, connections: int, *, stream: bool) -> ClosedLoop:
        body = request.body(dialect, model, prompt_bytes=64, stream=stream)
        content = request.post(dialect.path, body, self._system.key)
        return ClosedLoop(self._system.replica.address, content, connections)

    async def _run(self, load: ClosedLoop, seconds: float) -> None:
        await load.start()
        await load.all_answered(OPEN_S)
        await asyncio.sleep(seconds)

    def _end(self, load: ClosedLoop) -> None:
        load.stop()
        self._system.books.add(load.answered, load.abandoned)


async def leave(system: System, load: ClosedLoop, wait_s: float = 5 * LEAVE_S_MAX) -> tuple[float, int]:
    """Have all clients of a load leave. How long the node's last answer went on, and how many still do after
    `wait_s`."""
    left_s = time.monotonic()
    load.stop()
    system.books.add(load.answered, load.abandoned)
    while (now := await told(system.nodes.slow)).open and time.monotonic() < left_s + wait_s:
        await asyncio.sleep(POLL_S)
    return (time.monotonic() if now.open else now.last_abort_s) - left_s, now.open


def no_errors(results: dict[str, dict[str, Figures]], findings: list[Finding]) -> Gate:
    bad = [
        f"{scenario} {name}: {count} {what}"
        for scenario, by_name in results.items()
        for name, found in by_name.items()
        if name.startswith("gateway")
        for what, count in found.errors.items()
    ]
    bad += [f"{one.trial} {one.target}: {one.value:.0f}" for one in findings if one.what == ERRORS and one.value]
    return Gate("0 errors", not bad, "; ".join(bad) or "none")
