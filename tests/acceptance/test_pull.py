"""Operators pull models onto nodes through the gateway."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.conftest import Start
from tests.acceptance.test_models import LLAMA, nodes
from tests.world import ADMIN_SECRET, World, chat

ADMIN = {"X-Admin-Secret": ADMIN_SECRET}


async def pull(world: World, **body: Any) -> httpx.Response:
    return await world.http.post(world.url + "/v1/models/pull", headers=ADMIN, json=body)


def lines(reply: httpx.Response) -> list[dict[str, Any]]:
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert reply.headers["x-request-id"]
    return [json.loads(line) for line in reply.text.splitlines()]


def name(node: FakeOllama) -> str:
    return node.url.removeprefix("http://")


def pulls(node: FakeOllama) -> list[Any]:
    return [one for one in node.ledger.exchanges if one.path == "/api/pull"]


async def test_a_model_is_pulled_onto_all_nodes_and_can_be_called_at_once(start: Start) -> None:
    async with nodes((LLAMA,), (LLAMA,)) as (one, two), start([one.url, two.url]) as world:
        *progress, last = lines(await pull(world, model="TinyLlama"))
        assert last == {"done": True, "pulled": sorted([name(one), name(two)]), "failed": {}}
        for node in (one, two):
            mine = [line for line in progress if line["backend"] == name(node)]
            assert [mine[0]["status"], mine[-1]["status"]] == ["pulling manifest", "success"]
            assert any(line.get("digest") and line["total"] == 1_321_082_688 for line in mine)
            assert len(mine) < 50, "a hundred lines that differ in bytes alone are thinned out"
            assert [exchange.body for exchange in pulls(node)] == [{"model": "TinyLlama", "stream": True}]
        client = world.openai(await world.create_key())
        assert "tinyllama:latest" in [model.id for model in (await client.models.list()).data]
        reply = await client.chat.completions.create(**chat(model="tinyllama"))
        assert reply.choices[0].message.content == "Blue light scatters most."


async def test_one_node_fails_and_the_other_has_it(start: Start) -> None:
    async with nodes((LLAMA,), (LLAMA,)) as (one, two), start([one.url, two.url]) as world:
        one.behaviour = Behaviour(paths=("/api/pull",), status=500, error="no space left on device")
        *_, last = lines(await pull(world, model="tinyllama"))
        assert last["pulled"] == [name(two)]
        assert "no space left" in last["failed"][name(one)]
        whole = await pull(world, model="tinyllama", stream=False)
        assert (whole.status_code, whole.json()) == (200, last)


async def test_only_the_chosen_nodes_are_asked(start: Start) -> None:
    async with nodes((LLAMA,), (LLAMA,)) as (one, two), start([one.url, two.url]) as world:
        reply = await pull(world, model="tinyllama", backends=[name(two), name(two)], stream=False)
        assert reply.json() == {"done": True, "pulled": [name(two)], "failed": {}}
        assert (len(pulls(one)), len(pulls(two))) == (0, 1)


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(paths=("/api/pull",), drop_after_chunks=1),
        Behaviour(paths=("/api/pull",), status=404, error="file does not exist"),
        None,
    ],
    ids=["cut", "refused", "failed"],
)
async def test_it_is_an_error_only_when_every_node_failed(
    world: World, fake: FakeOllama, behaviour: Behaviour | None
) -> None:
    fake.behaviour = behaviour or Behaviour()
    model = "tinyllama" if behaviour else "missing"
    whole = await pull(world, model=model, stream=False)
    assert (whole.status_code, whole.json()["error"]["code"]) == (502, "backend_failed")
    assert name(fake) in whole.json()["error"]["message"]
    *_, last = lines(await pull(world, model=model))
    assert (last["done"], last["pulled"], list(last["failed"])) == (True, [], [name(fake)])


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "evil.example/library/llama3.2"}, 403, "registry_blocked"),
        ({"model": "http://127.0.0.1:6379/x/y"}, 403, "registry_blocked"),
        ({"model": "gpt-oss:120b-cloud"}, 403, "cloud_model_blocked"),
        ({"model": "not a name"}, 400, "invalid_request"),
        ({"model": "evil.example/llama3.2"}, 400, "invalid_request"),
        ({"model": "evil.example:80/llama3.2"}, 400, "invalid_request"),
        ({"model": "registry.ollama.ai/evil.example:80/llama3.2"}, 400, "invalid_request"),
        ({"model": ""}, 400, "invalid_request"),
        ({"model": "tinyllama", "insecure": True}, 400, "invalid_request"),
        ({"model": "tinyllama", "backends": []}, 400, "invalid_request"),
        ({"model": "tinyllama", "backends": ["elsewhere:11434"]}, 400, "invalid_request"),
    ],
)
async def test_refusals_reach_no_node(
    world: World, fake: FakeOllama, body: dict[str, Any], status: int, code: str
) -> None:
    reply = await pull(world, **body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert not pulls(fake)
    if "elsewhere:11434" in str(body):
        assert "'elsewhere:11434'" in reply.json()["error"]["message"]


async def test_other_registries_can_be_allowed_and_keep_their_spelling(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], PULL_REGISTRIES="hf.co") as world:
        reply = await pull(world, model="https://hf.co/unsloth/Tiny-GGUF:Q4_K_M", stream=False)
        assert reply.json()["pulled"] == [name(fake)]
        assert pulls(fake)[0].body["model"] == "hf.co/unsloth/Tiny-GGUF:Q4_K_M"
        assert (await pull(world, model="llama3.2")).json()["error"]["code"] == "registry_blocked"


async def test_it_is_for_operators_and_keys_that_may(world: World, fake: FakeOllama) -> None:
    key = await world.create_key()
    for headers, status, code in (
        ({}, 401, "invalid_admin_secret"),
        ({"X-Admin-Secret": "wrong"}, 401, "invalid_admin_secret"),
        ({"Authorization": f"Bearer {key}"}, 403, "scope_missing"),
    ):
        reply = await world.http.post(world.url + "/v1/models/pull", headers=headers, json={"model": "tinyllama"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert not pulls(fake)


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_leaves_cancels_its_pulls(world: World, fake: FakeOllama, streamed: bool) -> None:
    fake.behaviour = Behaviour(paths=("/api/pull",), hang=True)
    body = {"model": "tinyllama", "stream": streamed}
    async with httpx.AsyncClient() as leaving:
        request = leaving.build_request("POST", world.url + "/v1/models/pull", headers=ADMIN, json=body, timeout=None)
        if streamed:
            await leaving.send(request, stream=True)
            await fake.ledger.until(lambda _: pulls(fake))
        else:
            waiting = asyncio.create_task(leaving.send(request))
            await fake.ledger.until(lambda _: pulls(fake))
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
    await fake.ledger.until(lambda _: pulls(fake)[0].disconnected_at)


async def test_so_many_pulls_at_once_and_no_more(world: World, fake: FakeOllama) -> None:
    fake.behaviour = Behaviour(paths=("/api/pull",), hang=True)
    body = {"model": "tinyllama"}
    async with httpx.AsyncClient(timeout=None) as client:
        for count in range(1, 5):
            request = client.build_request("POST", world.url + "/v1/models/pull", headers=ADMIN, json=body)
            await client.send(request, stream=True)
            await fake.ledger.until(lambda _, count=count: len(pulls(fake)) == count)
        refused = await pull(world, **body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
    await fake.ledger.until(lambda _: all(one.disconnected_at for one in pulls(fake)))
    fake.behaviour = Behaviour()
    assert (await pull(world, **body)).status_code == 200
