"""The OpenAPI document: the committed copy is the served one, its examples are real, and it names every error."""

import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from gateway import errors
from gateway.cli.openapi import text
from gateway.core.call import Trip
from gateway.errors import GatewayError
from gateway.web import headers
from gateway.web.openapi import ANSWERS, document
from gateway.web.operation import Operation
from gateway.web.operations import OPERATIONS
from gateway.web.routes import ANTHROPIC_COUNT, CALLS, PLAIN
from gateway.web.schema import failures, requests
from gateway.web.schema.examples import STREAMED

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "deploy" / "openapi.json"
WITH_BODIES = [operation for operation in OPERATIONS if operation.request]
WITH_ANSWERS = [operation for operation in OPERATIONS if operation.answer]
WITH_STREAMS = [operation for operation in OPERATIONS if operation.streamed]
DIALECTS = CALLS | {"/v1/messages/count_tokens": ANTHROPIC_COUNT, "/generate/{model}": PLAIN}
TOOL = {"name": "f", "description": "Does it.", "parameters": {"type": "object"}}
TOOL_CALLED_NOTHING = {name: value for name, value in TOOL.items() if name != "name"}


@cache
def whole() -> dict[str, Any]:
    return document("0")


def described(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = whole()["paths"][operation.path][operation.method]
    return found


def answers(operation: Operation) -> dict[str, dict[str, Any]]:
    """By status, with references followed."""
    shared = whole()["components"]["responses"]
    found = described(operation)["responses"].items()
    return {status: shared[one["$ref"].rpartition("/")[2]] if "$ref" in one else one for status, one in found}


def validator(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(schema | {"components": whole()["components"]})


def by_id(operation: Operation) -> str:
    return operation.id


def test_the_committed_document_is_the_served_one() -> None:
    assert COMMITTED.read_text("utf-8") == text(document(version("llm-gateway"))) + "\n", "run `make openapi`"


def test_ids_are_unique_and_no_example_is_of_an_operation_that_is_not_there() -> None:
    ids = [operation.id for operation in OPERATIONS]
    assert len(set(ids)) == len(ids)
    assert set(ANSWERS) == {operation.id for operation in WITH_ANSWERS}
    assert set(STREAMED) == {operation.id for operation in WITH_STREAMS}


@pytest.mark.parametrize("operation", WITH_BODIES, ids=by_id)
def test_an_example_is_a_request_that_is_understood(operation: Operation) -> None:
    body = msgspec.json.encode(operation.example)
    msgspec.json.decode(body, type=operation.request)
    if operation.path in DIALECTS:
        DIALECTS[operation.path].parse(body)
    content = described(operation)["requestBody"]["content"]["application/json"]
    validator(content["schema"]).validate(operation.example)


@pytest.mark.parametrize("operation", OPERATIONS, ids=by_id)
def test_an_operation_is_described_whole(operation: Operation) -> None:
    found = described(operation)
    assert found["summary"]
    assert found["tags"][0] in {tag["name"] for tag in whole()["tags"]}
    assert bool(found["security"]) == (operation.access != "anyone")
    assert ("stream" in found["description"]) == (operation.streamed is not None)
    needs = {"key": "API key", "admin": "admin secret", "puller": "the scope `pull`", "anyone": "no key"}
    assert needs[operation.access] in found["description"]
    named = set(operation.path.replace("}", "{").split("{")[1::2])
    assert named == {one.name for one in operation.parameters if one.place == "path"}
    assert (operation.request is None) == (operation.example is None)
    if operation.request:
        content = found["requestBody"]["content"]["application/json"]
        assert content["schema"]["$ref"]
        assert content["example"] == operation.example


@pytest.mark.parametrize("operation", WITH_ANSWERS, ids=by_id)
def test_an_example_of_an_answer_is_such_an_answer(operation: Operation) -> None:
    content = answers(operation)[str(operation.status)]["content"][operation.content_type]
    assert content["example"] == ANSWERS[operation.id]
    msgspec.convert(content["example"], operation.answer)
    validator(content["schema"]).validate(content["example"])


@pytest.mark.parametrize("operation", WITH_STREAMS, ids=by_id)
def test_an_example_of_a_stream_is_a_line_or_an_event_of_it(operation: Operation) -> None:
    assert operation.streamed
    content = answers(operation)[str(operation.status)]["content"][operation.streamed.content_type]
    example, schema = content["example"], content["schema"]
    if operation.streamed.content_type == "text/event-stream":
        validator(schema).validate(example)
        validator(schema).validate({"data": operation.streamed.end or "{}"})
        data = schema["properties"]["data"]
        schema = data["anyOf"][1]["contentSchema"] if operation.streamed.end else data["contentSchema"]
        assert example.get("event") == STREAMED[operation.id].get("type")
        example = msgspec.json.decode(example["data"])
    assert example == STREAMED[operation.id]
    assert [item for item in operation.streamed.items if fits(example, item)]
    validator(schema).validate(example)
    if operation.access == "key":  # a pull's lines are their structs, encoded
        assert not validator(schema).is_valid(example | {"nobody_says_this": 1}), "it says nothing exact"


def fits(example: Any, item: Any) -> bool:
    try:
        msgspec.convert(example, item)
    except msgspec.ValidationError:
        return False
    return True


@pytest.mark.parametrize("operation", OPERATIONS, ids=by_id)
def test_every_failure_of_an_operation_has_examples_of_its_own_form(operation: Operation) -> None:
    form = failures.FORMS[operation.family]
    for status, answer in answers(operation).items():
        if operation.id == "ready" or int(status) < 400:
            continue
        content = answer["content"]["application/json"]
        assert content["examples"], status
        for code, example in content["examples"].items():
            assert f"`{code}`" in answer["description"]
            msgspec.convert(example["value"], form.answer)
            validator(content["schema"]).validate(example["value"])


@pytest.mark.parametrize("family", failures.FORMS)
def test_an_example_of_a_failure_is_what_the_dialect_writes(family: failures.Family) -> None:
    shown = {
        (int(name[-3:]), msgspec.json.encode(example["value"]))
        for name, answer in whole()["components"]["responses"].items()
        if name.startswith(family.title())
        for example in answer["content"]["application/json"]["examples"].values()
    }
    assert shown <= {failures.FORMS[family].render(error(), failures.REQUEST_ID) for error in errors.every_error()}


def test_every_status_that_an_error_can_have_is_in_the_document_with_its_codes() -> None:
    found: dict[str, str] = {}
    for operation in OPERATIONS:
        for status, answer in answers(operation).items():
            found[status] = found.get(status, "") + answer["description"]
    for error in errors.every_error():
        if error not in failures.UNSENT:
            assert f"`{error.code}`" in found[str(error.status)]
    assert not [error for error in failures.UNSENT if f"`{error.code}`" in "".join(found.values())]


@pytest.mark.parametrize("operation", OPERATIONS, ids=by_id)
def test_every_answer_lists_its_headers(operation: Operation) -> None:
    components = whole()["components"]["headers"]
    for status, answer in answers(operation).items():
        listed = set(answer["headers"])
        assert "x-request-id" in listed
        assert ("retry-after" in listed) == (status in ("429", "503") and operation.id != "ready")
        assert ("request-id" in listed) == (operation.family == "anthropic")
        if status == "429" or (status == "200" and operation.limits):
            assert {f"x-ratelimit-{what}-{kind}" for what in LEVELS for kind in ("requests", "tokens")} <= listed
            assert {"ratelimit", "ratelimit-policy"} <= listed
        assert ("x-gateway-max-tokens" in listed) == (status == "200" and operation.limits)
        assert all(one == {"$ref": f"#/components/headers/{name}"} for name, one in answer["headers"].items())
    assert components["x-request-id"]["required"]


LEVELS = ("limit", "remaining", "reset")


def test_headers_that_pages_may_read_are_those_of_the_document_and_a_backends_way() -> None:
    listed = whole()["components"]["headers"]
    trip = {name.decode() for name, _ in headers.of_trip(Trip("node", 0, 0))}
    assert set(headers.EXPOSED) - trip == set(listed) - {"allow"}
    for header in listed.values():
        validator(header["schema"]).validate(header["example"])


def test_every_reference_leads_somewhere() -> None:
    for reference in references(whole()):
        found = whole()
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
    assert not [name for name in whole()["components"]["schemas"] if "." in name]


def test_every_component_is_referred_to() -> None:
    used = set(references(whole()))
    for kind in ("schemas", "responses", "headers"):
        for name in whole()["components"][kind]:
            assert f"#/components/{kind}/{name}" in used


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


NARROWED: list[tuple[str, dict[str, Any]]] = [
    ("chat", {"n": 2}),
    ("chat", {"audio": {}}),
    ("chat", {"web_search_options": {}}),
    ("chat", {"moderation": {}}),
    ("chat", {"function_call": "auto"}),
    ("chat", {"response_format": {"type": "json_schema", "json_schema": {"schema": "x"}}}),
    ("chat", {"response_format": {"type": "json_schema", "json_schema": {}}}),
    ("chat", {"tools": [{"type": "function"}]}),
    ("chat", {"tools": [{"type": "web_search", "function": TOOL}]}),
    ("chat", {"tools": [{"type": "function", "function": TOOL | {"parameters": []}}]}),
    ("completions", {"n": 2}),
    ("completions", {"best_of": 2}),
    ("completions", {"prompt": None}),
    ("completions", {"prompt": ""}),
    ("completions", {"prompt": [1]}),
    ("completions", {"prompt": []}),
    ("completions", {"prompt": ["x"] * 33}),
    ("embeddings", {"input": ""}),
    ("embeddings", {"input": [1]}),
    ("embeddings", {"input": []}),
    ("embeddings", {"input": ["x"] * 2_049}),
    ("responses", {"input": None}),
    ("responses", {"input": []}),
    ("messages", {"tools": [TOOL_CALLED_NOTHING | {"input_schema": {}}]}),
    ("messages", {"tools": [{"name": "f"}]}),
    ("messages", {"tools": [{"name": "f" * 257, "input_schema": {}}]}),
    ("messages", {"tools": [{"name": "f", "input_schema": []}]}),
    ("messages", {"tools": [{"name": "f", "input_schema": {}, "type": "bash_20250124"}]}),
    ("messages", {"output_config": {"format": {"type": "json_schema"}}}),
    ("messages", {"output_config": {"format": {"type": "json_schema", "schema": 1}}}),
    ("nativeChat", {"messages": []}),
    ("nativeChat", {"messages": None}),
    ("nativeChat", {"format": "xml"}),
    ("nativeGenerate", {"prompt": ""}),
    ("nativeGenerate", {"format": 1}),
    ("nativeEmbed", {"input": []}),
    ("nativeEmbed", {"input": ""}),
    ("nativeEmbeddings", {"prompt": ""}),
]


@pytest.mark.parametrize(("operation_id", "fields"), NARROWED, ids=str)
def test_what_the_document_takes_less_than_the_structs_do_the_parser_refuses(
    operation_id: str, fields: dict[str, Any]
) -> None:
    operation = next(one for one in WITH_BODIES if one.id == operation_id)
    body = (operation.example or {}) | fields
    schema = described(operation)["requestBody"]["content"]["application/json"]["schema"]
    assert not validator(schema).is_valid(body)
    with pytest.raises((GatewayError, msgspec.ValidationError)):
        DIALECTS[operation.path].parse(msgspec.json.encode(body))


@pytest.mark.parametrize(
    ("operation_id", "fields"),
    [
        ("chat", {"n": 1, "audio": None, "tools": [{"function": TOOL}]}),
        ("completions", {"n": None, "best_of": 1, "prompt": ["a", "b"]}),
        ("embeddings", {"input": "x"}),
        ("messages", {"tools": [{"name": "f", "input_schema": {}, "type": "custom"}]}),
        *(("nativeChat", {"format": form}) for form in ("json", {}, None, "")),
        ("nativeGenerate", {"format": {"type": "object"}}),
        ("nativeEmbed", {"input": "x"}),
    ],
    ids=str,
)
def test_what_the_parser_takes_at_those_places_the_document_does_too(operation_id: str, fields: dict[str, Any]) -> None:
    operation = next(one for one in WITH_BODIES if one.id == operation_id)
    body = (operation.example or {}) | fields
    DIALECTS[operation.path].parse(msgspec.json.encode(body))
    validator(described(operation)["requestBody"]["content"]["application/json"]["schema"]).validate(body)


def test_a_model_is_left_out_only_where_there_is_a_default_one() -> None:
    for operation in WITH_BODIES:
        if operation.path in DIALECTS:
            schema = described(operation)["requestBody"]["content"]["application/json"]["schema"]
            without = {name: value for name, value in (operation.example or {}).items() if name != "model"}
            assert validator(schema).is_valid(without) == DIALECTS[operation.path].has_default_model, operation.id


def test_every_field_that_is_narrowed_is_one_of_its_struct() -> None:
    for struct, fields in [*requests.NEEDED.items(), *requests.NARROWER.items()]:
        names = {field.encode_name for field in msgspec.structs.fields(struct)}
        assert set(fields) <= names, struct


def test_descriptions_are_prose() -> None:
    for operation in OPERATIONS:
        for words in (
            described(operation)["description"],
            *(one["description"] for one in answers(operation).values()),
        ):
            assert words.strip() == words
            assert not re.search(r"  |None", words)
