"""The OpenAPI document: the operations' data, and the JSON schemas that msgspec makes of their structs."""

from typing import Any, cast

import msgspec
from litestar import Response, get

from gateway import errors
from gateway.web import public
from gateway.web.operations import EVENTS, OPERATIONS, Operation, Streamed
from gateway.web.schema import anthropic, ollama, openai, plain

SECURITY: dict[str, list[dict[str, list[str]]]] = {
    "key": [{"BearerKey": []}, {"HeaderKey": []}],
    "admin": [{"AdminSecret": []}],
    "anyone": [],
}
_SCHEMES = {
    "BearerKey": {"type": "http", "scheme": "bearer"},
    "HeaderKey": {"type": "apiKey", "name": "X-API-Key", "in": "header"},
    "AdminSecret": {"type": "apiKey", "name": "X-Admin-Secret", "in": "header"},
}
_ERRORS = {
    "openai": openai.ErrorAnswer,
    "anthropic": anthropic.ErrorAnswer,
    "ollama": ollama.ErrorAnswer,
    "plain": plain.ErrorAnswer,
}
_PLACES = frozenset({"gateway", "dialects", "web", "schema"})
_REF = "#/components/schemas/"
_ABOUT = """Keys, exact limits, accounting and one address for many Ollama nodes, behind the APIs of OpenAI, Anthropic
and Ollama. Every answer to a call carries `x-request-id` and the key's `x-ratelimit-*` values; a 429 `Retry-After`
where waiting helps."""


def document(version: str) -> dict[str, Any]:
    """The whole document, as OpenAPI 3.1."""
    schemas, components = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, schemas)
    whole = {
        "openapi": "3.1.0",
        "info": {"title": "LLM Gateway", "version": version, "description": " ".join(_ABOUT.split())},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SCHEMES},
    }
    return cast(dict[str, Any], _renamed(whole, {name: _short(name) for name in components}))


def _short(name: str) -> str:
    """Two structs of one name are told apart by their places: `…dialects.openai.chat.Part` is OpenaiChatPart."""
    *places, last = name.split(".")
    return "".join(place.title().replace("_", "") for place in places if place not in _PLACES) + last


def _renamed(value: Any, names: dict[str, str]) -> Any:
    """The document with each component under its short name."""
    if isinstance(value, dict):
        return {names.get(key, key): _renamed(part, names) for key, part in value.items()}
    if isinstance(value, list):
        return [_renamed(part, names) for part in value]
    if isinstance(value, str) and value.startswith(_REF):
        return _REF + names[value.removeprefix(_REF)]
    return value


def _schemas() -> tuple[dict[Any, Any], dict[str, Any]]:
    """The schema of every type that an operation names, and the components these refer to."""
    named = [
        one for op in OPERATIONS for one in (op.request, op.answer, *(op.streamed.items if op.streamed else ())) if one
    ]
    types = list(dict.fromkeys([*named, *_ERRORS.values()]))
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF + "{name}")
    return dict(zip(types, schemas, strict=True)), components


def _operation(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "security": SECURITY[operation.access],
        "responses": _success(operation, schemas) | _failures(operation, schemas),
    }
    if operation.parameters:
        described["parameters"] = [
            {
                "name": one.name,
                "in": one.place,
                "required": one.place == "path",
                "description": one.about,
                "schema": {"type": "string"},
                "example": one.example,
            }
            for one in operation.parameters
        ]
    if operation.request:
        content = {"schema": schemas[operation.request], "example": operation.example}
        described["requestBody"] = {"required": True, "content": {"application/json": content}}
    return described


def _success(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    if operation.answer is None:
        return {}
    content = {operation.content_type: {"schema": schemas[operation.answer]}}
    if operation.streamed:
        content[operation.streamed.content_type] = {"schema": _item(operation.streamed, schemas)}
    return {str(operation.status): {"description": operation.summary, "content": content}}


def _item(streamed: Streamed, schemas: dict[Any, Any]) -> dict[str, Any]:
    """One line, or one event, of a stream: OpenAPI 3.1 has no word for the stream itself."""
    items = [schemas[one] for one in streamed.items]
    item: dict[str, Any] = items[0] if len(items) == 1 else {"anyOf": items}
    if streamed.content_type != EVENTS:
        return item
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": item}
    return {"type": "object", "properties": {"event": {"type": "string"}, "data": data}, "required": ["data"]}


def _failures(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    """Each status with the errors that have it. Readiness is the one answer whose 503 is no error."""
    form = schemas[operation.answer if operation.id == "ready" else _ERRORS[operation.family]]
    return {
        str(status): {"description": _meaning(status), "content": {"application/json": {"schema": form}}}
        for status in sorted({*operation.errors, 405})
    }


def _meaning(status: int) -> str:
    codes: dict[str, str] = {}
    for error in errors.every_error():
        if error.status == status:
            codes.setdefault(error.code, " ".join((error.__doc__ or "").split()))
    return "\n\n".join(f"`{code}`: {words}" for code, words in codes.items())


@get("/openapi.json", include_in_schema=False, sync_to_thread=True)
def openapi_json(request: public.Requested) -> Response[bytes]:
    """Made when it is first asked for and then kept."""
    kept: list[bytes] = request.app.state.openapi
    if not kept:
        kept.append(msgspec.json.encode(document(request.app.state.public.version)))
    return Response(kept[0], media_type="application/json")
