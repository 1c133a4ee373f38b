"""A request's body, bounded before it is read and checked before it is decoded."""

import asyncio
import re
from collections.abc import Iterable
from typing import Any

from gateway.errors import BadRequest, BodyTooLarge, BodyTooSlow, CallAbandoned, EncodingUnsupported

BODY_S = 30.0
DEPTH_MAX = 64
# A string (to the end of the body if it never closes) or a bracket. Possessive, so that the scan never goes back.
_TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)


async def read(receive: Any, headers: Iterable[tuple[bytes, bytes]], bytes_max: int) -> bytes:
    """The whole body.

    Raises `BodyTooLarge` as soon as it is known to be, `BodyTooSlow`, `EncodingUnsupported`, or `CallAbandoned` when
    the client left.
    """
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and int(value) > bytes_max:
            raise BodyTooLarge
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise EncodingUnsupported
    try:
        async with asyncio.timeout(BODY_S):
            return await _all(receive, bytes_max)
    except TimeoutError:
        raise BodyTooSlow from None


async def _all(receive: Any, bytes_max: int) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallAbandoned
        body += message.get("body", b"")
        if len(body) > bytes_max:
            raise BodyTooLarge
        if not message.get("more_body", False):
            return bytes(body)


def check_depth(body: bytes) -> None:
    """Raises `BadRequest` for JSON nested deeper than DEPTH_MAX, in one linear scan."""
    if body.count(b"[") + body.count(b"{") <= DEPTH_MAX:
        return
    depth = 0
    for token in _TOKENS.finditer(body):
        first = body[token.start()]
        if first in b"[{":
            depth += 1
            if depth > DEPTH_MAX:
                raise BadRequest(f"The JSON is nested more than {DEPTH_MAX} levels deep.")
        elif first in b"]}":
            depth -= 1
