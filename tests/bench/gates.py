"""What has to be so however fast it is: connections reused, nothing held back, leaving noticed, flat."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from msgspec import Struct

from tests.bench import request
from tests.bench.books import Books
from tests.bench.bounds import Bounds
from tests.bench.gate import Gate
from tests.bench.load import Address, ClosedLoop
from tests.bench.request import ANTHROPIC, NATIVE, OPENAI, Dialect
from tests.bench.stats import told

POLL_S = 0.01
PROMPT_BYTES = 64
SMALL = "s64"
STEADY = "n100000d10"
SILENT = "n2d3600000"
"""says one thing, and nothing more for an hour"""
STREAMED = (NATIVE, OPENAI, ANTHROPIC)
Found = tuple[bool, str]


BOUNDS = Bounds()
MODELS = (SMALL, STEADY, SILENT, BOUNDS.held_back)


class Subject(Struct, frozen=True, kw_only=True):
    """Who is asked: a gateway before one node. What becomes of its calls is written into `books`."""

    node: Address
    gateway: Address
    key: str
    books: Books
    cpu_ns: Callable[[], int]
    """that the gateway has used"""
    rest: Callable[[], Awaitable[None]]
    """waits until it has ended all that it was asked before; raises TimeoutError"""


class Gates:
    def __init__(self, subject: Subject, bounds: Bounds = BOUNDS) -> None:
        self._subject = subject
        self._bounds = bounds

    async def all(self) -> list[Gate]:
        found = [await self.reuse(), await self.flat()]
        for dialect in STREAMED:
            found += [await self.pieces(dialect), await self.leaving(dialect)]
        return found

    async def reuse(self) -> Gate:
        """There are no more connections than clients, however much these ask."""
        return await self._gate("connections to nodes are reused", self._reuse)

    async def flat(self) -> Gate:
        """A small request costs the same beside open streams."""
        name = f"flat with {self._bounds.streams} open streams (<= {self._bounds.flat_ratio_max}x)"
        return await self._gate(name, self._flat)

    async def pieces(self, dialect: Dialect) -> Gate:
        """Chunks that come one by one leave one by one, each at once."""
        name = f"first token not held back, nor others (<= {self._bounds.held_ms_max:.0f} ms), {dialect.name}"
        return await self._gate(name, partial(self._pieces, dialect))

    async def leaving(self, dialect: Dialect) -> Gate:
        """A client that leaves ends its request to the node."""
        name = f"node closed within {self._bounds.leave_s_max:g} s of leaving, {dialect.name}"
        return await self._gate(name, partial(self._leaving, dialect))

    async def _gate(self, name: str, ask: Callable[[], Awaitable[Found]]) -> Gate:
        """What does not answer has failed: it neither holds up the others nor takes the report with it."""
        try:
            await self._subject.rest()
            return Gate(name, *await ask())
        except TimeoutError:
            return Gate(name, False, f"not answered within {self._bounds.answer_s:g} s")
        except OSError as error:
            return Gate(name, False, f"no connection: {error}")

    async def _reuse(self) -> Found:
        bounds, load = self._bounds, self._load(NATIVE, SMALL, self._bounds.clients, stream=False)
        before = await told(self._subject.node)
        async with self._running(load):
            await load.answers(bounds.requests, bounds.answer_s)
            after = await told(self._subject.node)
            errors = load.tally.errors
            opened, asked = after.connections - before.connections, after.requests - before.requests
            few = opened - bounds.clients - bounds.opened_spare <= bounds.opened_share_max * asked
            return few and asked > 0 and not errors, f"{opened} opened for {asked} requests, {_told(errors)}"

    async def _flat(self) -> Found:
        bounds, node = self._bounds, self._subject.node
        alone_us, errors = await self._small_us()
        streams = self._load(OPENAI, SILENT, bounds.streams, stream=True)
        async with self._running(streams):
            beside_us, more = await self._small_us()
            there = (await told(node)).open
            errors += more + streams.tally.errors
        ratio = beside_us / alone_us if alone_us else float("inf")
        found = f"{alone_us:.0f} us, beside {there} streams {beside_us:.0f} us: {ratio:.2f}x, {_told(errors)}"
        return ratio <= bounds.flat_ratio_max and there >= bounds.streams and not errors, found

    async def _small_us(self) -> tuple[float, Counter[str]]:
        """What one costs, and what went wrong."""
        bounds, load = self._bounds, self._load(OPENAI, SMALL, self._bounds.flat_clients, stream=False)
        async with self._running(load):
            await load.answers(bounds.requests // 4, bounds.answer_s)
            failed = Counter(load.tally.errors)
            load.tally.clear()
            before_ns = self._subject.cpu_ns()
            await load.answers(bounds.requests, bounds.answer_s)
            used_ns = self._subject.cpu_ns() - before_ns
            return used_ns / 1e3 / load.tally.requests, failed + load.tally.errors

    async def _pieces(self, dialect: Dialect) -> Found:
        bounds = self._bounds
        for _ in range(bounds.tries):
            held_ms, errors = await self._held_ms(dialect)
            latest_ms = max(held_ms, default=0.0)
            if latest_ms <= bounds.held_ms_max:
                break
        found = f"{len(held_ms)} of {bounds.pieces} pieces, held {latest_ms:.1f} ms at most, {_told(errors)}"
        return len(held_ms) == bounds.pieces and latest_ms <= bounds.held_ms_max and not errors, found

    async def _held_ms(self, dialect: Dialect) -> tuple[list[float], Counter[str]]:
        """How long each piece was on its way, the first one together with the request; and what went wrong."""
        load = self._load(dialect, self._bounds.held_back, 1, stream=True, timed=True)
        async with self._running(load):
            await load.answers(1, self._bounds.answer_s)
            held_ns = load.tally.chunk_ns[: self._bounds.pieces]
            held_ns[:1] = load.tally.first_ns[:1]
            return [ns / 1e6 for ns in held_ns], Counter(load.tally.errors)

    async def _leaving(self, dialect: Dialect) -> Found:
        bounds, node = self._bounds, self._subject.node
        load = self._load(dialect, STEADY, bounds.leavers, stream=True)
        async with self._running(load):
            begun = (await told(node)).open
            took_s, left = await leave(node, load, bounds.leave_wait_s)
            found = (
                f"{begun - left} of {bounds.leavers} closed, the last after {took_s:.2f} s, {_told(load.tally.errors)}"
            )
            good = begun == bounds.leavers and not left and 0 <= took_s <= bounds.leave_s_max
            return good and not load.tally.errors, found

    def _load(self, dialect: Dialect, model: str, connections: int, *, stream: bool, timed: bool = False) -> ClosedLoop:
        body = request.body(dialect, model, prompt_bytes=PROMPT_BYTES, stream=stream)
        content = request.post(dialect.path, body, self._subject.key)
        return ClosedLoop(self._subject.gateway, content, connections, timed=timed)

    @asynccontextmanager
    async def _running(self, load: ClosedLoop) -> AsyncIterator[None]:
        """A load whose clients all have begun to be answered."""
        try:
            async with asyncio.timeout(self._bounds.answer_s):
                await load.start()
            await load.all_answered(self._bounds.answer_s)
            yield
        finally:
            load.stop()
            self._subject.books.add(load.answered, load.abandoned)


async def leave(node: Address, load: ClosedLoop, wait_s: float) -> tuple[float, int]:
    """Have all clients of a load leave. How long the node's last answer went on, and how many still do after
    `wait_s`."""
    left_s = time.monotonic()
    load.stop()
    while (now := await told(node)).open and time.monotonic() < left_s + wait_s:
        await asyncio.sleep(POLL_S)
    return (time.monotonic() if now.open else now.last_abort_s) - left_s, now.open


def _told(errors: Counter[str]) -> str:
    return "errors: " + (", ".join(f"{count} {what}" for what, count in errors.items() if count) or "0")
