"""Whose request it is: the key a client presents, in any of the places clients know, and the address it comes from."""

from collections.abc import Iterable
from typing import Any

from gateway.core.addresses import Proxies, hashed
from gateway.core.keys import Credential, Peppers
from gateway.errors import BadRequest, Unauthorized
from gateway.state.failures import Failures

_PLAIN = (b"x-api-key", b"x_api_key")


class Door:
    """Where requests come in. What is no key at all is refused here, without Redis; `failures` counts that.

    `secret`: what addresses are hashed with."""

    def __init__(self, peppers: Peppers, proxies: Proxies, failures: Failures, secret: bytes = b"") -> None:
        self._peppers = peppers
        self._secret = secret
        self._proxies = proxies
        self._failures = failures

    def source(self, scope: Any) -> str:
        """The address a request comes from, as `core.addresses.digits`."""
        peer = scope["client"][0] if scope.get("client") else ""
        forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
        return self._proxies.source(peer, forwarded)

    def hashed(self, source: str) -> str:
        """What usage rows say of a source."""
        return hashed(source, self._secret)

    def presented(self, scope: Any) -> tuple[Credential, str]:
        """The credential of a request, and its source.

        Raises `Unauthorized` when there is none or it cannot be a key, `FailuresLimited` after too many of those,
        `BadRequest` when two of them differ.
        """
        text, source = key_in(scope["headers"]), self.source(scope)
        credential = self._peppers.credential(text)
        if credential is None:
            raise self._failures.failed_here(source, Unauthorized())
        return credential, source


def key_in(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """What `Authorization: Bearer`, `X-API-Key` or `x_api_key` hold; "" for nothing. Raises `BadRequest` for two."""
    found = {key for name, value in headers if (key := _key_in(name, value))}
    if len(found) > 1:
        raise BadRequest("This request presents two different API keys. Send one.")
    return found.pop().decode("latin-1") if found else ""


def _key_in(name: bytes, value: bytes) -> bytes:
    if name in _PLAIN:
        return value.strip()
    if name == b"authorization":
        scheme, _, token = value.partition(b" ")
        return token.strip() if scheme.lower() == b"bearer" else b""
    return b""
