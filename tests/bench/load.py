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


class Clients:
    """`count` connections; one that ends is replaced. What they see goes into `tally`."""

    def __init__(self, address: Address, request: bytes, count: int, *, timed: bool = False) -> None:
        self.tally = Tally()
        self.answered = 0
        """requests that were answered well, whole"""
        self.abandoned = 0
        self._address = address
        self._request = request
        self._count = count
        self._timed = timed
        self._connections: set[Connection] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self._wanted = True

    def stop(self) -> None:
        """Leave at once, in the midst of answers. To stop again changes nothing."""
        self._wanted = False
        for connection in self._connections:
            self.abandoned += connection.busy
            connection.leave()
        for dial in self._dials:
            dial.cancel()

    def _ready(self, connection: Connection) -> None:
        """One that may be asked on."""
        raise NotImplementedError

    async def _dial(self) -> None:
        while len(self._connections) < self._count:
            few = min(DIALS_AT_ONCE, self._count - len(self._connections))
            dials = (dial(self._address, self._over, timed=self._timed) for _ in range(few))
            self._connections.update(await asyncio.gather(*dials))

    def _over(self, connection: Connection) -> None:
        self.answered += connection.well
        self.abandoned += not connection.whole
        if connection.open and not connection.transport.is_closing():
            self._ready(connection)
        elif self._wanted:
            self._connections.discard(connection)
            task = asyncio.create_task(self._replace(answered=connection.answered))
            self._dials.add(task)
            task.add_done_callback(self._dials.discard)

    async def _replace(self, *, answered: bool) -> None:
        try:
            connection = await dial(self._address, self._over, timed=self._timed)
        except OSError:
            self.tally.errors["no connection"] += 1
            return
        connection.answered = answered
        self._connections.add(connection)
        self._ready(connection)


class ClosedLoop(Clients):
    """Each client asks again when it is answered.

    `spread_ms`: over so long they begin, so that their streams do not end together.
    """

    def __init__(
        self, address: Address, request: bytes, connections: int, *, timed: bool = False, spread_ms: float = 0
    ) -> None:
        super().__init__(address, request, connections, timed=timed)
        self._spread_s = spread_ms / 1000

    async def start(self) -> None:
        await self._dial()
        for connection in list(self._connections):
            connection.send(self._request, self.tally)
            await asyncio.sleep(self._spread_s / self._count)

    async def all_answered(self, within_s: float) -> None:
        """Wait until every client has had an answer or its beginning. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while self.answering < self._count:
                await asyncio.sleep(POLL_S)

    async def answers(self, count: int, within_s: float) -> None:
        """Wait until `tally` has so many whole answers, good or not. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while self.tally.requests < count:
                await asyncio.sleep(POLL_S)

    @property
    def answering(self) -> int:
        return sum(connection.answered for connection in self._connections)

    def _ready(self, connection: Connection) -> None:
        connection.send(self._request, self.tally)


class OpenLoop(Clients):
    """`per_s` requests a second, whatever becomes of them, over connections that are free: at most `connections`.

    A request that finds none free is counted as not sent. Times are from when a request was due.
    """

    def __init__(self, address: Address, request: bytes, per_s: float, connections: int, pacer: Pacer) -> None:
        super().__init__(address, request, connections)
        self.by_status: dict[bytes, list[int]] = {}
        """how long answers took, in nanoseconds"""
        self.offered = 0
        self.unsent = 0
        self._gap_ns = max(1, int(_SECOND_NS / per_s))
        self._pacer = pacer
        self._free: list[Connection] = []
        self._due_ns = 0

    async def start(self) -> None:
        await self._dial()
        self._free = list(self._connections)
        self._due_ns = time.monotonic_ns()
        self._next()

    def clear(self) -> None:
        self.by_status, self.offered, self.unsent = {}, 0, 0
        self.tally.clear()

    def _next(self) -> None:
        now_ns = time.monotonic_ns()
        while self._wanted and self._due_ns <= now_ns:
            self.offered += 1
            self._send()
            self._due_ns += self._gap_ns
        if self._wanted:
            self._pacer.at(self._due_ns, self._next)

    def _send(self) -> None:
        while self._free:
            connection = self._free.pop()
            if connection.open:
                connection.send(self._request, self.tally, self._due_ns)
                return
            self._connections.discard(connection)
        self.unsent += 1

    def _over(self, connection: Connection) -> None:
        took_ns = time.monotonic_ns() - connection.sent_ns
        self.by_status.setdefault(connection.status if connection.whole else b"cut", []).append(took_ns)
        super()._over(connection)

    def _ready(self, connection: Connection) -> None:
        self._free.append(connection)
