"""One small question to a node over httpx, bounded in time and bytes. What a node says wrongly is silence too."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx
import msgspec

from gateway.core.fleet import Node

LOOKUP_S = 10.0
"""/api/ps can stall for five seconds while a node unloads a model"""
LOOKUP_BYTES_MAX = 16 << 20
CLIENTS_MAX = 1_024
"""one for each set of certificates that a node's own is to be signed by"""

SILENCE = (httpx.HTTPError, httpx.InvalidURL, msgspec.DecodeError, ValueError, TimeoutError, RecursionError)
"""what asking may raise instead of an answer that can be read"""
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}


class Lookup:
    """Asks nodes. Close it at the end."""

    def __init__(self) -> None:
        self._clients: dict[str, httpx.AsyncClient] = {}

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()

    async def ask(
        self,
        node: Node,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        bytes_max: int = LOOKUP_BYTES_MAX,
        seconds: float = LOOKUP_S,
    ) -> bytes:
        """The body of a successful answer to GET, or to POST with a `body`. Raises one of SILENCE."""
        content = None if body is None else msgspec.json.encode(body)
        answer = bytearray()
        question = request(node, path, content, httpx.Timeout(seconds))
        async with (
            asyncio.timeout(seconds),
            aclosing(await self._client(node).send(question, stream=True)) as reply,
        ):
            reply.raise_for_status()
            if is_encoded(reply):
                raise ValueError("encoded")
            async for piece in reply.aiter_raw():
                answer += piece
                if len(answer) > bytes_max:
                    raise ValueError("too large")
        return bytes(answer)

    def _client(self, node: Node) -> httpx.AsyncClient:
        if node.ca_pem not in self._clients:
            if len(self._clients) >= CLIENTS_MAX:
                raise ValueError("too many certificates")
            limits = httpx.Limits(max_connections=None)  # nodes that hang must not keep others from being asked
            self._clients[node.ca_pem] = httpx.AsyncClient(trust_env=False, verify=_trust(node), limits=limits)
        return self._clients[node.ca_pem]


@asynccontextmanager
async def client_for(node: Node, patience: httpx.Timeout) -> AsyncIterator[httpx.AsyncClient]:
    """A client of its own: httpx loses connections to cancellations."""
    async with httpx.AsyncClient(trust_env=False, timeout=patience, verify=_trust(node)) as client:
        yield client


def request(node: Node, path: str, content: bytes | None, patience: httpx.Timeout) -> httpx.Request:
    """A GET, or a POST of `content`, with our own headers alone: a client's `build_request` would add httpx's."""
    more = {} if content is None else {"Content-Type": "application/json"}
    if node.bearer:
        more["Authorization"] = f"Bearer {node.bearer}"
    method = "GET" if content is None else "POST"
    extensions = {"timeout": patience.as_dict()}
    return httpx.Request(method, node.url + path, headers=_HEADERS | more, content=content, extensions=extensions)


def is_encoded(reply: httpx.Response) -> bool:
    """Whether its raw bytes are not what it says; nothing but plain bytes is ever asked for."""
    return reply.headers.get("content-encoding", "").strip().lower() not in ("", "identity")


def _trust(node: Node) -> ssl.SSLContext | bool:
    return ssl.create_default_context(cadata=node.ca_pem) if node.ca_pem else True
