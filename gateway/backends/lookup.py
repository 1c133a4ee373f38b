"""One small question to a backend over httpx, bounded in time and bytes. What a node says wrongly is silence too."""

import asyncio
from contextlib import aclosing
from typing import Any

import httpx
import msgspec

LOOKUP_S = 10.0
"""/api/ps can stall for five seconds while a node unloads a model"""
LOOKUP_BYTES_MAX = 16 << 20

SILENCE = (httpx.HTTPError, msgspec.DecodeError, ValueError, TimeoutError, RecursionError)
"""what asking may raise instead of an answer that can be read"""
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}


async def ask(
    http: httpx.AsyncClient, url: str, body: dict[str, Any] | None = None, *, bytes_max: int = LOOKUP_BYTES_MAX
) -> bytes:
    """The body of a successful answer to GET, or to POST with a `body`. Raises one of SILENCE."""
    content = None if body is None else msgspec.json.encode(body)
    answer = bytearray()
    async with (
        asyncio.timeout(LOOKUP_S),
        aclosing(await http.send(request(url, content, httpx.Timeout(LOOKUP_S)), stream=True)) as reply,
    ):
        reply.raise_for_status()
        if is_encoded(reply):
            raise ValueError("encoded")
        async for piece in reply.aiter_raw():
            answer += piece
            if len(answer) > bytes_max:
                raise ValueError("too large")
    return bytes(answer)


def request(url: str, content: bytes | None, patience: httpx.Timeout) -> httpx.Request:
    """A GET, or a POST of `content`, with our own headers alone: a client's `build_request` would add httpx's."""
    more = {} if content is None else {"Content-Type": "application/json"}
    method = "GET" if content is None else "POST"
    extensions = {"timeout": patience.as_dict()}
    return httpx.Request(method, url, headers=_HEADERS | more, content=content, extensions=extensions)


def is_encoded(reply: httpx.Response) -> bool:
    """Whether its raw bytes are not what it says; nothing but plain bytes is ever asked for."""
    return reply.headers.get("content-encoding", "").strip().lower() not in ("", "identity")
