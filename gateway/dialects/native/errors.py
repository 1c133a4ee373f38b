"""Errors as Ollama's own API words them. Also the form of every other path below /api/."""

import msgspec

from gateway.errors import GatewayError


def render(error: GatewayError, request_id: str = "") -> tuple[int, bytes]:
    """HTTP status and body. Ollama's clients read `error`; `code` is ours, and the request's id goes into a header."""
    return error.status, body(error)


def body(error: GatewayError) -> bytes:
    return msgspec.json.encode({"error": error.message, "code": error.code})
