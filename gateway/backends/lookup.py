"""One small question to a backend over httpx, bounded in time and bytes. What a node says wrongly is silence too."""

import asyncio
from typing import Any

import httpx
import msgspec

LOOKUP_S = 10.0
"""/api/ps can stall for five seconds while a node unloads a model"""
LOOKUP_BYTES_MAX = 16 << 20

SILENCE = (httpx.HTTPError, msgspec.DecodeError, ValueError, TimeoutError, RecursionError)
"""what asking may raise instead of an answer that can be read"""


async def ask(
    http: httpx.AsyncClient, url: str, body: dict[str, Any] | None = None, *, bytes_max: int = LOOKUP_BYTES_MAX
) -> bytes:
    """The body of a successful answer to GET, or to POST with a `body`. Raises one of SILENCE."""
    method = "GET" if body is None else "POST"
    answer = bytearray()
    async with asyncio.timeout(LOOKUP_S), http.stream(method, url, json=body, timeout=LOOKUP_S) as reply:
        reply.raise_for_status()
        async for piece in reply.aiter_raw():
            answer += piece
            if len(answer) > bytes_max:
                raise ValueError("too large")
    return bytes(answer)
