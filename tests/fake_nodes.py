"""Nodes that are functions: what is asked of them over httpx is answered by them, without a socket."""

from collections.abc import Awaitable, Callable

import httpx

from gateway.backends.lookup import Lookup

Handler = Callable[[httpx.Request], httpx.Response] | Callable[[httpx.Request], Awaitable[httpx.Response]]


class Answered(Lookup):
    """A `Lookup` whose nodes are one function."""

    def __init__(self, handler: Handler) -> None:
        super().__init__()
        self._clients[""] = httpx.AsyncClient(transport=httpx.MockTransport(handler))  # type: ignore[arg-type]


def said(body: bytes = b"{}") -> httpx.Response:
    """A success. Its body is a stream: what is given as `content` has been read already."""
    return httpx.Response(200, stream=httpx.ByteStream(body))
