"""Errors as Anthropic's API words them. `error.code` and `error.details.error_code`, its clients' own field for it, are
this gateway's stable code."""

import msgspec

from gateway.errors import GatewayError

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def render(error: GatewayError, request_id: str) -> tuple[int, bytes]:
    """HTTP status and body."""
    return error.status, body(error, request_id)


def body(error: GatewayError, request_id: str) -> bytes:
    """The error object, which is also the data of an `error` event."""
    kind = "billing_error" if error.code == "insufficient_quota" else _TYPES.get(error.status, "api_error")
    said = {"type": kind, "message": error.message, "code": error.code, "details": {"error_code": error.code}}
    return msgspec.json.encode({"type": "error", "error": said, "request_id": request_id})
