"""Whatever a client sends, it gets a clear 4xx in its own dialect, and nothing is charged for it."""

from collections.abc import Iterator
from typing import Any

import pytest

from gateway.dev.fake_ollama import FakeOllama
from tests.world import ADMIN_SECRET, World, bearer, chat

DEEP = 1_000
HUGE_BYTES = 100_000_000
PIECE = b" " * 1_000_000

CHAT, PLAIN = "/v1/chat/completions", "/v1/generate"
BAD: list[tuple[str, str, Any, int, str]] = [
    ("empty", CHAT, b"", 400, "invalid_json"),
    ("cut off", CHAT, b'{"model":', 400, "invalid_json"),
    ("not JSON", PLAIN, b"prompt=hi", 400, "invalid_json"),
    ("not UTF-8", CHAT, b'{"model":"\xff\xfe","messages":[]}', 400, "invalid_json"),
    ("a list", CHAT, b"[]", 400, "invalid_request"),
    ("NaN", CHAT, b'{"model":"a","messages":[{"role":"user","content":"x"}],"temperature":NaN}', 400, "invalid_json"),
    ("deep", CHAT, b'{"x":' * DEEP + b"1" + b"}" * DEEP, 400, "invalid_request"),
    ("deep lists", PLAIN, b'{"prompt":"x","y":' + b"[" * DEEP + b"]" * DEEP + b"}", 400, "invalid_request"),
    ("no messages", CHAT, {"model": "llama3.2:3b"}, 400, "invalid_request"),
    ("empty messages", CHAT, chat(messages=[]), 400, "invalid_request"),
    ("model is a number", CHAT, chat(model=5), 400, "invalid_request"),
    ("stream is text", CHAT, chat(stream="yes"), 400, "invalid_request"),
    ("unknown role", CHAT, chat(messages=[{"role": "wizard", "content": "x"}]), 400, "invalid_request"),
    ("two answers", CHAT, chat(n=2), 400, "unsupported"),
    ("no tokens", CHAT, chat(max_tokens=0), 400, "invalid_request"),
    ("image address", CHAT, chat(messages=[{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/x.png"}}]}]), 400, "invalid_request"),
    ("tool arguments", CHAT, chat(messages=[{"role": "assistant", "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": "[1]"}}]}]), 400, "invalid_request"),
    ("unknown model", CHAT, chat(model="nope"), 404, "model_not_found"),
    ("cloud model", CHAT, chat(model="gpt-oss:120b-cloud"), 403, "cloud_model_blocked"),
    ("model is a path", CHAT, chat(model="../../etc/passwd"), 404, "model_not_found"),
    ("empty prompt", PLAIN, {"prompt": ""}, 400, "invalid_request"),
    ("prompt is a list", PLAIN, {"prompt": ["x"]}, 400, "invalid_request"),
    ("unknown model", "/generate", {"prompt": "x", "model": "nope"}, 400, "model_not_found"),
    ("unknown model", "/generate/nope:7b", {"prompt": "x"}, 400, "model_not_found"),
]  # fmt: skip


async def test_bad_bodies_are_refused_clearly_and_cost_nothing(world: World, fake: FakeOllama) -> None:
    key = await world.create_key(credits=3, rate_limit_per_min=7)
    before = await world.usage(key)
    for name, path, body, status, code in BAD:
        sent: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
        reply = await world.http.post(world.url + path, headers=bearer(key), **sent)
        assert (reply.status_code, _code(reply.json())) == (status, code), (name, reply.text)
        assert reply.headers["x-request-id"], name
        assert len(_message(reply.json())) > 10, name
    assert _without_clock(await world.usage(key)) == _without_clock(before)
    assert not fake.ledger.inference
    assert await world.rows(0) == []


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_hundred_megabytes_are_refused_and_the_connection_survives(world: World, chunked: bool) -> None:
    key = await world.create_key()

    async def pieces() -> Any:
        for _ in range(HUGE_BYTES // len(PIECE)):
            yield PIECE

    headers = bearer(key) | ({} if chunked else {"content-length": str(HUGE_BYTES)})
    for path, code in ((CHAT, "body_too_large"), ("/admin/api-keys", "body_too_large")):
        headers |= {"x-admin-secret": ADMIN_SECRET, "content-type": "application/json"}
        reply = await world.http.post(world.url + path, headers=headers, content=pieces())
        assert (reply.status_code, _code(reply.json())) == (413, code)
    assert (await world.http.post(world.url + CHAT, headers=bearer(key), json=chat())).status_code == 200
    await world.rows(1)


async def test_encoded_bodies_wrong_methods_and_unknown_routes(world: World) -> None:
    key = await world.create_key()
    encoded = bearer(key) | {"content-encoding": "zstd"}
    reply = await world.http.post(world.url + CHAT, headers=encoded, content=b"x")
    assert (reply.status_code, _code(reply.json())) == (415, "encoding_unsupported")
    for method, path in (("GET", CHAT), ("DELETE", PLAIN), ("PUT", "/generate"), ("POST", "/health")):
        reply = await world.http.request(method, world.url + path, headers=bearer(key))
        assert (reply.status_code, _code(reply.json())) == (405, "method_not_allowed"), (method, path)
        assert reply.headers["allow"]
    for path in ("/api/nope", "/api/chat/more", "/v1/nope", "/admin", "/docs/assets/../../settings.py"):
        reply = await world.http.post(world.url + path, headers=bearer(key), json={})
        assert (reply.status_code, _code(reply.json())) == (404, "route_not_found"), path


async def test_the_admin_api_refuses_bad_bodies_and_strangers(world: World) -> None:
    url = f"{world.url}/admin/api-keys"
    key = await world.create_key()
    for headers in ({}, {"X-Admin-Secret": "wrong"}, {"X-Admin-Secret": ""}, bearer(key), {"X-Admin-Secret": key}):
        for path in (url, url.replace("/admin", "//admin"), url + "/"):
            reply = await world.http.get(path, headers=headers)
            assert (reply.status_code, _code(reply.json())) == (401, "invalid_admin_secret"), path
    secret = {"X-Admin-Secret": ADMIN_SECRET}
    for body in _bad_keys():
        reply = await world.http.post(url, headers=secret, json=body)
        assert (reply.status_code, _code(reply.json())) == (400, "invalid_request"), body
    deep = await world.http.post(url, headers=secret, content=b'{"label":' * DEEP + b"1" + b"}" * DEEP)
    assert deep.status_code == 400
    assert (await world.http.delete(f"{url}/unknown", headers=secret)).status_code == 404
    assert len((await world.admin("GET", "/admin/api-keys")).json()["data"]) == 1


def _bad_keys() -> Iterator[Any]:
    yield from ([], {"labl": "x"}, {"label": 5}, {"label": ""}, {"label": "x" * 65}, {"label": "a\nb"})
    yield from ({"rate_limit_per_min": 0}, {"rate_limit_per_min": "none"}, {"rate_limit_per_min": 10**9})
    yield from ({"monthly_token_limit": -1}, {"credits": -1}, {"credits": "many"}, {"concurrency": 0})
    yield from ({"owner_email": "nobody"}, {"enabled": True}, {"id": "x"}, {"digest": "x"}, {"version": 7})


def _code(reply: dict[str, Any]) -> str:
    error = reply["error"]
    return str(error["code"] if isinstance(error, dict) else reply["code"])


def _message(reply: dict[str, Any]) -> str:
    error = reply["error"]
    return str(error["message"] if isinstance(error, dict) else error)


def _without_clock(usage: dict[str, Any]) -> dict[str, Any]:
    return usage | {"requests_per_min": usage["requests_per_min"]["left"]}
