"""Where requests wait unread: on their connections, while more have been read than can be worked on.

To read a request and to refuse it costs nearly as much as to serve it: a replica that is asked for many times what it
can do would do nothing else, and its loop would be too slow for Redis' deadlines. One that leaves requests in their
sockets goes on serving as many as ever, in the order of coming.
"""

import asyncio
import select
from collections import deque
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.gate import Gate

WAITING_MIN = 1_024
"""calls that wait at the gate: less than half a second of work; from then on no further ones are read"""
AT_ONCE_MAX = 128
"""read in one turn of the loop: few enough for it to be short"""
LOOK_S = 0.01
"""between two looks for room"""
UNREAD_S_MAX = 30.0
"""what has waited for so long is read all the same"""
UNREAD_BYTES_MAX = 64 << 20
"""the first bytes of all requests that wait; beyond that they are read"""
CALL = b"POST "
NO_CALL = b"POST /admin"
"""the admin API is heard at any time, as are balancers, who ask with GET"""
GONE = getattr(select, "POLLRDHUP", 0)


class Threshold:
    """Of all connections of a replica: as many requests can wait as there are connections."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._unread: deque[tuple[float, Protocol]] = deque()
        """since when"""
        self._bytes = 0
        self._look_timer: asyncio.TimerHandle | None = None
        self._read_now = 0
        """in this turn of the loop"""
        self._ends = False

    def passes(self) -> bool:
        """Whether a request can be read now; else it is to `wait`."""
        if self._bytes > UNREAD_BYTES_MAX:
            return True
        if self._unread or self._room() <= self._read_now:
            return False
        if not self._read_now:
            asyncio.get_running_loop().call_soon(self._turned)
        self._read_now += 1
        return True

    def wait(self, connection: "Protocol") -> None:
        """It reads on when it is its turn."""
        loop = asyncio.get_running_loop()
        self._unread.append((loop.time(), connection))
        self._count()
        self._bytes += len(connection.unread)
        if self._look_timer is None:
            self._look_timer = loop.call_later(LOOK_S, self._look)

    def end(self) -> None:
        """The replica ends: nobody waits for the gate any more, and all that is left is read soon."""
        self._ends = True

    def _room(self) -> int:
        """How many can be read in one turn."""
        return AT_ONCE_MAX if self._ends else min(WAITING_MIN - self._gate.waiting, AT_ONCE_MAX)

    def _turned(self) -> None:
        self._read_now = 0

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        room, overdue_s = self._room(), loop.time() - UNREAD_S_MAX
        for number in range(min(AT_ONCE_MAX, len(self._unread))):
            since_s, connection = self._unread[0]
            if number >= room and since_s > overdue_s:
                break
            self._unread.popleft()
            self._bytes -= len(connection.unread)
            loop.call_soon(connection.read_on)
        self._count()
        self._look_timer = loop.call_later(LOOK_S, self._look) if self._unread else None

    def _count(self) -> None:
        self._gate.unread = len(self._unread)


class Protocol(HttpToolsProtocol):
    """uvicorn's. What begins with a call waits at the threshold until it is read."""

    __slots__ = ("_threshold", "unread")  # in uvicorn's dictionary of attributes they would cost a connection 1 KiB

    def __init__(self, threshold: Threshold, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._threshold = threshold
        self.unread = b""
        """what waits, if it does"""

    def data_received(self, data: bytes) -> None:
        if not self._begins_call(data) or self._threshold.passes():
            super().data_received(data)
            return
        self._unset_keepalive_if_required()
        self.flow.pause_reading()
        self.unread = data
        self._threshold.wait(self)

    def read_on(self) -> None:
        data, self.unread = self.unread, b""
        if self.transport.is_closing():
            return
        if self._has_left():
            self.transport.close()
            return
        self.flow.resume_reading()
        super().data_received(data)

    def _begins_call(self, data: bytes) -> bool:
        idle = self.cycle is None or self.cycle.response_complete
        return idle and data.startswith(CALL) and not data.startswith(NO_CALL)

    def _has_left(self) -> bool:
        """While nothing is read from it, nobody is told that the client has closed the connection."""
        looked = select.poll()
        looked.register(self.transport.get_extra_info("socket").fileno(), GONE)
        return bool(looked.poll(0))
