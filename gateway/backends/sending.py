"""One request to one node, and its head as it is sent. Only our own headers and the trace's go upstream."""

import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from msgspec import Struct

from gateway.core.fleet import Node
from gateway.core.trace import Trace

HEADS_MAX = 4_096
"""that are kept ready: one for each node and path"""
_VISIBLE = re.compile("[!-~]*", re.ASCII)
_FIXED = (
    "Content-Type: application/json\r\n"
    "Accept: application/x-ndjson\r\n"
    "Accept-Encoding: identity\r\n"
)  # fmt: skip


class Patience(Struct, frozen=True):
    """Seconds: to connect, to the first byte, between bytes of a stream, for a whole answer."""

    connect_s: float
    first_byte_s: float
    idle_s: float
    total_s: float


class Sending(Struct, kw_only=True):
    """One request to one node; `on_sent` is called when the node is being given it.

    `expire` is there while the head is awaited: who calls it ends that wait as if time were over. `first_byte_s` 0: as
    long as the client's patience says.
    """

    node: Node
    path: str
    body: bytes
    on_sent: Callable[[], None]
    trace: Trace | None = None
    first_byte_s: float = 0.0
    expire: Callable[[], object] | None = None
    reused: bool = False
    """whether it went over a connection of an earlier request, which the node may have closed meanwhile"""


class Head(Protocol):
    """The head of a success, with the answer behind it."""

    def close(self) -> None:
        """It is not wanted any more, which ends the work upstream."""


AnyHead = TypeVar("AnyHead", bound=Head)


class Carry(Protocol):
    """Waits for the head of an answer, which may go on when nobody wants it any more."""

    def __call__(self, posting: Coroutine[Any, Any, AnyHead], /) -> Awaitable[AnyHead]: ...


class RequestHeads:
    """Makes the heads of requests; nearly all of one is the same for every request to a node."""

    def __init__(self) -> None:
        self._begun: dict[tuple[str, str, str], bytes] = {}

    def of(self, sending: Sending) -> bytes:
        """Raises `ValueError` for a node that cannot be asked in words of HTTP."""
        node = sending.node
        about = (node.url, node.bearer, sending.path)
        begun = self._begun.get(about)
        if begun is None:
            if len(self._begun) >= HEADS_MAX:
                self._begun.clear()
            begun = self._begun[about] = _begin(*about)
        if sending.trace is None:
            return b"%b%d\r\n\r\n" % (begun, len(sending.body))
        lines = "".join(f"{name}: {value}\r\n" for name, value in sending.trace.headers().items())
        return b"%b%d\r\n%b\r\n" % (begun, len(sending.body), lines.encode("ascii"))


def _begin(url: str, bearer: str, path: str) -> bytes:
    """All up to the length of the body."""
    parts = urlsplit(url)
    place, path = parts.netloc, parts.path + path
    if not all(_VISIBLE.fullmatch(text) for text in (place, path, bearer)):
        raise ValueError("characters that no head has")
    authorization = f"Authorization: Bearer {bearer}\r\n" if bearer else ""
    return f"POST {path} HTTP/1.1\r\nHost: {place}\r\n{_FIXED}{authorization}Content-Length: ".encode("ascii")
