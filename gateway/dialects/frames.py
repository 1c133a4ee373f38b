"""Framing: NDJSON lines out of pieces cut anywhere, and server-sent events."""

from gateway.errors import StreamBroken

LINE_BYTES_MAX = 1 << 20
SSE_DONE = b"data: [DONE]\n\n"


class Lines:
    """Splits a body into lines however it was cut. Owns no socket: it is fed bytes."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that are complete now, without their ends and without empty ones.

        Raises `StreamBroken` once a line grows beyond LINE_BYTES_MAX.
        """
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > LINE_BYTES_MAX:
            raise StreamBroken("The model server sent a line that is too long.")
        return [line for line in lines if line.strip()]

    def rest(self) -> list[bytes]:
        """What stands after the last line end, once the body has ended."""
        line, self._rest = self._rest, b""
        return [line] if line.strip() else []


def sse(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"
