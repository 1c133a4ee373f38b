"""An answer that comes by the line: what arrives is counted and rendered at once, and what arrived together leaves
together."""

from collections.abc import Callable

from gateway.core.tally import Tally
from gateway.dialects import ollama
from gateway.dialects.asked import Renderer
from gateway.dialects.frames import Lines
from gateway.dialects.ollama import Reply
from gateway.errors import StreamBroken
from gateway.outbox import Outbox


class Feed:
    """From the bytes of one answer to the outbox of its call. `clock_ms` is monotonic."""

    __slots__ = ("_clock_ms", "_last", "_lines", "_out", "_progressed", "_renderer", "_tally")

    def __init__(
        self,
        renderer: Renderer,
        tally: Tally,
        out: Outbox,
        progressed: Callable[[Tally], None],
        clock_ms: Callable[[], int],
    ) -> None:
        self._renderer = renderer
        self._tally = tally
        self._out = out
        self._progressed = progressed
        self._clock_ms = clock_ms
        self._lines = Lines()
        self._last: Reply | None = None

    def take(self, piece: bytes) -> bool:
        """Whether the answer has ended with it: with its last line, or because the client wants no more."""
        self._batch(self._lines.feed(piece))
        if self._last:
            return True
        self._progressed(self._tally)
        return False

    def end(self) -> Reply:
        """The last line. Only `done` is a good end; raises `StreamBroken` where there was none."""
        if not self._last:
            self._batch(self._lines.rest())
        if not self._last:
            raise StreamBroken
        return self._last

    def _batch(self, lines: list[bytes]) -> None:
        frames = []
        try:
            for line in lines:
                reply = ollama.read(line)
                if reply.carries_tokens:
                    self._tally.saw_token(self._clock_ms())
                if reply.done:
                    self._last = reply
                    return
                frames.append(self._renderer.feed(reply))
                if self._renderer.ended:
                    self._last = ollama.CUT
                    return
        finally:
            self._out.put(b"".join(frames))
