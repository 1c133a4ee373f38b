"""The OpenAPI document: the operations' data, and the JSON schemas that msgspec makes of their structs."""

from typing import Any, cast

import msgspec
from litestar import Response, get

from gateway.web import public
from gateway.web.operation import EVENTS, Operation, Streamed
from gateway.web.operations import OPERATIONS
from gateway.web.schema import failures, headers, requests
from gateway.web.schema.admin_examples import ADMIN_ANSWERS
from gateway.web.schema.examples import ANSWERS as OTHER_ANSWERS
from gateway.web.schema.examples import STREAMED

SECURITY: dict[str, list[dict[str, list[str]]]] = {
    "key": [{"BearerKey": []}, {"HeaderKey": []}],
    "admin": [{"AdminSecret": []}],
    "puller": [{"AdminSecret": []}, {"BearerKey": []}, {"HeaderKey": []}],
    "anyone": [],
}
_NEEDS = {
    "key": "Needs an API key, as `Authorization: Bearer KEY` or as `X-API-Key: KEY`.",
    "admin": "Needs the admin secret, as `X-Admin-Secret: SECRET`.",
    "puller": "Needs the admin secret, as `X-Admin-Secret: SECRET`, or an API key with the scope `pull`.",
    "anyone": "Needs no key.",
}
_SCHEMES = {
    "BearerKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key of this gateway, as OpenAI's clients send.",
    },
    "HeaderKey": {
        "type": "apiKey",
        "name": "X-API-Key",
        "in": "header",
        "description": "A key of this gateway, as Anthropic's clients send it.",
    },
    "AdminSecret": {
        "type": "apiKey",
        "name": "X-Admin-Secret",
        "in": "header",
        "description": "The setting ADMIN_SECRET, for operators.",
    },
}
_TAGS = {
    "openai": "OpenAI's API: set a client's base URL to this address and `/v1`.",
    "anthropic": "Anthropic's API: set a client's base URL to this address.",
    "ollama": "Ollama's own API: set a client's host to this address.",
    "plain": "A prompt in, a text out, for scripts.",
    "usage": "What a key may still do.",
    "admin": "For operators: keys, teams, tiers, prices, credits and models.",
    "service": "How this gateway is.",
    "blocked": "The parts of Ollama that this gateway keeps to itself.",
}
ANSWERS = OTHER_ANSWERS | ADMIN_ANSWERS
_PLACES = frozenset({"gateway", "dialects", "web", "schema"})
_REF = "#/components/schemas/"
_ABOUT = """Keys, exact limits, accounting and one address for many Ollama nodes, behind the APIs of OpenAI, Anthropic
and Ollama. Every answer carries `x-request-id`; the answer to a call also the key's `x-ratelimit-*` values, and a 429
`Retry-After` where waiting helps."""


def document(version: str) -> dict[str, Any]:
    """The whole document, as OpenAPI 3.1."""
    schemas, components = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, schemas)
    whole = {
        "openapi": "3.1.0",
        "info": {"title": "LLM Gateway", "version": version, "description": " ".join(_ABOUT.split())},
        "tags": [{"name": name, "description": about} for name, about in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": _responses(schemas),
            "headers": headers.HEADERS,
            "securitySchemes": _SCHEMES,
        },
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
    narrowed = (*requests.NEEDED, *requests.NARROWER)
    types = list(dict.fromkeys([*named, *narrowed, *(form.answer for form in failures.FORMS.values())]))
    found, components = msgspec.json.schema_components(types, ref_template=_REF + "{name}")
    schemas = dict(zip(types, found, strict=True))
    for struct in dict.fromkeys(narrowed):
        requests.narrow(struct, components[schemas[struct]["$ref"].removeprefix(_REF)])
    return schemas, components


def _responses(schemas: dict[Any, Any]) -> dict[str, Any]:
    """The failures that operations refer to, each once."""
    return {
        failures.name(family, status): failures.described(
            family,
            status,
            schemas[failures.FORMS[family].answer],
            headers.listed(status, levels=status == 429, anthropic=family == "anthropic"),
        )
        for family, status in sorted({(op.family, status) for op in OPERATIONS for status in _statuses(op)})
    }


def _operation(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "description": " ".join(filter(None, (operation.about, _form(operation.streamed), _NEEDS[operation.access]))),
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
                "schema": one.schema,
                "example": one.example,
            }
            for one in operation.parameters
        ]
    if operation.request:
        content = {"schema": schemas[operation.request], "example": operation.example}
        described["requestBody"] = {"required": True, "content": {"application/json": content}}
    return described


def _form(streamed: Streamed | None) -> str:
    """In which form an answer comes, for people who have not streamed before."""
    if streamed is None:
        return ""
    asked = "Unless `stream` is false" if streamed.unasked else "With `stream: true`"
    if streamed.content_type != EVENTS:
        return (
            f"{asked}, the answer comes as NDJSON: JSON objects as they are made, one a line. The schema is a line's."
        )
    end = f" The data of the last one is `{streamed.end}`." if streamed.end else ""
    return (
        f"{asked}, the answer comes as server-sent events, as it is made. The schema is an event's, whose data is JSON."
        f"{end} Lines that begin with `:` keep the connection alive, or say where in the waiting line the call is; one "
        "event with the error ends a failed stream."
    )


def _success(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    if operation.answer is None:
        return {}
    content = {operation.content_type: {"schema": schemas[operation.answer], "example": ANSWERS[operation.id]}}
    if operation.sheet:
        content["text/csv"] = {"schema": {"type": "string"}}
    if operation.streamed:
        content[operation.streamed.content_type] = _item(operation, operation.streamed, schemas)
    again = [operation.status_again] if operation.status_again else []
    return {
        str(status): {
            "description": operation.summary if status == operation.status else "It was carried out before.",
            "headers": _headers(operation, status),
            "content": content,
        }
        for status in (operation.status, *again)
    }


def _item(operation: Operation, streamed: Streamed, schemas: dict[Any, Any]) -> dict[str, Any]:
    """One line, or one event, of a stream: OpenAPI 3.1 has no word for the stream itself."""
    items = [schemas[one] for one in streamed.items]
    item: dict[str, Any] = items[0] if len(items) == 1 else {"anyOf": items}
    example = STREAMED[operation.id]
    if streamed.content_type != EVENTS:
        return {"schema": item, "example": example}
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": item}
    either = {"anyOf": [{"const": streamed.end}, data]} if streamed.end else data
    named = {"event": example["type"]} if "type" in example else {}
    return {
        "schema": {"type": "object", "properties": {"event": {"type": "string"}, "data": either}, "required": ["data"]},
        "example": named | {"data": msgspec.json.encode(example).decode()},
    }


def _statuses(operation: Operation) -> tuple[int, ...]:
    """Of its failures. Readiness is the one answer whose 503 is no error."""
    return tuple(sorted({*operation.errors, 405} - ({503} if operation.id == "ready" else set())))


def _failures(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        str(status): {"$ref": f"#/components/responses/{failures.name(operation.family, status)}"}
        for status in _statuses(operation)
    }
    if operation.id == "ready":
        example = ANSWERS["ready"] | {"ready": False, "redis": "away", "keys": "unknown"}
        content = {"application/json": {"schema": schemas[operation.answer], "example": example}}
        found["503"] = {"description": "Not ready.", "headers": _headers(operation, 200), "content": content}
    return found


def _headers(operation: Operation, status: int) -> dict[str, Any]:
    return headers.listed(status, levels=operation.limits, anthropic=operation.family == "anthropic")


@get("/openapi.json", include_in_schema=False, sync_to_thread=True)
def openapi_json(request: public.Requested) -> Response[bytes]:
    """Made when it is first asked for and then kept."""
    kept: list[bytes] = request.app.state.openapi
    if not kept:
        kept.append(msgspec.json.encode(document(request.app.state.public.version)))
    return Response(kept[0], media_type="application/json")
