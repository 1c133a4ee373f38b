"""Framing: NDJSON lines out of pieces cut anywhere, and server-sent events."""

from gateway.errors import StreamBroken

LINE_BYTES_MAX = 4 << 20
TOO_LONG = "The model server sent a line that is too long."
SSE_DONE = b"data: [DONE]\n\n"


class Lines:
    """Splits a body into lines however it was cut. Owns no socket: it is fed bytes."""

    __slots__ = ("_bytes", "_parts")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._bytes = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that are complete now, without their ends and without empty ones.

        Raises `StreamBroken` once a line grows beyond LINE_BYTES_MAX.
        """
        if b"\n" not in piece:
            self._keep(piece)
            return []
        if self._bytes + piece.index(b"\n") > LINE_BYTES_MAX:
            raise StreamBroken(TOO_LONG)
        first, *lines = piece.split(b"\n")
        lines.insert(0, b"".join([*self._parts, first]))
        self._parts, self._bytes = [], 0
        self._keep(lines.pop())
        return [line for line in lines if line.strip()]

    def _keep(self, start: bytes) -> None:
        """The start of a line. Parts are joined only when it is whole, so that its cost does not grow with its cuts."""
        self._parts.append(start)
        self._bytes += len(start)
        if self._bytes > LINE_BYTES_MAX:
            raise StreamBroken(TOO_LONG)

    def rest(self) -> list[bytes]:
        """What stands after the last line end, once the body has ended."""
        line = b"".join(self._parts)
        self._parts, self._bytes = [], 0
        return [line] if line.strip() else []


def comment(words: str) -> bytes:
    """What readers of events are not shown."""
    return f": {words}\n\n".encode()


def sse(data: bytes, event: str = "") -> bytes:
    """One event. Its type stands before its data, where a dialect has types."""
    return (f"event: {event}\n".encode() if event else b"") + b"data: " + data + b"\n\n"
