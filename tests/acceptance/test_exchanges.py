"""Every recorded exchange whose route there is passes through the gateway with its meaning kept.

Native ones are replayed byte by byte, chunk by chunk, as the backend's answer; OpenAI ones are asked as recorded, and
the fake node answers the native request that the gateway makes of them.
"""

from typing import Any

import pytest

from gateway.dev.fake_ollama import FakeOllama
from tests import exchanges
from tests.exchanges import Meaning
from tests.world import World, bearer

NOT_FOR_CLIENTS = {
    "chat-load": "a request without messages loads a model for everybody: refused",
    "generate-unload": "a request without a prompt unloads a model for everybody: refused",
    "chat-bad-json": "it never gets as far as a backend: see test_bad_requests",
    "busy-embed": "no embeddings in this dialect",
    "busy-responses": "no such route yet",
    "load-fail-anthropic": "no such route yet",
    "busy-oai": "what a client sees of busy-native",
}
FINISH = {"stop": "stop", "length": "length"}


@pytest.fixture
async def key(world: World) -> str:
    return await world.create_key(rate_limit_per_min=10_000)


async def test_native_answers_keep_their_meaning(world: World, fake: FakeOllama, key: str) -> None:
    cases = [one for one in exchanges.recorded("A", "B", "J") if one["name"] not in NOT_FOR_CLIENTS]
    assert len(cases) == 16
    for exchange in cases:
        request = exchanges.body_of(exchange)
        assert request is not None
        path = exchange["request"]["path"]
        fake.replay(path, exchange["response"])
        got = await (_as_chat if path == "/api/chat" else _as_plain)(world, key, request)
        meant = exchanges.native(exchange["response"]["status"], exchange["response"]["body"])
        _compare(exchange["name"], meant, got, plain=path == "/api/generate", streamed=request.get("stream", True))
    assert len(fake.ledger.inference) == len(cases)
    ok = sum(one["response"]["status"] == 200 for one in cases)
    rows = await world.rows(len(cases))
    broken = {"chat-midstream-error", "chat-truncated"}
    assert sum(row["status"] == "ok" for row in rows) == ok - len(broken & {one["name"] for one in cases})
    assert all(row["total_tokens"] == row["credits_micro"] == 0 for row in rows if row["status"] != "ok")


async def test_openai_requests_get_what_ollamas_own_layer_would_say_or_better(
    world: World, fake: FakeOllama, key: str
) -> None:
    for exchange in exchanges.recorded("D"):
        request = exchanges.body_of(exchange)
        reply = await world.http.post(f"{world.url}/v1/chat/completions", headers=bearer(key), json=request)
        got = exchanges.openai(reply.status_code, reply.text)
        meant = exchanges.openai(exchange["response"]["status"], exchange["response"]["body"])
        name = exchange["name"]
        if name in ("oai-chat-midstream-error", "oai-chat-truncated"):  # Ollama hides these; we do not
            assert (got.text, got.error, got.done) == (meant.text, "mid-stream", False), name
        elif name in ("oai-chat-midstream-error-nostream", "oai-chat-truncated-nostream"):
            assert got.error == 502, name
        else:
            assert (got.text, got.thought, got.tools, got.finish, got.error, got.done) == (
                meant.text,
                meant.thought,
                meant.tools,
                meant.finish,
                meant.error,
                meant.done,
            ), name
            assert (got.prompt_tokens is None) == (meant.prompt_tokens is None), name


async def _as_chat(world: World, key: str, request: dict[str, Any]) -> Meaning:
    """The native chat request as a client of OpenAI's API would put it."""
    options, think = request.get("options", {}), request.get("think")
    body = {
        "model": request["model"] if request["model"] != "nope" else "llama3.2:3b",
        "messages": request["messages"],
        "stream": request.get("stream", True),
        "stream_options": {"include_usage": True},
        "tools": request.get("tools"),
        "max_tokens": options.get("num_predict"),
        "reasoning_effort": "medium" if think else None,
        "logprobs": request.get("logprobs"),
        "top_logprobs": request.get("top_logprobs"),
    }
    reply = await world.http.post(f"{world.url}/v1/chat/completions", headers=bearer(key), json=body)
    return exchanges.openai(reply.status_code, reply.text)


async def _as_plain(world: World, key: str, request: dict[str, Any]) -> Meaning:
    body = {"stream": True, **request}  # Ollama streams unless told otherwise, this route does not
    reply = await world.http.post(f"{world.url}/v1/generate", headers=bearer(key), json=body)
    return exchanges.native(reply.status_code, reply.text)


def _compare(name: str, meant: Meaning, got: Meaning, *, plain: bool, streamed: bool) -> None:
    assert (got.text, got.thought, got.tools) == (meant.text, meant.thought, meant.tools), name
    if meant.error is not None or not meant.done:
        status = {500: 502, 404: 404, 400: 400, 503: 503}.get(meant.error if isinstance(meant.error, int) else 0)
        assert got.error == (status or "mid-stream"), name
        assert not got.done, name
        return
    assert got.error is None, name
    assert got.done, name
    assert got.finish == ("tool_calls" if meant.tools else FINISH[meant.finish or "stop"]), name
    if not plain:
        assert (got.prompt_tokens, got.completion_tokens) == (meant.prompt_tokens, meant.completion_tokens), name
