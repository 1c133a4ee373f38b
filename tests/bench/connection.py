"""A client's connection: as little HTTP as it takes to see when an answer ends and how many chunks it had."""

import asyncio
import re
import time
from collections.abc import Callable
from typing import cast

from tests.bench.answers import MARK, STAMP_DIGITS
from tests.bench.tally import Tally

_STAMP = re.compile(rb"~(\d{%d})(\d{%d})" % (STAMP_DIGITS, STAMP_DIGITS))
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_END = b"\r\n0\r\n\r\n"
_OK = b"200"
_STATUS = slice(9, 12)


class Connection(asyncio.Protocol):
    """One exchange at a time. `ended` hears of each that is over, well or not; `timed`: look at the chunks' stamps."""

    def __init__(self, ended: Callable[["Connection"], None], *, timed: bool = False) -> None:
        self._ended = ended
        self._timed = timed
        self.busy = False
        self._head = b""
        self._left = 0
        """bytes to come; -1: until the last chunk"""
        self._tail = b""
        self._first = True
        self.tally = Tally()
        self.sent_ns = 0
        self.status = b""
        self.open = False
        self.whole = False
        """whether the last answer came to its end"""
        self.answered = False
        """ever, or begun to be"""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.open = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self.busy:
            self.tally.errors["cut"] += 1
            self._over()

    def send(self, request: bytes, tally: Tally, began_ns: int = 0) -> None:
        """`began_ns`: when it should have been sent, if that was earlier."""
        self.tally = tally
        self.busy, self._first, self.whole = True, True, False
        self._head, self._tail, self.status = b"", b"", b""
        self.sent_ns = began_ns or time.monotonic_ns()
        self.transport.write(request)

    @property
    def well(self) -> bool:
        """Whether the last answer was a good one, and whole."""
        return self.whole and self.status == _OK

    def leave(self) -> None:
        """Close at once, in the midst of an answer or not; nobody hears of it."""
        self.busy = False
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        if not self.busy:
            self.tally.errors["more than an answer"] += 1
            return
        if not self.status:
            data = self._head + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._head = data
                return
            self._begin(data, end)
            data = data[end + 2 :]  # with the end of a line, as chunks have before them
            self._left += 2 if self._left >= 0 else 0
        if chunks := data.count(MARK):
            self.tally.chunks += chunks
            if self._timed:
                self._time(data, now_ns)
        self._count_down(data, now_ns)

    def _begin(self, data: bytes, end: int) -> None:
        self.status = data[_STATUS]
        self.answered = True
        length = _LENGTH.search(data, 0, end + 2)
        self._left = int(length[1]) if length else -1

    def _time(self, data: bytes, now_ns: int) -> None:
        for received, left in _STAMP.findall(data):
            took_ns = now_ns - int(left)
            if self._first:
                self._first = False
                self.tally.first_ns.append(took_ns + int(received) - self.sent_ns)
            self.tally.chunk_ns.append(took_ns)

    def _count_down(self, data: bytes, now_ns: int) -> None:
        if self._left >= 0:
            self._left -= len(data)
            finished = self._left <= 0
        else:
            self._tail = (self._tail + data)[-len(_END) :]
            finished = self._tail == _END
        if finished:
            self.whole = True
            self.tally.requests += 1
            self.tally.whole_ns.append(now_ns - self.sent_ns)
            if self.status != _OK:
                self.tally.errors[self.status.decode("ascii", "replace")] += 1
            self._over()

    def _over(self) -> None:
        self.busy = False
        self._ended(self)
