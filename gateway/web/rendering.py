"""Errors of the ordinary routes as responses, in OpenAI's form: ours as they are, the framework's as ours."""

from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap

from gateway.dialects import openai_errors
from gateway.errors import BadRequest, BodyTooLarge, GatewayError, InvalidJson, MethodNotAllowed, RouteNotFound
from gateway.telemetry.logs import Log
from gateway.web import headers

_FROM_STATUS: dict[int, type[GatewayError]] = {404: RouteNotFound, 405: MethodNotAllowed, 413: BodyTooLarge}


def exception_handlers(log: Log) -> ExceptionHandlersMap:
    def ours(request: Request[Any, Any, Any], error: GatewayError) -> Response[bytes]:
        return _response(error)

    def frameworks(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
        return _response(_translate(error), error.headers)

    def too_deep(request: Request[Any, Any, Any], error: RecursionError) -> Response[bytes]:
        return _response(InvalidJson("The JSON is nested too deeply."))

    def unplanned(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        log.surprise("request_failed", error, path=request.scope.get("path_template", ""))
        return _response(GatewayError())

    return {GatewayError: ours, HTTPException: frameworks, RecursionError: too_deep, Exception: unplanned}


def _translate(error: HTTPException) -> GatewayError:
    known = _FROM_STATUS.get(error.status_code)
    if known:
        return known()
    if 400 <= error.status_code < 500:
        return BadRequest(_reason(error))
    return GatewayError()


def _reason(error: HTTPException) -> str:
    """Which field of a body or query is wrong and why; Litestar keeps that beside its message."""
    parts = error.extra if isinstance(error.extra, list) else []
    fields = "; ".join(f"{part.get('key', 'body')}: {part.get('message', '')}" for part in parts)
    return f"The request is not valid: {fields or error.detail}"


def _response(error: GatewayError, more: dict[str, str] | None = None) -> Response[bytes]:
    status, data = openai_errors.render(error, "")
    extra = {name.decode(): value.decode() for name, value in headers.of_error(error)}
    return Response(data, status_code=status, media_type="application/json", headers={**(more or {}), **extra})
