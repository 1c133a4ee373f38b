"""Just enough HTTP/1.1 to answer as Ollama does, with every chunk boundary, pause and rude close under control.

No framework: the fake must be able to send half a line and reset the connection, and must see at once that its client
has left. As with Ollama, a half-closed connection counts as left.
"""

import asyncio
import select
import socket
import struct
from collections.abc import Callable, Iterable
from email.utils import formatdate
from http import HTTPStatus

from msgspec import Struct

HEAD_BYTES_MAX = 65_536
BODY_BYTES_MAX = 256 * 2**20
JSON = "application/json; charset=utf-8"
NDJSON = "application/x-ndjson"
TEXT = "text/plain"
LEFT = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)
"""what the kernel says of a connection whose other side has closed it; macOS says it only of both directions"""


class Request(Struct, frozen=True):
    """One request. Header names are in lower case; `path` is without the query."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Malformed(Exception):
    """What came is not an HTTP/1.1 request that this server understands."""


class Reader(asyncio.StreamReader):
    """A stream that tells when the other side has left, even while nobody reads."""

    def __init__(self) -> None:
        super().__init__(limit=HEAD_BYTES_MAX)
        self.left = asyncio.Event()
        self.on_left: Callable[[], None] | None = None
        """called in that very moment, before whatever reaches the node after it"""

    def feed_eof(self) -> None:
        super().feed_eof()
        self._leave()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self._leave()

    def _leave(self) -> None:
        if not self.left.is_set() and self.on_left:
            self.on_left()
        self.left.set()


async def read_request(reader: Reader) -> Request | None:
    """The next request; None when the client closed instead of sending one. Raises `Malformed`."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    except asyncio.LimitOverrunError as error:
        raise Malformed("head too large") from error
    first, *lines = head.rstrip("\r\n").split("\r\n")
    try:
        method, target, _version = first.split(" ")
    except ValueError as error:
        raise Malformed("no request line") from error
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Request(method, target.partition("?")[0], headers, await _read_body(reader, headers))


async def _read_body(reader: Reader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        length = int(headers.get("content-length", "0"))
        if length > BODY_BYTES_MAX:
            raise Malformed("body too large")
        return await reader.readexactly(length)
    body = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        if len(body) + size > BODY_BYTES_MAX:
            raise Malformed("body too large")
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")  # Ollama's clients send no trailers
    return bytes(body)


class Wire:
    """The sending half of one exchange. Every method returns when the kernel has taken the bytes."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._unsent = b""
        self.backed_up = False
        """whether bytes wait here, or waited when the connection broke, because the client does not read"""
        self.was_reset = False
        """by this side"""
        self.on_last: Callable[[], None] | None = None
        """called in the very moment in which the last byte of an answer has left"""
        writer.transport.set_write_buffer_limits(high=0)

    def head(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Status and headers. As with Ollama they leave together with the first bytes of the body."""
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers)]
        self._unsent = "\r\n".join([*lines, "", ""]).encode("latin-1")

    async def chunk(self, data: bytes, *, last: bool = False) -> None:
        """One HTTP chunk; the end of the body in the same write when it is the last."""
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data) + (b"0\r\n\r\n" if last else b""), last=last)

    async def end(self) -> None:
        await self.raw(b"0\r\n\r\n", last=True)

    async def raw(self, data: bytes, *, last: bool = False) -> None:
        self._writer.write(self._unsent + data)
        self._unsent = b""
        self.backed_up = self._writer.transport.get_write_buffer_size() > 0
        if last and not self.backed_up and self.on_last and not self._writer.transport.is_closing():
            self.on_last()
        await self._writer.drain()
        self.backed_up = False

    @property
    def left(self) -> bool:
        """Whether the client has closed the connection, even if nobody here has read as far as that yet."""
        if (sock := self._writer.get_extra_info("socket")) is None or sock.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(sock.fileno(), LEFT)
        return any(events & LEFT for _, events in poll.poll(0))

    def reset(self) -> None:
        """Close abruptly: the client gets RST, and whatever it has not read yet is lost to it."""
        self.was_reset = True
        if (sock := self._writer.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


def fixed(content_type: str, length: int) -> list[tuple[str, str]]:
    """Headers of a body sent whole, in Ollama's order."""
    return [("Content-Type", content_type), ("Date", formatdate(usegmt=True)), ("Content-Length", str(length))]


def chunked(content_type: str) -> list[tuple[str, str]]:
    """Headers of a body sent in chunks, in Ollama's order."""
    return [("Content-Type", content_type), ("Date", formatdate(usegmt=True)), ("Transfer-Encoding", "chunked")]
