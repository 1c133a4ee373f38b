"""What of Ollama is kept from clients, and how unknown paths and methods are answered, in Ollama's form."""

import pytest

from gateway.dev.fake_ollama import FakeOllama
from gateway.web.blocked import BLOCKED
from tests.world import World, bearer


async def test_every_blocked_route_says_what_to_do_and_never_reaches_a_node(world: World, fake: FakeOllama) -> None:
    before = {one.path for one in fake.ledger.exchanges}
    key = await world.create_key()
    for blocked in BLOCKED:
        path = blocked.path.replace("{digest:str}", "sha256:" + "0" * 64)
        path = path.replace("{key:str}", "k").replace("{rest:path}", "web_search")
        for method in blocked.methods:
            reply = await world.http.request(method, world.url + path, headers=bearer(key))
            assert reply.status_code == 403, path
            assert reply.headers["x-request-id"]
            if method != "HEAD":
                assert reply.json() == {"error": blocked.words, "code": "route_blocked"}
    assert {one.path for one in fake.ledger.exchanges} == before


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/nope", 404, "route_not_found"),
        ("POST", "/api/chat/more", 404, "route_not_found"),
        ("GET", "/api/chat", 405, "method_not_allowed"),
        ("GET", "/api/delete", 405, "method_not_allowed"),
        ("POST", "/api/tags", 405, "method_not_allowed"),
        ("DELETE", "/api/embed", 405, "method_not_allowed"),
    ],
)
async def test_errors_below_api_are_ollamas(world: World, method: str, path: str, status: int, code: str) -> None:
    reply = await world.http.request(method, world.url + path)
    assert (reply.status_code, reply.json()["code"]) == (status, code)
    assert isinstance(reply.json()["error"], str)
    assert reply.headers["x-request-id"]
    assert (status == 405) == ("allow" in reply.headers)


async def test_errors_elsewhere_are_openais_and_have_an_id_too(world: World) -> None:
    replies = [await world.http.get(world.url + "/v1/nope") for _ in range(2)]
    assert [reply.json()["error"]["code"] for reply in replies] == ["route_not_found"] * 2
    assert len({reply.headers["x-request-id"] for reply in replies}) == 2


async def test_a_prompt_is_never_shown_rendered(world: World, fake: FakeOllama) -> None:
    key = await world.create_key()
    body = {"model": "llama3.2:3b", "messages": [{"role": "user", "content": "hi"}], "_debug_render_only": True}
    reply = await world.http.post(world.url + "/api/chat", headers=bearer(key), json=body)
    assert (reply.status_code, reply.json()["code"]) == (403, "render_blocked")
    assert not fake.ledger.inference
