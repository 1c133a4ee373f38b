"""One exchange with one backend, over aiohttp: connect, first byte, idle and total time apart.

aiohttp and not httpx here: httpx scans its whole pool on every request and loses connections to cancellations
(reference: performance 3a, reliability finding 5). Only our own headers and the trace's go upstream; none come back.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
from msgspec import Struct

from gateway.core.fleet import Node
from gateway.core.trace import Trace
from gateway.dialects import ollama_faults
from gateway.errors import BackendFault, BackendTimeout, BackendUnreachable, StreamBroken

CONNECTIONS_MAX = 4_096
KEEPALIVE_S = 60.0
ERROR_BYTES_MAX = 64 << 10
WHOLE_BYTES_MAX = 64 << 20
TRUSTED_MAX = 1_024
"""sets of certificates that are kept ready"""
TAIL_S = 0.5
"""how long the end of a finished body may take before its connection is given up instead of reused"""

_HEADERS = {"Content-Type": "application/json", "Accept": "application/x-ndjson", "Accept-Encoding": "identity"}


class Patience(Struct, frozen=True):
    """Seconds: to connect, to the first byte, between bytes of a stream, for a whole answer."""

    connect_s: float
    first_byte_s: float
    idle_s: float
    total_s: float


class Sending(Struct, kw_only=True):
    """One request to one node; `on_sent` is called when the node is being given it.

    `deadline` is that of the head while it is awaited: whoever reschedules it ends the wait. `first_byte_s` 0: as long
    as the client's patience says.
    """

    node: Node
    path: str
    body: bytes
    on_sent: Callable[[], None]
    trace: Trace | None = None
    first_byte_s: float = 0.0
    deadline: asyncio.Timeout | None = None
    reused: bool = False
    """whether it went over a connection of an earlier request, which the node may have closed meanwhile"""


Carry = Callable[[Coroutine[Any, Any, aiohttp.ClientResponse]], Awaitable[aiohttp.ClientResponse]]


class Answer:
    """A successful answer whose head has arrived. Keeps `ports.Exchange`."""

    def __init__(self, response: aiohttp.ClientResponse, patience: Patience, deadline: asyncio.Timeout) -> None:
        self._response = response
        self._patience = patience
        self._deadline = deadline
        self._wanted = True
        self._end_s = asyncio.get_running_loop().time() + patience.total_s

    async def whole(self) -> bytes:
        body = bytearray()
        async for piece in self._response.content.iter_any():
            body += piece
            if len(body) > WHOLE_BYTES_MAX:
                raise BackendFault("The model server sent an answer that is too large.")
        return bytes(body)

    async def pieces(self) -> AsyncIterator[bytes]:
        loop, patience = asyncio.get_running_loop(), self._patience
        self._deadline.reschedule(min(loop.time() + patience.idle_s, self._end_s))
        async for piece in self._response.content.iter_any():
            yield piece
            if b"\n" in piece:  # bytes that never make a line are silence too
                self._deadline.reschedule(min(loop.time() + patience.idle_s, self._end_s))

    def leave(self) -> None:
        self._wanted = False

    async def finish(self) -> None:
        """Read the end of the body so that the connection can be used again; it is closed when there is none."""
        if not self._wanted:
            return
        self._deadline.reschedule(None)
        with suppress(TimeoutError, aiohttp.ClientError):
            async with asyncio.timeout(TAIL_S):
                async for _ in self._response.content.iter_any():
                    pass


class OllamaClient:
    """Sends requests to backends and gives their answers. One for each replica; close it at the end."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX, keepalive_timeout=KEEPALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=patience.connect_s),
            headers=_HEADERS,
            skip_auto_headers=("User-Agent",),
            auto_decompress=False,
            trust_env=False,
            trace_configs=[_follows_sending()],
        )

        self._trusted: dict[str, ssl.SSLContext] = {}
        """by the certificates that a node's own is to be signed by"""

    async def close(self) -> None:
        await self._session.close()

    @asynccontextmanager
    async def exchange(self, sending: Sending, carry: Carry) -> AsyncIterator[Answer]:
        """The answer to a request. `carry` waits for its head, which may go on when nobody wants it any more.

        Leaving the block early closes the connection, which cancels the work upstream. Raises a `BackendFault`,
        `Unavailable`, or the client's own mistake.
        """
        response: aiohttp.ClientResponse | None = None
        try:
            async with asyncio.timeout(sending.first_byte_s or self._patience.first_byte_s) as deadline:
                sending.deadline = deadline
                response = await carry(self._post(sending))
                sending.deadline = None
                answer = Answer(response, self._patience, deadline)
                yield answer
                await answer.finish()
        except TimeoutError:
            raise BackendTimeout from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise StreamBroken from error
        finally:
            sending.deadline = None
            if response is not None:
                response.close()

    async def _post(self, sending: Sending) -> aiohttp.ClientResponse:
        """The head of a success, which is closed by whoever gets it."""
        node = sending.node
        try:
            response = await self._session.post(
                node.url + sending.path,
                data=sending.body,
                headers=_headers(sending),
                ssl=self._trust(node.ca_pem),
                allow_redirects=False,
                trace_request_ctx=sending,
            )
        except (aiohttp.ClientError, ConnectionError) as error:
            raise BackendUnreachable(blames="" if sending.reused else None) from error
        try:
            await _check(response)
        except BaseException:
            response.close()
            raise
        return response

    def _trust(self, ca_pem: str) -> ssl.SSLContext | bool:
        if not ca_pem:
            return True
        if ca_pem not in self._trusted:
            if len(self._trusted) >= TRUSTED_MAX:
                self._trusted.clear()
            self._trusted[ca_pem] = ssl.create_default_context(cadata=ca_pem)
        return self._trusted[ca_pem]


def _follows_sending() -> aiohttp.TraceConfig:
    """Tells the `Sending` that comes as a request's context how far it has come."""

    async def reused(session: aiohttp.ClientSession, context: Any, params: Any) -> None:
        context.trace_request_ctx.reused = True

    async def sent(session: aiohttp.ClientSession, context: Any, params: Any) -> None:
        """Connected, and the head of the request is on its way."""
        context.trace_request_ctx.on_sent()

    config = aiohttp.TraceConfig()
    config.on_connection_reuseconn.append(reused)
    config.on_request_headers_sent.append(sent)
    return config


def _headers(sending: Sending) -> dict[str, str] | None:
    """Those that not every request has."""
    trace = sending.trace.headers() if sending.trace else None
    if not sending.node.bearer:
        return trace
    return {"Authorization": f"Bearer {sending.node.bearer}", **(trace or {})}


async def _check(response: aiohttp.ClientResponse) -> None:
    """Raises what a head other than a plain success means."""
    if response.status != 200:
        raise ollama_faults.fault(response.status, await _start_of(response))
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise BackendFault("The model server sent an encoded answer, which was not asked for.")


async def _start_of(response: aiohttp.ClientResponse) -> bytes:
    """The body of an error, or as much of it as anyone will read."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) >= ERROR_BYTES_MAX:
            break
    return bytes(body)
