"""Two kinds of load: so many clients that each ask again when they are answered, and so many requests a second."""

import asyncio
import time
from collections.abc import Callable

from tests.bench.connection import Connection
from tests.bench.pacer import Pacer
from tests.bench.tally import Tally

Address = tuple[str, int]
DIALS_AT_ONCE = 256
POLL_S = 0.01
_SECOND_NS = 10**9


async def dial(address: Address, ended: Callable[[Connection], None], *, timed: bool = False) -> Connection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(ended, timed=timed), *address)
    return connection


async def dial_many(
    address: Address, count: int, ended: Callable[[Connection], None], *, timed: bool = False
) -> list[Connection]:
    found: list[Connection] = []
    while len(found) < count:
        few = min(DIALS_AT_ONCE, count - len(found))
        found += await asyncio.gather(*(dial(address, ended, timed=timed) for _ in range(few)))
    return found


class ClosedLoop:
    """`connections` clients. What they see goes into `tally`.

    `spread_ms`: over so long they begin, so that their streams do not end together.
    """

    def __init__(
        self, address: Address, request: bytes, connections: int, *, timed: bool = False, spread_ms: float = 0
    ) -> None:
        self.tally = Tally()
        self._address = address
        self._request = request
        self._count = connections
        self._timed = timed
        self._spread_s = spread_ms / 1000
        self._connections: list[Connection] = []
        self._dials: set[asyncio.Task[None]] = set()
        self._wanted = True
        self.answered = 0
        """requests that were answered well, whole"""
        self.abandoned = 0

    async def start(self) -> None:
        self._connections = await dial_many(self._address, self._count, self._again, timed=self._timed)
        for connection in self._connections:
            connection.send(self._request, self.tally)
            await asyncio.sleep(self._spread_s / self._count)

    async def all_answered(self, within_s: float) -> None:
        """Wait until every client has had an answer or its beginning. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while self.answering < self._count:
                await asyncio.sleep(POLL_S)

    def stop(self) -> None:
        """Leave at once, in the midst of answers."""
        self._wanted = False
        for connection in self._connections:
            self.abandoned += connection.busy
            connection.leave()
        for dial in self._dials:
            dial.cancel()

    @property
    def answering(self) -> int:
        return sum(connection.answered for connection in self._connections)

    def _again(self, connection: Connection) -> None:
        self.answered += connection.well
        self.abandoned += not connection.whole
        if connection.open and not connection.transport.is_closing():
            connection.send(self._request, self.tally)
        elif self._wanted:
            self._connections.remove(connection)
            task = asyncio.create_task(self._replace())
            self._dials.add(task)
            task.add_done_callback(self._dials.discard)

    async def _replace(self) -> None:
        try:
            connection = await dial(self._address, self._again, timed=self._timed)
        except OSError:
            self.tally.errors["no connection"] += 1
            return
        self._connections.append(connection)
        connection.send(self._request, self.tally)


class OpenLoop:
    """`per_s` requests a second, whatever becomes of them, over connections that are free: at most `connections`.

    A request that finds none free is counted as not sent. Times are from when a request was due.
    """

    def __init__(self, address: Address, request: bytes, per_s: float, connections: int, pacer: Pacer) -> None:
        self.by_status: dict[bytes, list[int]] = {}
        """how long answers took, in nanoseconds"""
        self.offered = 0
        self.unsent = 0
        self.answered = 0
        self.abandoned = 0
        self.tally = Tally()
        self._address = address
        self._request = request
        self._gap_ns = int(_SECOND_NS / per_s)
        self._count = connections
        self._pacer = pacer
        self._free: list[Connection] = []
        self._all: list[Connection] = []
        self._due_ns = 0
        self._wanted = True

    async def start(self) -> None:
        self._all = await dial_many(self._address, self._count, self._answered)
        self._free = list(self._all)
        self._due_ns = time.monotonic_ns()
        self._next()

    def stop(self) -> None:
        self._wanted = False
        for connection in self._all:
            self.abandoned += connection.busy
            connection.leave()

    def clear(self) -> None:
        self.by_status, self.offered, self.unsent = {}, 0, 0
        self.tally.clear()

    def _next(self) -> None:
        now_ns = time.monotonic_ns()
        while self._wanted and self._due_ns <= now_ns:
            self.offered += 1
            if self._free:
                self._free.pop().send(self._request, self.tally, self._due_ns)
            else:
                self.unsent += 1
            self._due_ns += self._gap_ns
        if self._wanted:
            self._pacer.at(self._due_ns, self._next)

    def _answered(self, connection: Connection) -> None:
        self.answered += connection.well
        self.abandoned += not connection.whole
        took_ns = time.monotonic_ns() - connection.sent_ns
        self.by_status.setdefault(connection.status or b"cut", []).append(took_ns)
        if connection.open and not connection.transport.is_closing():
            self._free.append(connection)
