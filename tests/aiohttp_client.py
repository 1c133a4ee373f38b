"""Exchanges with backends over aiohttp: what `gateway.backends.client` is measured by, in what it does and how fast."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp

from gateway.backends.client import ERROR_BYTES_MAX, TAIL_S, WHOLE_BYTES_MAX
from gateway.backends.connections import CONNECTIONS_MAX, KEEPALIVE_S
from gateway.backends.sending import Carry, Patience, Sending
from gateway.dialects import ollama_faults
from gateway.errors import BackendFault, BackendTimeout, BackendUnreachable, StreamBroken

_HEADERS = {"Content-Type": "application/json", "Accept": "application/x-ndjson", "Accept-Encoding": "identity"}


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

    async def read(self, take: Callable[[bytes], bool]) -> None:
        loop, patience = asyncio.get_running_loop(), self._patience
        self._deadline.reschedule(min(loop.time() + patience.idle_s, self._end_s))
        async for piece in self._response.content.iter_any():
            if take(piece):
                return
            if b"\n" in piece:
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


class AiohttpClient:
    """What `OllamaClient` is, and does."""

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

    async def close(self) -> None:
        await self._session.close()

    @asynccontextmanager
    async def exchange(self, sending: Sending, carry: Carry) -> AsyncIterator[Answer]:
        response: aiohttp.ClientResponse | None = None
        try:
            async with asyncio.timeout(sending.first_byte_s or self._patience.first_byte_s) as deadline:
                sending.expire = lambda: deadline.reschedule(asyncio.get_running_loop().time())
                response = await carry(self._post(sending))
                sending.expire = None
                answer = Answer(response, self._patience, deadline)
                yield answer
                await answer.finish()
        except TimeoutError:
            raise BackendTimeout from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise StreamBroken from error
        finally:
            sending.expire = None
            if response is not None:
                response.close()

    async def _post(self, sending: Sending) -> aiohttp.ClientResponse:
        node = sending.node
        trace = sending.trace.headers() if sending.trace else {}
        try:
            response = await self._session.post(
                node.url + sending.path,
                data=sending.body,
                headers=({"Authorization": f"Bearer {node.bearer}"} if node.bearer else {}) | trace,
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
        if ca_pem and ca_pem not in self._trusted:
            self._trusted[ca_pem] = ssl.create_default_context(cadata=ca_pem)
        return self._trusted.get(ca_pem, True)


def _follows_sending() -> aiohttp.TraceConfig:
    """Tells the `Sending` that comes as a request's context how far it has come."""

    async def reused(session: aiohttp.ClientSession, context: Any, params: Any) -> None:
        context.trace_request_ctx.reused = True

    async def sent(session: aiohttp.ClientSession, context: Any, params: Any) -> None:
        context.trace_request_ctx.on_sent()

    config = aiohttp.TraceConfig()
    config.on_connection_reuseconn.append(reused)
    config.on_request_headers_sent.append(sent)
    return config


async def _check(response: aiohttp.ClientResponse) -> None:
    """Raises what a head other than a plain success means."""
    if response.status != 200:
        body = bytearray()
        async for piece in response.content.iter_any():
            body += piece
            if len(body) >= ERROR_BYTES_MAX:
                break
        raise ollama_faults.fault(response.status, bytes(body))
    if is_encoded(response.headers):
        raise BackendFault("The model server sent an encoded answer, which was not asked for.")


def is_encoded(headers: Mapping[str, str]) -> bool:
    said = [value.strip(" \t").lower() for name, value in headers.items() if name.lower() == "content-encoding"]
    return not {"", "identity"}.issuperset(said)
