"""All 60 recorded exchanges, through the running gateway.

Those of Ollama's native inference are replayed as the backend's answer, chunk by chunk, and asked for in every dialect
that can ask for it: the meaning must arrive in each. Those of the other dialects, and of the routes that list models,
are asked as they were recorded, and the fake node answers what the gateway makes of them: the client must get what
Ollama's own layer would say, or better. Where we mean to differ, this file says so.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from msgspec import Struct

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from tests import exchanges
from tests.exchanges import Meaning
from tests.world import World, bearer, chat

PROBES_S = 15
Exchange = dict[str, Any]
INFERENCE = ("/api/chat", "/api/generate")
REFUSED_FIRST = {
    "chat-load": "a request without messages loads a model for everybody",
    "generate-unload": "a request without a prompt unloads a model for everybody",
    "chat-bad-json": "it never gets as far as a backend",
}
HIDDEN_BY_OLLAMA = {"oai-chat-midstream-error", "oai-chat-truncated", "anth-midstream-error"}
"""streams whose failure Ollama's own layer swallows; ours tells"""
HIDDEN_WHOLE = {"oai-chat-truncated-nostream"}
OTHER_STATUS = {"load-fail-anthropic": 502}
"""a node's fault is a 502 here, with the node's words: 500 would be a fault of the gateway's own"""
EXPECTED_STATUS = {500: 502, 404: 404, 400: 400, 503: 503}


class Tongue(Struct, frozen=True):
    """A dialect: how a native request is put in it, and what its answers mean."""

    path: str
    put: Callable[[dict[str, Any]], dict[str, Any]]
    mean: Callable[[int, str], Meaning]
    thinks: bool = True
    """whether thought is part of its answers"""
    tool_finish: str = "stop"


def _chat(request: dict[str, Any]) -> dict[str, Any]:
    options, think = request.get("options", {}), request.get("think")
    return {
        "model": request["model"],
        "messages": request["messages"],
        "stream": request.get("stream", True),
        "stream_options": {"include_usage": True},
        "tools": request.get("tools"),
        "max_tokens": options.get("num_predict"),
        "reasoning_effort": "medium" if think else None,
        "logprobs": request.get("logprobs"),
        "top_logprobs": request.get("top_logprobs"),
    }


def _responses(request: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": request["model"],
        "input": request["messages"],
        "stream": request.get("stream", True),
        "tools": [{"type": "function", **tool["function"]} for tool in request.get("tools", [])],
        "max_output_tokens": request.get("options", {}).get("num_predict"),
        "reasoning": {"effort": "medium"} if request.get("think") else None,
    }


def _messages(request: dict[str, Any]) -> dict[str, Any]:
    tools = [tool["function"] for tool in request.get("tools", [])]
    return {
        "model": request["model"],
        "messages": request["messages"],
        "stream": request.get("stream", True),
        "max_tokens": request.get("options", {}).get("num_predict", 1_024),
        "tools": [{"name": t["name"], "description": t["description"], "input_schema": t["parameters"]} for t in tools],
        **({"thinking": {"type": "enabled", "budget_tokens": 1_024}} if request.get("think") else {}),
    }


def _native(request: dict[str, Any]) -> dict[str, Any]:
    return request


def _plain(request: dict[str, Any]) -> dict[str, Any]:
    """Ollama streams unless told otherwise; the other dialects do not."""
    return {"stream": True, **request}


def _completion(request: dict[str, Any]) -> dict[str, Any]:
    return {**_plain(request), "stream_options": {"include_usage": True}}


CHAT_TONGUES = (
    Tongue("/v1/chat/completions", _chat, exchanges.openai, tool_finish="tool_calls"),
    Tongue("/v1/responses", _responses, exchanges.responses),
    Tongue("/v1/messages", _messages, exchanges.anthropic),
    Tongue("/api/chat", _native, exchanges.native),
)
PROMPT_TONGUES = (
    Tongue("/v1/completions", _completion, exchanges.completions, thinks=False),
    Tongue("/v1/generate", _plain, exchanges.native, thinks=False),
    Tongue("/api/generate", _native, exchanges.native),
)
BY_PATH = {tongue.path: tongue for tongue in CHAT_TONGUES + PROMPT_TONGUES}


@pytest.fixture
async def key(world: World) -> str:
    return await world.create_key(rate_limit_per_min=10_000)


async def _ask(world: World, key: str, path: str, body: Any, method: str = "POST") -> httpx.Response:
    sent = {"content": body} if isinstance(body, str) else {"json": body}
    return await world.http.request(method, world.url + path, headers=bearer(key), **({} if body is None else sent))


def _upstream() -> list[Exchange]:
    """The exchanges whose answers a backend of ours can give."""
    found = [one for one in exchanges.recorded("A", "B", "J") if one["request"]["path"] in INFERENCE]
    return [one for one in found if one["name"] not in REFUSED_FIRST]


async def test_native_answers_keep_their_meaning_in_every_dialect(world: World, fake: FakeOllama, key: str) -> None:
    cases = _upstream()
    assert len(cases) == 16
    asked = ok = 0
    for exchange in cases:
        request = exchanges.body_of(exchange)
        assert request is not None
        request["model"] = "llama3.2:3b" if request["model"] == "nope" else request["model"]
        path, response = exchange["request"]["path"], exchange["response"]
        for tongue in CHAT_TONGUES if path == "/api/chat" else PROMPT_TONGUES:
            fake.replay(path, response)
            reply = await _ask(world, key, tongue.path, tongue.put(request))
            meant = exchanges.native(response["status"], response["body"])
            _same(f"{exchange['name']} as {tongue.path}", meant, tongue.mean(reply.status_code, reply.text), tongue)
            asked += 1
            ok += meant.done
            if not meant.done:
                await _forgive(world, key)
    assert asked == 14 * 4 + 2 * 3
    assert len(fake.ledger.inference) == asked + (asked - ok)
    rows = await world.rows(asked + (asked - ok))
    assert sum(row["status"] == "ok" for row in rows) == ok + (asked - ok)
    assert all(row["total_tokens"] == row["credits_micro"] == 0 for row in rows if row["status"] != "ok")


async def _forgive(world: World, key: str) -> None:
    """A good call, for three bad ones on end would make the gateway leave the node alone."""
    assert (await _ask(world, key, "/api/chat", chat(stream=False))).status_code == 200


def _same(name: str, meant: Meaning, got: Meaning, tongue: Tongue) -> None:
    assert got.text == meant.text, name
    assert got.tools == meant.tools, name
    assert got.thought == (meant.thought if tongue.thinks else ""), name
    if not meant.done:
        status = EXPECTED_STATUS.get(meant.error) if isinstance(meant.error, int) else "mid-stream"
        assert (got.error, got.done) == (status or "mid-stream", False), name
        return
    assert (got.error, got.done) == (None, True), name
    assert got.finish == (tongue.tool_finish if meant.tools else meant.finish), name
    if tongue.path != "/v1/generate":  # which has them in OpenAI's words
        assert (got.prompt_tokens, got.completion_tokens) == (meant.prompt_tokens, meant.completion_tokens), name


async def test_every_recorded_body_means_the_same_one_byte_at_a_time(world: World, fake: FakeOllama, key: str) -> None:
    """Streams, whole answers, embeddings and errors, through the sockets of the node and of the client."""
    cases = [*_upstream(), _named("embed"), _named("busy-embed")]
    for exchange in cases:
        request = exchanges.body_of(exchange)
        assert request is not None
        request["model"] = "llama3.2:3b" if request["model"] == "nope" else request["model"]
        path, response = exchange["request"]["path"], exchange["response"]
        answers = []
        for chunks in (response["chunks"], list(response["body"])):
            fake.replay(path, response | {"chunks": chunks})
            reply = await _ask(world, key, path, request)
            answers.append((reply.status_code, reply.text))
        assert answers[0] == answers[1], exchange["name"]
        await _forgive(world, key)
    await world.rows(3 * len(cases))


async def test_embeddings_keep_their_vectors_in_every_dialect(world: World, fake: FakeOllama, key: str) -> None:
    embed, missing, busy = (_named(name) for name in ("embed", "embed-404", "busy-embed"))
    vectors = httpx.Response(200, text=embed["response"]["body"]).json()["embeddings"]
    for path in ("/api/embed", "/v1/embeddings"):
        fake.replay("/api/embed", embed["response"])
        body = exchanges.body_of(embed)
        reply = (await _ask(world, key, path, body)).json()
        assert (reply.get("embeddings") or [one["embedding"] for one in reply["data"]]) == vectors, path
        fake.replay("/api/embed", busy["response"])
        assert (await _ask(world, key, path, body)).status_code == 503
        assert (await _ask(world, key, path, exchanges.body_of(missing))).status_code == 404
    legacy = _named("embeddings-legacy")
    reply = await _ask(world, key, "/api/embeddings", exchanges.body_of(legacy))
    assert len(reply.json()["embedding"]) == 768  # asked as /api/embed upstream: the only one that counts tokens
    assert fake.ledger.inference[-1].path == "/api/embed"
    await world.rows(5)


async def test_what_would_load_unload_or_break_never_gets_to_a_backend(
    world: World, fake: FakeOllama, key: str
) -> None:
    for name, status in (("chat-load", 403), ("generate-unload", 403), ("chat-bad-json", 400)):
        exchange = _named(name)
        reply = await _ask(world, key, exchange["request"]["path"], exchange["request"]["body"])
        assert (reply.status_code, "error" in reply.json()) == (status, True), name
    assert not fake.ledger.inference
    await world.rows(0)


async def test_requests_of_other_dialects_get_what_ollamas_own_layer_would_say_or_better(
    world: World, fake: FakeOllama, key: str
) -> None:
    asked = _asked_as_recorded()
    assert len(asked) == 10 + 2 + 3 + 5 + 3  # chat, completions, responses, messages, busy and load failure
    for exchange in asked:
        name, path = exchange["name"], exchange["request"]["path"]
        tongue = BY_PATH[path]
        if name.startswith(("busy", "load-fail")):
            fake.behaviour = Behaviour(queue_full="busy" in name, load_failure="load" in name, remaining=1)
        reply = await _ask(world, key, path, exchange["request"]["body"])
        got = tongue.mean(reply.status_code, reply.text)
        meant = tongue.mean(exchange["response"]["status"], exchange["response"]["body"]) if _means(name) else None
        if name in HIDDEN_BY_OLLAMA:
            assert (got.text, got.error, got.done) == (_text_before_failure(name), "mid-stream", False), name
        elif name in HIDDEN_WHOLE:
            assert got.error == 502, name
        elif name in OTHER_STATUS:
            assert got.error == OTHER_STATUS[name], name
        else:
            assert meant is not None
            assert (got.text, got.tools) == (meant.text, meant.tools), name
            assert got.thought == (meant.thought if meant.tools else meant.thought.replace("Oslo", "the sky")), name
            assert (got.finish, got.error, got.done) == (meant.finish, meant.error, meant.done), name
            assert (got.prompt_tokens is None) == (meant.prompt_tokens is None), name
        await _forgive(world, key)


def _means(name: str) -> bool:
    return name not in HIDDEN_BY_OLLAMA


def _text_before_failure(name: str) -> str:
    return "Blue" if "midstream" in name else "Blue light scatters most."


def _asked_as_recorded() -> list[Exchange]:
    return [one for one in exchanges.recorded("D", "E", "G", "H", "J") if one["request"]["path"] in BY_PATH
            and one["request"]["path"] not in INFERENCE]  # fmt: skip


async def test_embeddings_and_models_of_openai_have_ollamas_shapes(world: World, key: str) -> None:
    for name in ("oai-embed", "oai-embed-b64", "oai-model", "oai-model-404", "oai-models"):
        exchange = _named(name)
        request = exchange["request"]
        reply = await _ask(world, key, request["path"], request["body"], request["method"])
        assert reply.status_code == exchange["response"]["status"], name
        if reply.status_code == 200:
            meant = httpx.Response(200, text=exchange["response"]["body"]).json()
            assert _shape(reply.json()) == _shape(meant), name
    got = (await _ask(world, key, "/v1/models", None, "GET")).json()["data"]
    meant = httpx.Response(200, text=_named("oai-models")["response"]["body"]).json()["data"]
    assert {(one["id"], one["owned_by"]) for one in got} == {(one["id"], one["owned_by"]) for one in meant}


async def test_probes_say_what_ollamas_say(world: World, fake: FakeOllama, key: str) -> None:
    await _ask(world, key, "/api/chat", exchanges.body_of(_named("chat-nostream")))  # so that one is loaded
    await _loaded(world, key)
    for name in ("version", "tags", "ps", "show", "show-404"):
        exchange = _named(name)
        request = exchange["request"]
        reply = await _ask(world, key, request["path"], request["body"], request["method"])
        meant = httpx.Response(200, text=exchange["response"]["body"]).json()
        assert reply.status_code == exchange["response"]["status"], name
        if name == "show":  # without what names files of the node
            assert set(reply.json()) <= set(meant), name
            assert "/root" not in reply.text
        elif reply.status_code == 200:
            assert _holds(_shape(reply.json()), _shape(meant)), name
    recorded = httpx.Response(200, text=_named("tags")["response"]["body"]).json()["models"]
    tags = (await _ask(world, key, "/api/tags", None, "GET")).json()["models"]
    assert {one["name"]: one["digest"] for one in tags} == {one["name"]: one["digest"] for one in recorded}


async def test_what_is_no_route_of_ours_is_said_in_the_same_status(world: World, key: str) -> None:
    for name, status in (("405", 405), ("404-route", 404), ("status", 403), ("root", 200)):
        exchange = _named(name)
        assert exchange["response"]["status"] in (status, 200), name  # /api/status is one that we keep to ourselves
        reply = await _ask(world, key, exchange["request"]["path"], None, exchange["request"]["method"])
        assert reply.status_code == status, name


def test_every_exchange_is_in_one_of_these_tests() -> None:
    named = {
        *REFUSED_FIRST, "embed", "embed-404", "embeddings-legacy", "busy-embed",
        "oai-embed", "oai-embed-b64", "oai-model", "oai-model-404", "oai-models",
        "version", "tags", "ps", "show", "show-404", "405", "404-route", "status", "root",
    }  # fmt: skip
    in_loops = {one["name"] for one in _upstream() + _asked_as_recorded()}
    assert not named & in_loops
    every = [one["name"] for one in exchanges.recorded(*"ABCDEFGHIJ")]
    assert len(every) == 60
    assert named | in_loops == set(every)


async def _loaded(world: World, key: str) -> None:
    """The next probe has seen the model that was just used."""
    async with asyncio.timeout(PROBES_S):
        while not (await _ask(world, key, "/api/ps", None, "GET")).json()["models"]:
            await asyncio.sleep(0.02)


def _named(name: str) -> Exchange:
    (found,) = (one for one in exchanges.recorded(*"ABCDEFGHIJ") if one["name"] == name)
    return found


def _holds(got: Any, meant: Any) -> bool:
    """Whether a shape has all that is meant; it may have more."""
    if isinstance(meant, dict):
        return all(name in got and _holds(got[name], part) for name, part in meant.items())
    if isinstance(meant, list) and meant:
        return _holds(got[0], meant[0])
    return bool(got == meant)


def _shape(value: Any) -> Any:
    """The names and kinds of an answer, whatever its values: a list is what its first entry is."""
    if isinstance(value, dict):
        return {name: _shape(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) else type(value).__name__
