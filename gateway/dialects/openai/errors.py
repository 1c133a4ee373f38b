"""Errors as OpenAI's API words them. Also the form of every route that has no dialect of its own."""

import msgspec

from gateway.errors import GatewayError

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "invalid_request_error",
    405: "invalid_request_error",
    409: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
}


def render(error: GatewayError, request_id: str) -> tuple[int, bytes]:
    """HTTP status and body. OpenAI keeps the request's id in a header only."""
    return error.status, body(error)


def body(error: GatewayError) -> bytes:
    kind = "insufficient_quota" if error.code == "insufficient_quota" else _TYPES.get(error.status, "api_error")
    return msgspec.json.encode(
        {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}
    )
