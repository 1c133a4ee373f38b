"""One connection to Redis: batches of commands leave in one write each, replies are told apart by their order alone.

So a reply that never came must not let every later one be taken for the one before it. A batch's replies are handed
out when the whole batch has them, and two batches on the way have a mark between them, which Redis sends back: what is
out of step ends the connection before anybody has got another one's reply.

How large and how deep a reply may be is left to hiredis and to Redis, whom we trust (512 MB a text). Time bounds it:
what is not there at the deadline is waited for no longer.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from hiredis import ProtocolError, Reader
from redis.asyncio.connection import DefaultParser
from redis.exceptions import ConnectionError, ResponseError

from gateway.errors import LimitsUnavailable

FLIGHTS_MAX = 16
"""batches on the way at a time; what is asked meanwhile leaves in larger ones"""
UNSENT_BYTES_MAX = 1_048_576
"""written and not taken by the system yet; beyond that nothing more is written"""
NOT_YET = object()
_PING = b"*2\r\n$4\r\nPING\r\n$%d\r\n%b\r\n"

Asked = tuple[bytes, "asyncio.Future[Any]", float]
"""a command as it is sent, what waits for its reply, and since when (the loop's seconds)"""


class OutOfStep(Exception):
    """Redis said something that it was not asked, or did not answer."""


class Batch:
    """Commands that are sent, and answered, as one."""

    __slots__ = ("again", "asked", "mark", "missing", "replies")

    def __init__(self, asked: list[Asked], *, again: bool = False) -> None:
        self.asked = asked
        self.again = again
        """whether it is not to be sent another time"""
        self.replies: list[Any] = []
        self.missing = len(asked)
        self.mark: bytes | None = None
        """what Redis sends back behind this batch"""

    def once_more(self) -> "Batch":
        """Those of its commands that somebody still waits for."""
        return Batch([one for one in self.asked if not one[1].done()], again=True)

    def fail(self) -> None:
        for _, reply, _ in self.asked:
            refuse(reply)


def refuse(reply: "asyncio.Future[Any]") -> None:
    """Nobody knows whether the command ran, or will."""
    if not reply.done():
        reply.set_exception(LimitsUnavailable())


class Wire(asyncio.Protocol):
    """`on_room` hears when batches have landed; `on_end` gets, once, those that may be sent on another connection."""

    def __init__(self, on_room: Callable[[], None], on_end: Callable[["Wire", list[Batch]], None]) -> None:
        self._on_room = on_room
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(replyError=DefaultParser.parse_error, notEnoughData=NOT_YET)
        self._transport: asyncio.Transport | None = None
        self._flights: deque[Batch] = deque()
        self._marks = count()
        self._heard_s = 0.0
        self._full = False
        self._turned_away = False
        self.ended = False

    @property
    def flights(self) -> Sequence[Batch]:
        """What is on the way, oldest first."""
        return self._flights

    @property
    def has_room(self) -> bool:
        return not self._full and len(self._flights) < FLIGHTS_MAX

    @property
    def silent_since_s(self) -> float | None:
        """Since when Redis owes an answer and has said nothing; None: it owes none."""
        return max(self._heard_s, self._flights[0].asked[0][2]) if self._flights else None

    def send(self, batch: Batch) -> None:
        assert self._transport
        parts = [packed for packed, _, _ in batch.asked]
        if self._flights:
            before = self._flights[-1]
            before.mark = b"%d" % next(self._marks)
            before.missing += 1
            parts.insert(0, _PING % (len(before.mark), before.mark))
        self._flights.append(batch)
        self._transport.write(b"".join(parts))

    def cut(self) -> None:
        """End it: what is on the way has failed."""
        self._end(fails=True)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(high=UNSENT_BYTES_MAX)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._on_room()

    def data_received(self, data: bytes) -> None:
        if self.ended:
            return
        self._heard_s = self._loop.time()
        try:
            self._read(data)
        except (ProtocolError, OutOfStep):
            self.cut()
            return
        if self._turned_away:
            self._end(fails=False)
        else:
            self._on_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(fails=False)

    def _read(self, data: bytes) -> None:
        self._reader.feed(data)
        flights, gets = self._flights, self._reader.gets
        while (reply := gets()) is not NOT_YET:
            if not flights:
                raise OutOfStep
            batch = flights[0]
            batch.replies.append(reply)
            batch.missing -= 1
            if not batch.missing:
                self._hand_out(batch)
                flights.popleft()

    def _hand_out(self, batch: Batch) -> None:
        replies = batch.replies
        if batch.mark is not None and replies.pop() != batch.mark:
            raise OutOfStep
        for (_, waiting, _), reply in zip(batch.asked, replies, strict=True):
            if isinstance(reply, Exception):
                self._hand_error(waiting, reply)
            elif not waiting.done():
                waiting.set_result(reply)

    def _hand_error(self, waiting: "asyncio.Future[Any]", error: Exception) -> None:
        if not isinstance(error, ResponseError):
            self._turned_away |= isinstance(error, ConnectionError)  # it loads, or does not know us any more
            refuse(waiting)
        elif not waiting.done():
            waiting.set_exception(error)

    def _end(self, *, fails: bool) -> None:
        if self.ended:
            return
        self.ended = True
        if self._transport:
            self._transport.abort()
        flights, self._flights = self._flights, deque()
        may_go = []
        for batch in flights:
            if fails or batch.again:
                batch.fail()
            else:
                may_go.append(batch.once_more())
        self._on_end(self, may_go)
