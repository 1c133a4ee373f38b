"""What every answer says of itself in its headers, whatever route it comes from."""

import pytest

from gateway.dev.fake_ollama import FakeOllama
from gateway.web.operation import Operation
from gateway.web.operations import OPERATIONS
from tests.acceptance.conftest import Start
from tests.world import ADMIN_SECRET, World, bearer, chat

ID_CHARS = 36


def _path(operation: Operation) -> str:
    path = operation.path
    for parameter in operation.parameters:
        path = path.replace(f"{{{parameter.name}}}", str(parameter.example))
    return path


async def test_every_answer_of_every_route_has_an_id_of_its_own(world: World) -> None:
    key = await world.create_key(rate_limit_per_min=1_000)
    seen = set()
    for operation in OPERATIONS:
        for headers in (bearer(key) | {"X-Admin-Secret": ADMIN_SECRET}, {}):
            reply = await world.http.request(
                operation.method, world.url + _path(operation), headers=headers, json=operation.example
            )
            found = reply.headers.get("x-request-id", "")
            assert len(found) == ID_CHARS, (operation.id, reply.status_code)
            seen.add(found)
    assert len(seen) == 2 * len(OPERATIONS)


async def test_an_error_has_the_form_of_its_route_whoever_found_it(world: World) -> None:
    forms = {
        "/api/nope": {"error", "code"},
        "/v1/messages/nope": {"type", "error", "request_id"},
        "/v1/nope": {"error"},
    }
    for path, names in forms.items():
        reply = await world.http.post(world.url + path, json={})
        assert (reply.status_code, set(reply.json())) == (404, names), path
    for path, names in (
        ("/generate/llama3.2:3b", {"error", "code", "detail"}),
        ("/v1/generate", {"error", "code", "detail"}),
        ("/v1/messages", {"type", "error", "request_id"}),
        ("/api/chat", {"error", "code"}),
        ("/v1/embeddings", {"error"}),
    ):
        reply = await world.http.get(world.url + path)
        assert (reply.status_code, set(reply.json())) == (405, names), path
        assert reply.headers["allow"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_clients_learn_their_calls_way_where_the_operator_says_so(
    start: Start, fake: FakeOllama, streamed: bool
) -> None:
    async with start([fake.url], ROUTING_HEADERS="true") as world:
        key = await world.create_key()
        reply = await world.http.post(
            f"{world.url}/v1/chat/completions", headers=bearer(key), json=chat(stream=streamed)
        )
        assert reply.headers["x-gateway-backend"] == fake.url.removeprefix("http://")
        assert int(reply.headers["x-gateway-queue-ms"]) >= 0
        assert int(reply.headers["x-gateway-upstream-ms"]) >= 0
        await world.rows(1)


async def test_nobody_learns_it_otherwise(world: World) -> None:
    key = await world.create_key()
    reply = await world.http.post(f"{world.url}/v1/chat/completions", headers=bearer(key), json=chat())
    assert not [name for name in reply.headers if name.startswith("x-gateway")]


async def test_only_plain_requests_may_leave_out_the_model(world: World) -> None:
    key = await world.create_key()
    messages = [{"role": "user", "content": "hi"}]
    for path, body in (
        ("/api/chat", {"messages": messages}),
        ("/api/generate", {"prompt": "hi"}),
        ("/v1/responses", {"input": "hi"}),
        ("/v1/completions", {"prompt": "hi", "model": ""}),
    ):
        reply = await world.http.post(world.url + path, headers=bearer(key), json=body)
        assert reply.status_code == 400, path
        assert "model" in reply.text
    assert (
        await world.http.post(f"{world.url}/generate", headers=bearer(key), json={"prompt": "hi"})
    ).status_code == 200
    await world.rows(1)
