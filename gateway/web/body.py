"""A request's body, bounded before it is read and checked before it is decoded."""

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from gateway.cut import Cut
from gateway.errors import (
    BadRequest,
    BodyTooLarge,
    BodyTooSlow,
    CallAbandoned,
    EncodingUnsupported,
    InvalidJson,
    Overloaded,
)

BODY_S = 30.0
ARRIVING_BYTES_MAX = 256 << 20
DEPTH_MAX = 64
T = TypeVar("T")
_FIELD = re.compile(r"`\$\.([a-z_]+)|field `([a-z_]+)`$")  # the first of a path, or the one that lacks or is unknown
# A string, to the end of the body if it never closes. Possessive, so that the scan never goes back.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))


class Intake:
    """Reads bodies: each of `bytes_max` at most, and ARRIVING_BYTES_MAX at most of all that are on their way."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._arriving_bytes = 0

    async def read(self, receive: Any, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """The whole body.

        Raises `BodyTooLarge` as soon as it is known to be, `BodyTooSlow`, `EncodingUnsupported`, `Overloaded`, or
        `CallAbandoned` when the client left.
        """
        for name, value in headers:
            if name == b"content-length" and value.isdigit() and int(value) > self._bytes_max:
                raise BodyTooLarge
            if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
                raise EncodingUnsupported
        body = bytearray()
        try:
            with Cut(BODY_S) as slow:
                while await self._take(receive, body):
                    pass
            if slow.caught:
                raise BodyTooSlow
            return bytes(body)
        finally:
            self._arriving_bytes -= len(body)

    async def _take(self, receive: Any, body: bytearray) -> bool:
        """One more piece. Whether others follow."""
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallAbandoned
        piece = message.get("body", b"")
        body += piece
        self._arriving_bytes += len(piece)
        if len(body) > self._bytes_max:
            raise BodyTooLarge
        if self._arriving_bytes > ARRIVING_BYTES_MAX:
            raise Overloaded
        return bool(message.get("more_body", False))


def decoded(raw: bytes, decode: Callable[[bytes], T]) -> T:
    """What `decode`, one of msgspec's or a dialect's, makes of a body. Raises `BadRequest` that names the field."""
    check_depth(raw)
    try:
        return decode(raw)
    except msgspec.ValidationError as error:
        field = _FIELD.search(str(error))
        param = (field[1] or field[2]) if field else None
        raise BadRequest(f"The request is not valid: {error}", param=param) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJson(f"The body is not valid JSON: {error}") from None


def check_depth(body: bytes) -> None:
    """Raises `BadRequest` for JSON nested deeper than DEPTH_MAX. Every step is one pass at the speed of C.

    Each round takes away the innermost pairs; whether brackets match is for the decoder to say.
    """
    if body.count(b"[") + body.count(b"{") <= DEPTH_MAX:
        return
    brackets = _STRINGS.sub(b"", body).translate(_BRACKETS, _OTHERS)
    for _ in range(DEPTH_MAX):
        brackets = brackets.replace(b"[]", b"")
    if brackets.count(b"[") > 0:
        raise BadRequest(f"The JSON is nested more than {DEPTH_MAX} levels deep.")
