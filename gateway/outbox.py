"""Between a call, which makes bytes at the backend's pace, and its client's connection, which takes them at its own.

The call never waits for the client: Ollama can lose a slot for good when a client leaves while output is backed up
(reference: ollama-http section 5.8). So the buffer is bounded, and a client that falls too far behind is cut off.
"""

import asyncio
from collections.abc import Callable

from gateway.core.call import Admission, Queued, Trip
from gateway.errors import CallAbandoned, GatewayError

WAITING_BYTES_MAX = 4 << 20
NOTE_MS = 900
"""before the first note of a place in the line, and between two: the line tells of it every second, and none of that is
to be missed by a hair"""


class Outbox:
    """One call's way to one client. The call's side is synchronous; `take` is the client's side."""

    __slots__ = (
        "_ended", "_stop", "_taker", "_waiting", "admission", "begun", "gone", "last", "place", "reason", "refusal",
        "trip",
    )  # fmt: skip

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._ended = False
        self._taker: asyncio.Future[None] | None = None
        """the client's side, while it waits"""
        self._stop: Callable[[], object] | None = None
        self.reason: GatewayError | None = None
        """why no more bytes are wanted"""
        self.gone = False
        self.begun = False
        self.last: bytes | None = None
        """the end of the answer, kept back until the call is settled; None until it is known"""
        self.admission: Admission | None = None
        self.trip: Trip | None = None
        self.refusal: GatewayError | None = None
        self.place: Queued | None = None
        """where in the waiting line the call was at first, if it had to wait"""

    def put(self, data: bytes) -> None:
        """Bytes for the client. Too far behind, it counts as gone."""
        if not data or self.gone:
            return
        self.begun = True
        self._waiting += data
        if len(self._waiting) > WAITING_BYTES_MAX:
            self.leave()
        self._wake()

    def queued(self, place: Queued) -> None:
        """The call waits for a backend."""
        self.place = self.place or place

    def refuse(self, error: GatewayError) -> None:
        """Nothing was sent and nothing will be but this."""
        self.refusal = error
        self.end()

    def fail(self) -> None:
        """The call ended in a way nobody planned for: its client must neither wait on nor take this for a good end."""
        if self.begun and not self._ended:
            self.leave()
        elif not self._ended:
            self.refuse(GatewayError())

    def end(self) -> None:
        self._ended = True
        self._stop = None
        self._wake()

    def stops_with(self, stop: Callable[[], object]) -> None:
        """`stop` ends the making of bytes. It is called once, when that is no longer wanted, or now if it is not."""
        self._stop = stop
        if self.reason:
            stop()

    def leave(self) -> None:
        """The client is gone, or is taken to be."""
        self.gone = True
        self._wake()
        if not self._ended:
            self.cut(CallAbandoned())

    def cut(self, reason: GatewayError) -> None:
        """No more of the answer is wanted; the client, if it is there, is told why. The first reason counts."""
        if not self.reason:
            self.reason = reason
            if self._stop:
                self._stop()

    async def take(self) -> bytes | None:
        """All that is waiting, once something is; None at the end."""
        while not self._waiting:
            if self._ended or self.gone:
                return None
            self._taker = asyncio.get_running_loop().create_future()
            await self._taker
        data = bytes(self._waiting)
        self._waiting.clear()
        return data

    def _wake(self) -> None:
        if self._taker and not self._taker.done():
            self._taker.set_result(None)


class Notes:
    """Tells the client of a waiting call its place, in a stream that can say such things beside the answer.

    `written` makes a note of a place, b"" where there is no way to. `clock_ms` is monotonic.
    """

    __slots__ = ("_clock_ms", "_due_ms", "_out", "_said", "_written")

    def __init__(self, out: Outbox, written: Callable[[Queued], bytes], clock_ms: Callable[[], int]) -> None:
        self._out = out
        self._written = written
        self._clock_ms = clock_ms
        self._due_ms: int | None = None
        self._said = b""

    def queued(self, place: Queued) -> None:
        """The call waits. Its first note comes late: until then a refusal can be told with a status of its own."""
        self._out.queued(place)
        note, now_ms = self._written(place), self._clock_ms()
        if self._due_ms is None:
            self._due_ms = now_ms + NOTE_MS
        if now_ms >= self._due_ms and note != self._said:
            self._due_ms, self._said = now_ms + NOTE_MS, note
            self._out.put(note)
