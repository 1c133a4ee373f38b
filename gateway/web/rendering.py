"""Errors of the ordinary routes as responses: ours as they are, the framework's as ours, each in its path's dialect."""

from collections.abc import Callable
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap

from gateway.dialects import plain
from gateway.dialects.anthropic import errors as anthropic_errors
from gateway.dialects.native import errors as native_errors
from gateway.dialects.openai import errors as openai_errors
from gateway.errors import BadRequest, BodyTooLarge, GatewayError, InvalidJson, MethodNotAllowed, RouteNotFound
from gateway.telemetry.logs import Log
from gateway.web import headers

Render = Callable[[GatewayError, str], tuple[int, bytes]]

FORMS: tuple[tuple[str, Render], ...] = (
    ("/api", native_errors.render),
    ("/v1/messages", anthropic_errors.render),
    ("/v1/generate", plain.render_error),
    ("/generate", plain.render_error),
)
"""by the first parts of the path; all others have OpenAI's form"""
_FROM_STATUS: dict[int, type[GatewayError]] = {404: RouteNotFound, 405: MethodNotAllowed, 413: BodyTooLarge}


def exception_handlers(log: Log, new_id: Callable[[], str]) -> ExceptionHandlersMap:
    """`new_id` makes the ids of requests that failed, which are told to the client."""

    def response(request: Request[Any, Any, Any], error: GatewayError, more: Any = None) -> Response[bytes]:
        return _response(request.scope["path"], error, new_id(), more)

    def frameworks(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
        return response(request, _translate(error), error.headers)

    def too_deep(request: Request[Any, Any, Any], error: RecursionError) -> Response[bytes]:
        return response(request, InvalidJson("The JSON is nested too deeply."))

    def no_text(request: Request[Any, Any, Any], error: UnicodeDecodeError) -> Response[bytes]:
        return response(request, InvalidJson("The body is no UTF-8 text."))

    def unplanned(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        log.surprise("request_failed", error, path=request.scope.get("path_template", ""))
        return response(request, GatewayError())

    return {
        GatewayError: response,
        HTTPException: frameworks,
        RecursionError: too_deep,
        UnicodeDecodeError: no_text,
        Exception: unplanned,
    }


def _translate(error: HTTPException) -> GatewayError:
    known = _FROM_STATUS.get(error.status_code)
    if known:
        return known()
    if 400 <= error.status_code < 500:
        return _bad_request(error)
    return GatewayError()


def _bad_request(error: HTTPException) -> BadRequest:
    """Says which field of a query or body is wrong and why; Litestar keeps that beside its message."""
    parts = error.extra if isinstance(error.extra, list) else []
    fields = "; ".join(f"{part.get('key', 'body')}: {part.get('message', '')}" for part in parts)
    param = parts[0].get("key") if len(parts) == 1 else None
    return BadRequest(f"The request is not valid: {fields or error.detail}", param=param)


def _response(path: str, error: GatewayError, request_id: str, more: dict[str, str] | None) -> Response[bytes]:
    status, data = form(path)(error, request_id)
    extra = {name.decode(): value.decode() for name, value in headers.of_error(error)}
    known = {**(more or {}), "x-request-id": request_id, **extra}
    return Response(data, status_code=status, media_type="application/json", headers=known)


def form(path: str) -> Render:
    """How errors of a path are written."""
    return next((render for start, render in FORMS if f"{path}/".startswith(f"{start}/")), openai_errors.render)
