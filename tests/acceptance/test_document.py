"""The OpenAPI document is true: 10,000 requests made of it, good and bad ones, get only what it says, and no 5xx.

Three kinds of each operation's requests: real ones (its own example, with some generated fields or with ones from
MORE), generated ones, and generated ones that are wrong. Every operation and each of its content types has to succeed
often enough that its schema means something.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import hypothesis
import jsonschema_rs
import msgspec
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.dev.fake_ollama import FakeOllama
from gateway.web.operation import Operation
from gateway.web.operations import OPERATIONS, QUESTION
from tests.acceptance.conftest import Start
from tests.world import ADMIN_SECRET, World, bearer

EXAMPLES = 10_000
BODILESS_EXAMPLES = 20
FIELDS_MAX = 2
"""generated fields on a real request: more of them, and hardly any is understood"""
SUCCESSES_MIN = 10
"""for each operation and content type"""
BROKEN_MIN = 5
"""streams that fail, for each operation that streams a model's answer"""
EVENTS_MAX = 100_000
"""of one stream that are read: unless told, schemathesis leaves after 20, and many prompts in one request make more"""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    response_headers_conformance,
    response_schema_conformance,
    content_type_conformance,
]
MODELS = ("llama3.2:3b", "qwen3:8b", "nomic-embed-text")
THINKER = "qwen3:8b"
BROKEN = "(MIDERR)"
"""makes the fake model server fail in the midst of an answer"""

_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
_FUNCTION = {"name": "get_weather", "parameters": _SCHEMA}
_CALLED = {"model": THINKER, "tools": [{"type": "function", "function": _FUNCTION}]}
_FLAT = {"model": THINKER, "tools": [{"type": "function", **_FUNCTION}]}
_USED = {"model": THINKER, "tools": [{"name": "get_weather", "input_schema": _SCHEMA}]}
_JSON = {"type": "json_schema", "schema": _SCHEMA}
MORE: dict[str, tuple[dict[str, Any], ...]] = {
    "chat": (
        _CALLED,
        _CALLED | {"tool_choice": "required"},
        {"model": THINKER, "reasoning_effort": "high"},
        {"logprobs": True, "top_logprobs": 1},
        {"stream_options": {"include_usage": True}},
        {"response_format": {"type": "json_object"}},
        {"max_tokens": 2},
    ),
    "completions": (
        {"logprobs": 1, "echo": True},
        {"stream_options": {"include_usage": True}},
        {"prompt": ["one", "two"]},
        {"max_tokens": 2},
    ),
    "embeddings": ({"encoding_format": "base64"}, {"dimensions": 3}),
    "responses": (
        _FLAT,
        _FLAT | {"tool_choice": {"type": "function", "name": "get_weather"}},
        {"model": THINKER, "reasoning": {"effort": "high"}, "include": ["reasoning.encrypted_content"]},
        {"include": ["message.output_text.logprobs"], "top_logprobs": 1},
        {"text": {"format": _JSON | {"name": "place"}}},
        {"max_output_tokens": 2, "metadata": {"a": "b"}},
    ),
    "messages": (
        _USED,
        _USED | {"tool_choice": {"type": "any"}},
        {"thinking": {"type": "enabled", "budget_tokens": 1_024}},
        {"thinking": {"type": "enabled", "budget_tokens": 1_024, "display": "omitted"}},
        {"stop_sequences": ["scatters"]},
        {"output_config": {"format": _JSON}},
        {"max_tokens": 2},
    ),
    "nativeChat": (_CALLED, {"model": THINKER, "think": True}, {"logprobs": True}, {"options": {"num_predict": 2}}),
    "nativeGenerate": ({"model": THINKER, "think": True}, {"logprobs": True}, {"raw": True}, {"format": "json"}),
    "nativeEmbed": ({"input": ["one", "two"]}, {"dimensions": 3}),
    "show": ({"model": THINKER}, {"verbose": True}),
}
"""what real requests say, so that answers of every shape come back; prompts get the fake's (TOOL) with tools"""

FRESH = {
    "createTier": "name",
    "createPrice": "model",
    "grantCredits": "id",
    "addBackend": "name",
    "addAlias": "name",
}
"""what has to be new in each request"""
NOWHERE = "http://127.0.0.1:9"
"""a node's address where nobody listens"""

Seen = Counter[tuple[str, int, str]]
"""operation id, status, content type; that of a stream that failed ends in BROKEN"""


class Way:
    """One operation: its requests, and what its answers are held against."""

    def __init__(self, found: Any, operation: Operation, document: dict[str, Any]) -> None:
        self.found = found
        self.operation = operation
        self.bodies: list[dict[str, Any]] = [{}]
        """good ones that were generated: real requests take fields of theirs, as generating takes most of the time"""
        self._line: jsonschema_rs.Draft202012Validator | None = None
        if operation.streamed and operation.streamed.content_type == "application/x-ndjson":
            described = document["paths"][operation.path][operation.method]["responses"][str(operation.status)]
            schema = described["content"][operation.streamed.content_type]["schema"]
            self._line = jsonschema_rs.Draft202012Validator(schema | {"components": document["components"]})

    def check(self, case: Any, reply: Any) -> str:
        """Holds the answer against the document. Its content type, with BROKEN after that of a stream that failed."""
        case.validate_response(reply, checks=CHECKS)
        kind = str(reply.headers.get("content-type", [""])[0].partition(";")[0])
        if reply.status_code == 200 and self.operation.limits:
            assert "x-ratelimit-limit-requests" in reply.headers
        if reply.status_code >= 400 or self.operation.streamed is None or kind == "application/json":
            return kind
        items = list(self._items(reply.content))
        for item in items if self._line else ():  # schemathesis reads events, but no NDJSON
            self._line.validate(item)
        assert items, "a stream of nothing"
        return kind + (BROKEN if _failed(items[-1]) else "")

    def _items(self, body: bytes) -> Iterator[dict[str, Any]]:
        """The objects of a stream. One that is whole ends as the document says."""
        if self._line:
            yield from (msgspec.json.decode(line) for line in body.splitlines())
            return
        data = [line.removeprefix(b"data: ") for line in body.splitlines() if line.startswith(b"data: ")]
        streamed = self.operation.streamed
        end = (streamed.end if streamed else "").encode()
        items = [msgspec.json.decode(one) for one in data if one != end]
        assert not end or (data[-1] == end) != _failed(items[-1])
        assert data.count(end) <= 1
        yield from items


def _failed(item: dict[str, Any]) -> bool:
    """Whether it is what ends a stream that failed."""
    return bool(item.get("error")) or item.get("type") in ("error", "response.failed")


class Things:
    """What operators have made: one of everything that stays, and some of each that requests remove.

    What is called by a name is kept by its kind, as the path says it.
    """

    def __init__(self, stays: dict[str, str], go: dict[str, list[str]]) -> None:
        self._stays = stays
        self._go = go
        self._made = 0

    def path(self, operation: Operation) -> dict[str, Any]:
        """Of a real request: the things that it names are there."""
        path = {one.name: one.example for one in operation.parameters if one.place == "path"}
        left = self._go.get(operation.id, [])
        kind = operation.path.split("/")[2] if "name" in path else ""
        return {name: left.pop() if left else self._stays.get(kind or name, value) for name, value in path.items()}

    def body(self, operation: Operation) -> dict[str, Any]:
        """The example, about what is there, and under a name that is not taken."""
        self._made += 1
        fresh = FRESH.get(operation.id)
        body = dict(operation.example or {}) | ({fresh: f"made-{self._made}"} if fresh else {})
        body |= {"url": f"{NOWHERE}/{self._made}"} if operation.id == "addBackend" else {}
        return body | ({"key_id": self._stays["key_id"]} if "key_id" in body else {})


async def _things(world: World) -> Things:
    async def make(path: str, **body: Any) -> str:
        made = (await world.admin("POST", f"/admin/{path}", json=body)).json()
        return str(made.get("id", made.get("name")))

    stays = {
        "key_id": await make("api-keys"),
        "team_id": await make("teams"),
        "tiers": await make("tiers", name="stays"),
        "backends": await make("backends", name="stays", url=NOWHERE),
        "aliases": await make("aliases", name="stays", targets=MODELS),
    }
    numbers = range(BODILESS_EXAMPLES)
    later = {"per_request": 1, "valid_from": "2999-01-01T00:00:00Z"}
    go = {
        "revokeApiKey": [await make("api-keys") for _ in numbers],
        "removeTeam": [await make("teams") for _ in numbers],
        "removeTier": [await make("tiers", name=f"goes-{number}") for number in numbers],
        "removeBackend": [await make("backends", name=f"goes-{n}", url=f"{NOWHERE}/goes/{n}") for n in numbers],
        "removeAlias": [await make("aliases", name=f"goes-{number}", targets=MODELS) for number in numbers],
        "removePrice": [await make("prices", model=f"goes-{number}", **later) for number in numbers],
    }
    return Things(stays, go)


@st.composite
def _real(draw: st.DrawFn, way: Way, things: Things) -> Any:
    """The operation's own example, with a few generated fields that it has not, or with some of MORE's."""
    draw(st.integers(0, 2**16))  # so that the same request again is another example
    operation = way.operation
    path = things.path(operation)
    if operation.example is None:
        return way.found.Case(path_parameters=path)
    body, more = things.body(operation), MORE.get(operation.id, ())
    if more and draw(st.booleans()):
        body |= draw(st.sampled_from(more))
    else:
        generated = draw(st.sampled_from(way.bodies))
        others = sorted(set(generated) - set(body) - {"stream"})
        kept = draw(st.lists(st.sampled_from(others), max_size=FIELDS_MAX)) if others else ()
        body |= {name: generated[name] for name in kept}
    body = _streamed(draw, operation, body)
    return way.found.Case(path_parameters=path, body=body, media_type="application/json")


def _streamed(draw: st.DrawFn, operation: Operation, body: dict[str, Any]) -> dict[str, Any]:
    """The body with a word on streaming, and markers for the fake: some streams fail in their midst."""
    if operation.streamed is None:
        return body
    stream = draw(st.sampled_from((True, True, False, None)))
    body |= {} if stream is None else {"stream": stream}
    marker = "(TOOL)" if body.get("tools") else BROKEN if stream and draw(st.integers(0, 3)) == 0 else ""
    if (
        not marker
        or body.get("tool_choice")
        or (marker == BROKEN and set(body) - {*(operation.example or ()), "stream"})
    ):
        return body  # what else is asked for may hold back the first token: then the failure is a 502, as it should be
    return dict(msgspec.json.decode(msgspec.json.encode(body).replace(QUESTION.encode(), f"Why {marker}?".encode())))


@st.composite
def _generated(draw: st.DrawFn, way: Way, mode: GenerationMode) -> Any:
    """Some of these requests name a model that there is, so that they get as far as an answer."""
    case, model = draw(way.found.as_strategy(generation_mode=mode)), draw(st.sampled_from((None, *MODELS)))
    if mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
        way.bodies.append(dict(case.body))
    if model and isinstance(case.body, dict) and "model" in case.body:
        case.body["model"] = model
    return case


def _tried(cases: st.SearchStrategy[Any], count: int, ask: Callable[[Any], None]) -> None:
    """Up to `count` examples of one kind. Fewer where there are no more."""

    @hypothesis.seed(random.randrange(2**32))
    @hypothesis.settings(
        max_examples=count,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def each(case: Any) -> None:
        ask(case)

    each()


@pytest.mark.timeout(900)
async def test_ten_thousand_requests_get_only_documented_answers(start: Start, fake: FakeOllama) -> None:
    fake.shelf.add("pull:latest")  # GET /v1/models/pull is a route of its own
    async with start([fake.url]) as world:
        key = await world.create_key(rate_limit_per_min=1_000_000, monthly_token_limit=None)
        there = await _things(world)
        document = (await world.http.get(f"{world.url}/openapi.json")).json()
        try:
            seen = await asyncio.to_thread(_drive, document, world.url, key, there)
        except Exception:
            print("\n".join(line for line in world.log("replica-0").splitlines() if '"level":"info"' not in line))
            raise
    _print(seen)
    assert seen.total() >= EXAMPLES
    assert not _missing(seen)


def _drive(document: dict[str, Any], url: str, key: str, things: Things) -> Seen:
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url)
    schema.config.max_stream_events = EVENTS_MAX
    by_id = {operation.id: operation for operation in OPERATIONS}
    ways = [
        Way(found, by_id[found.definition.raw["operationId"]], document)
        for found in (one.ok() for one in schema.get_all_operations())
    ]
    rich = [way for way in ways if way.operation.example]
    seen: Seen = Counter()
    headers = bearer(key) | {"X-Admin-Secret": ADMIN_SECRET}
    session, http = requests.Session(), httpx.Client(base_url=url, headers=headers)

    for way in ways:

        def ask(case: Any, way: Way = way) -> None:
            reply = case.call(headers=headers, session=session)
            kind = way.check(case, reply)
            seen[way.operation.id, reply.status_code, kind] += 1
            if kind.endswith(BROKEN):  # three on end, and the only node would be ejected
                body = {"prompt": QUESTION, "model": (way.operation.example or {}).get("model", MODELS[0])}
                http.post("/generate", json=body).raise_for_status()

        count = -(-EXAMPLES // len(rich)) if way in rich else BODILESS_EXAMPLES
        _tried(_generated(way, GenerationMode.POSITIVE), count // 3, ask)
        if way in rich:
            _tried(_generated(way, GenerationMode.NEGATIVE), count // 6, ask)
        _tried(_real(way, things), count - count // 3 - count // 6, ask)
    session.close()
    http.close()
    return seen


def _missing(seen: Seen) -> list[str]:
    """What an operation should have answered more often."""
    missing = []
    for one in (operation for operation in OPERATIONS if operation.answer):
        wanted = {one.content_type: SUCCESSES_MIN}
        if one.streamed:
            wanted[one.streamed.content_type] = SUCCESSES_MIN
            wanted[one.streamed.content_type + BROKEN] = BROKEN_MIN if one.access == "key" else 0
        for kind, least in wanted.items():
            if (times := seen[one.id, one.status, kind]) < least:
                missing.append(f"{one.id}: {times} of {least} {one.status} {kind}")
    return missing


def _print(seen: Seen) -> None:
    statuses: Counter[int] = Counter()
    for (operation_id, status, kind), times in sorted(seen.items()):
        statuses[status] += times
        print(f"{operation_id:24} {status} {kind:36} {times:6}")
    print(f"{seen.total()} requests, SEED={os.environ['SEED']}: {dict(sorted(statuses.items()))}")
