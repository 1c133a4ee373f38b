"""What a node answers to one request, as it arrives: its head, and what of its body nobody has taken yet."""

import asyncio
from collections.abc import Callable
from typing import Protocol

UNREAD_BYTES_MAX = 256 << 10
"""more than that is left in the socket until somebody takes it; one read may come on top"""
TURN_BYTES_MAX = 64 << 10
"""of what is poured in one turn of the loop; one read may come on top"""
PARTS_MAX = 256
"""unread ones that are kept as they came; what follows is put together, for a byte of its own takes forty"""


class Broken(Exception):
    """What came is not an answer, or not all of one, or the connection was lost."""


class Source(Protocol):
    """Where a reply comes from."""

    def close(self) -> None:
        """At once. Who reads from it is not told."""

    def resume(self) -> None:
        """Read on, if that was stopped."""


class Reply:
    """What came for one request. Its connection is let go with the last byte, and may serve others then.

    One reader waits at a time: `if not has(n): await more(n)`, then `take()`; or `await pour(…)`, once.
    """

    __slots__ = (
        "_connection", "_drains", "_enough", "_into", "_loop", "_parts", "_tail", "_waiter", "complete", "encoded",
        "ends_with_connection", "failure", "status", "unread_bytes",
    )  # fmt: skip

    def __init__(self, connection: Source, loop: asyncio.AbstractEventLoop) -> None:
        self._connection: Source | None = connection
        self._loop = loop
        self._parts: list[bytes | bytearray] = []
        self._enough = 0
        """unread bytes that the waiter waits for; 0: for the head"""
        self._waiter: asyncio.Future[None] | None = None
        self._into: Callable[[bytes], bool] | None = None
        """takes what comes while the waiter waits for the end"""
        self._drains = False
        self._tail: asyncio.TimerHandle | None = None
        self.status = 0
        """0: the head is not there yet"""
        self.encoded = False
        self.ends_with_connection = False
        self.complete = False
        self.failure: Exception | None = None
        """why there will be no more of it"""
        self.unread_bytes = 0

    def has(self, count: int) -> bool:
        """Whether so many bytes can be taken, or all there will ever be; 0: the head is there, or never will be."""
        return self.complete or self.failure is not None or (self.unread_bytes >= count and self.status != 0)

    def more(self, count: int) -> asyncio.Future[None]:
        """Done when `has(count)` is true."""
        self._enough = count
        self._waiter = waiter = self._loop.create_future()
        if self._connection:
            self._connection.resume()
        return waiter

    def take(self) -> bytes:
        """All that nobody has taken yet; b"" at the end, which was none if there is a `failure`."""
        parts = self._parts
        self._parts, self.unread_bytes = [], 0
        if self._connection:
            self._connection.resume()
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def pour(self, into: Callable[[bytes], bool]) -> asyncio.Future[None]:
        """All that is there, and what comes, is taken by `into` at once, which saves a task its turn for each piece.

        Done when that says it has enough, or when there will be no more. What it raises ends it too.
        """
        self._into = into
        waiter = self.more(1)
        self._flow()
        return waiter

    def close(self) -> None:
        """No more is wanted of it; that ends the work upstream, unless it has ended."""
        if self._connection:
            self._connection.close()
            self._end(None)

    def fail(self, error: Exception) -> None:
        """As `close`, for whoever waits for it to hear."""
        if self._connection:
            self._connection.close()
            self._end(error)

    def drain(self, seconds: float) -> None:
        """What still comes is dropped, so that the connection serves again when it was all; if that comes in time."""
        if self._connection:
            self._drains = True
            self._parts.clear()
            self.unread_bytes = 0
            self._connection.resume()
            self._tail = self._loop.call_later(seconds, self.close)

    def arrived(self, body: bytes) -> None:
        if self._drains:
            return
        count = len(self._parts)
        if count < PARTS_MAX:
            self._parts.append(body)
        elif count == PARTS_MAX:
            self._parts.append(bytearray(body))
        else:
            self._parts[-1] += body
        self.unread_bytes += len(body)

    def progressed(self) -> bool:
        """A read has been parsed. Whether nothing more should be read for now."""
        if self._into:
            return self._flowed()
        if self._waiter and self.has(self._enough):
            self._wake()
        return self.unread_bytes > UNREAD_BYTES_MAX and self.unread_bytes >= self._enough

    def ended(self) -> None:
        """All of it is there."""
        self.complete = True
        self._end(None)

    def lost(self, error: Exception | None) -> None:
        """The connection was. Without an error that is how some answers end."""
        if self.ends_with_connection and self.status and error is None:
            self.ended()
        else:
            self._end(Broken(f"lost: {type(error).__name__}" if error else "closed before the end"))

    def _end(self, failure: Exception | None) -> None:
        self._connection = None
        self.failure = failure
        if self._tail:
            self._tail.cancel()
        self._flow()
        self._wake()

    def _flowed(self) -> bool:
        """As `progressed`: after much of it others have their turn, for there may be as much again behind it."""
        much = self.unread_bytes > TURN_BYTES_MAX
        self._flow()
        if much and self._connection:
            self._loop.call_soon(self._connection.resume)
        return much

    def _flow(self) -> None:
        waiter, into = self._waiter, self._into
        self._into = None
        if into is None or waiter is None or waiter.done():
            return
        try:
            enough = self.unread_bytes > 0 and into(self.take())
        except Exception as error:
            if not waiter.done():
                waiter.set_exception(error)
            return
        if enough or self.complete or self.failure:
            self._wake()
        else:
            self._into = into

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter and not waiter.done():
            waiter.set_result(None)
