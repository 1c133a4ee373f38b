"""Whose request it is: the key a client presents, in any of the places clients know."""

from collections.abc import Iterable

from gateway.core import keys
from gateway.core.keys import Credential
from gateway.errors import BadRequest, Unauthorized

_PLAIN = (b"x-api-key", b"x_api_key")


def presented(headers: Iterable[tuple[bytes, bytes]]) -> Credential:
    """The credential in `Authorization: Bearer`, `X-API-Key` or `x_api_key`.

    Raises `Unauthorized` when there is none or it cannot be a key, `BadRequest` when two of them differ.
    """
    found = {key for name, value in headers if (key := _key_in(name, value))}
    if len(found) > 1:
        raise BadRequest("This request presents two different API keys. Send one.")
    if not found:
        raise Unauthorized
    credential = keys.read(found.pop().decode("latin-1"))
    if credential is None:
        raise Unauthorized
    return credential


def _key_in(name: bytes, value: bytes) -> bytes:
    if name in _PLAIN:
        return value.strip()
    if name == b"authorization":
        scheme, _, token = value.partition(b" ")
        return token.strip() if scheme.lower() == b"bearer" else b""
    return b""
