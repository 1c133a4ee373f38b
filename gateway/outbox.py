"""Between a call, which makes bytes at the backend's pace, and its client's connection, which takes them at its own.

The call never waits for the client: Ollama can lose a slot for good when a client leaves while output is backed up
(reference: ollama-http section 5.8). So the buffer is bounded, and a client that falls too far behind is cut off.
"""

import asyncio
from collections.abc import Callable

from gateway.core.call import Admission, Trip
from gateway.errors import CallAbandoned, GatewayError

WAITING_BYTES_MAX = 4 << 20


class Outbox:
    """One call's way to one client. The call's side is synchronous; `take` is the client's side."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._ended = False
        self._changed = asyncio.Event()
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

    def put(self, data: bytes) -> None:
        """Bytes for the client. Too far behind, it counts as gone."""
        if not data or self.gone:
            return
        self.begun = True
        self._waiting += data
        if len(self._waiting) > WAITING_BYTES_MAX:
            self.leave()
        self._changed.set()

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
        self._changed.set()

    def stops_with(self, stop: Callable[[], object]) -> None:
        """`stop` ends the making of bytes. It is called once, when that is no longer wanted, or now if it is not."""
        self._stop = stop
        if self.reason:
            stop()

    def leave(self) -> None:
        """The client is gone, or is taken to be."""
        self.gone = True
        self._changed.set()
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
            self._changed.clear()
            await self._changed.wait()
        data = bytes(self._waiting)
        self._waiting.clear()
        return data
