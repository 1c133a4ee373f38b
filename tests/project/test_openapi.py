"""The OpenAPI document: the committed copy is the served one, its examples are real, and it names every error."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import errors
from gateway.cli.openapi import text
from gateway.web.openapi import document
from gateway.web.operations import OPERATIONS, Operation
from gateway.web.routes import CALLS

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "deploy" / "openapi.json"
WITH_BODIES = [operation for operation in OPERATIONS if operation.request]


def test_the_committed_document_is_the_served_one() -> None:
    assert COMMITTED.read_text("utf-8") == text(document(version("llm-gateway"))) + "\n", "run `make openapi`"


@pytest.mark.parametrize("operation", WITH_BODIES, ids=lambda operation: operation.id)
def test_an_example_is_a_request_that_is_understood(operation: Operation) -> None:
    body = msgspec.json.encode(operation.example)
    msgspec.json.decode(body, type=operation.request)
    dialect = CALLS.get(operation.path)
    if dialect:
        dialect.parse(body)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_an_operation_is_described_whole(operation: Operation) -> None:
    described = document("0")["paths"][operation.path][operation.method]
    assert described["summary"]
    assert described["tags"]
    named = set(operation.path.replace("}", "{").split("{")[1::2])
    assert named == {one.name for one in operation.parameters if one.place == "path"}
    assert (operation.request is None) == (operation.example is None)
    if operation.request:
        content = described["requestBody"]["content"]["application/json"]
        assert content["schema"]["$ref"]
        assert content["example"] == operation.example


def test_every_status_that_an_error_can_have_is_in_the_document_with_its_codes() -> None:
    found: dict[str, str] = {}
    for path in document("0")["paths"].values():
        for operation in path.values():
            found |= {status: answer["description"] for status, answer in operation["responses"].items()}
    never_sent = {"client_gone", "replica_lost"}  # nobody is there to read them
    for error in errors.every_error():
        if error.code not in never_sent:
            assert f"`{error.code}`" in found[str(error.status)]


def test_every_reference_leads_somewhere() -> None:
    whole = document("0")
    names = set(whole["components"]["schemas"])
    assert {one.rpartition("/")[2] for one in _references(whole)} <= names
    assert not [name for name in names if "." in name]


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        here = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return here + [found for part in value.values() for found in _references(part)]
    return [found for part in value for found in _references(part)] if isinstance(value, list) else []
