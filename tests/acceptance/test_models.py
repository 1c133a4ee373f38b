"""The models of several nodes as one library."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import ollama
import openai
import pytest
from msgspec.structs import replace

from gateway.dev.fake_models import MODELS
from gateway.dev.fake_ollama import FakeOllama
from gateway.dev.fake_shelf import BLOBS
from tests.acceptance.conftest import Start
from tests.world import World, bearer, chat

QWEN_VL, LLAMA, NOMIC, QWEN = MODELS
HUGGING = replace(LLAMA, name="hf.co/unsloth/tiny-gguf:q4_k_m", digest="ab" * 32)
LOOKS = ("/", "/health", "/ready", "/api/tags", "/api/version")


@asynccontextmanager
async def nodes(*shelves: tuple[Any, ...]) -> AsyncIterator[list[FakeOllama]]:
    """A node for each set of models."""
    made = [FakeOllama(models=models) for models in shelves]
    try:
        for one in made:
            await one.start()
        yield made
    finally:
        for one in made:
            await one.stop()


def client(world: World, key: str) -> ollama.AsyncClient:
    return ollama.AsyncClient(host=world.url, headers=bearer(key))


async def test_two_nodes_are_one_library(start: Start) -> None:
    async with nodes((LLAMA, NOMIC), (LLAMA, QWEN)) as (one, two), start([one.url, two.url]) as world:
        ollamas = client(world, await world.create_key())
        listed = [model.model for model in (await ollamas.list()).models]
        assert listed == ["llama3.2:3b", "nomic-embed-text:latest", "qwen3:8b"]
        assert (await ollamas.chat("qwen3:8b", messages=[{"role": "user", "content": "hi"}])).done
        assert (await ollamas.embed("nomic-embed-text", "hi")).embeddings
        assert [len(node.ledger.inference) for node in (one, two)] == [1, 1]
        assert (await ollamas.show("nomic-embed-text")).capabilities == ["embedding"]
        await ollamas.close()


async def test_what_is_in_memory_anywhere_is_listed_once(start: Start) -> None:
    async with nodes((LLAMA,), (LLAMA, QWEN)) as (one, two):
        one.shelf.load(LLAMA, "1m", 4096)
        two.shelf.load(LLAMA, "1h", 8192)
        two.shelf.load(QWEN, "5m")
        async with start([one.url, two.url]) as world:
            ollamas = client(world, await world.create_key())
            found = (await ollamas.ps()).models
            assert [(model.name, model.context_length) for model in found] == [
                ("llama3.2:3b", 8192),
                ("qwen3:8b", 8192),
            ]
            assert found[0].digest == LLAMA.digest
            assert found[0].expires_at is not None
            assert found[0].size_vram
            await ollamas.close()


async def test_capabilities_are_those_of_show_not_of_the_list(world: World) -> None:
    """The node's list says that this model has tools; the model itself has none."""
    reply = await world.http.get(world.url + "/api/tags", headers=bearer(await world.create_key()))
    models = {model["name"]: model for model in reply.json()["models"]}
    assert models["llama3.2:3b"]["capabilities"] == ["completion"]
    assert models["qwen3:8b"]["capabilities"] == ["completion", "thinking", "tools"]
    assert models["qwen3:8b"]["details"]["context_length"] == 40960


async def test_show_tells_nothing_of_the_node_and_asks_once_for_a_digest(world: World, fake: FakeOllama) -> None:
    headers = bearer(await world.create_key())
    for body in ({"model": "qwen3:8b"}, {"name": "library/QWEN3:8B", "verbose": True}):
        reply = await world.http.post(world.url + "/api/show", headers=headers, json=body)
        assert reply.status_code == 200
        text = reply.text
        assert BLOBS not in text
        assert "house assistant" not in text
        said = json.loads(text)
        assert {"system", "tensors", "projector_info", "remote_host"}.isdisjoint(said)
        assert said["parameters"].startswith("temperature")
        assert said["template"]
    assert sum(one.path == "/api/show" and one.model == "qwen3:8b" for one in fake.ledger.exchanges) == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b'{"model":1}', 400, "invalid_request"),
        (b"{}", 400, "model_required"),
        (b'{"model":"nope"}', 404, "model_not_found"),
        (b'{"model":"../../etc/passwd"}', 404, "model_not_found"),
        (b'{"model":"gpt-oss:120b-cloud"}', 403, "cloud_model_blocked"),
        (b'{"model":' + b"[" * 5_000, 400, "invalid_request"),
    ],
)
async def test_show_refuses_in_ollamas_form(world: World, body: bytes, status: int, code: str) -> None:
    headers = bearer(await world.create_key())
    reply = await world.http.post(world.url + "/api/show", headers=headers, content=body)
    assert (reply.status_code, reply.json()["code"]) == (status, code)


async def test_the_body_of_show_is_read_as_those_of_calls_are(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], BODY_BYTES_MAX="1024") as world:
        headers = bearer(await world.create_key())
        encoded = await world.http.post(
            world.url + "/api/show", headers=headers | {"Content-Encoding": "gzip"}, json={"model": "qwen3:8b"}
        )
        assert (encoded.status_code, encoded.json()["code"]) == (415, "encoding_unsupported")
        large = await world.http.post(world.url + "/api/show", headers=headers, content=b" " * 1025)
        assert (large.status_code, large.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/llama3.2:3b", "/api/tags", "/api/ps", "/api/version"])
async def test_models_are_for_holders_of_a_key(world: World, path: str) -> None:
    reply = await world.http.get(world.url + path)
    assert reply.status_code == 401
    assert isinstance(reply.json()["error"], str) == path.startswith("/api/")


async def test_looking_at_the_head_alone(world: World) -> None:
    key = await world.create_key()
    for path in LOOKS:
        head = await world.http.head(world.url + path, headers=bearer(key))
        whole = await world.http.get(world.url + path, headers=bearer(key))
        assert (head.status_code, head.content) == (200, b""), path
        assert head.headers["content-type"] == whole.headers["content-type"]
    assert (await world.http.head(world.url + "/api/tags")).status_code == 401


async def test_models_by_id_however_they_are_spelt(start: Start) -> None:
    async with nodes((LLAMA, HUGGING)) as (node,), start([node.url]) as world:
        client = world.openai(await world.create_key())
        listed = [model async for model in await client.models.list()]
        assert [model.id for model in listed] == [HUGGING.name, "llama3.2:3b"]
        for spelling in ("llama3.2:3b", "LLAMA3.2:3b", "library/llama3.2:3b"):
            assert (await client.models.retrieve(spelling)).id == "llama3.2:3b"
        one = await client.models.retrieve("hf.co/unsloth/tiny-GGUF:Q4_K_M")
        assert (one.id, one.owned_by, one.object) == (HUGGING.name, "hf.co/unsloth", "model")
        assert one.created > 0
        with pytest.raises(openai.NotFoundError) as missing:
            await client.models.retrieve("nope/really:1b")
        assert missing.value.code == "model_not_found"
        encoded = await world.http.get(f"{world.url}/v1/models/hf.co%2Funsloth%2Ftiny-gguf%3Aq4_k_m",
                                       headers=bearer(client.api_key))  # fmt: skip
        assert encoded.json()["id"] == HUGGING.name


async def test_models_that_run_elsewhere_are_there_only_if_the_operator_wants_them(start: Start) -> None:
    cloud = replace(QWEN, name="qwen3:480b-cloud", digest="cd" * 32)
    async with nodes((LLAMA, cloud)) as (node,), start([node.url], ALLOW_CLOUD_MODELS="true") as world:
        key = await world.create_key()
        assert [model.id for model in (await world.openai(key).models.list()).data] == ["llama3.2:3b", cloud.name]
        reply = await world.openai(key).chat.completions.create(**chat(model=cloud.name))
        assert reply.choices[0].message.content


async def test_a_model_that_runs_elsewhere_is_refused_as_such_whatever_its_name(start: Start) -> None:
    stub = replace(QWEN, name="stub:1b", digest="cd" * 32, remote_host="https://ollama.com:443")
    async with nodes((LLAMA, stub)) as (node,), start([node.url]) as world:
        key = await world.create_key()
        calls = [
            ("POST", "/v1/chat/completions", chat(model="stub:1b")),
            ("POST", "/api/show", {"model": "stub:1b"}),
            ("GET", "/v1/models/stub:1b", None),
        ]
        for method, path, body in calls:
            reply = await world.http.request(method, world.url + path, headers=bearer(key), json=body)
            assert reply.status_code == 403, path
            assert "cloud_model_blocked" in reply.text
        assert [model.id for model in (await world.openai(key).models.list()).data] == ["llama3.2:3b"]
        assert not node.ledger.inference


async def test_a_model_that_is_called_like_a_route_is_a_model(start: Start) -> None:
    async with nodes((LLAMA,), (LLAMA, replace(LLAMA, name="pull:latest"))) as (one, two):
        async with start([one.url]) as world:
            with pytest.raises(openai.NotFoundError):
                await world.openai(await world.create_key()).models.retrieve("pull")
        async with start([two.url]) as world:
            assert (await world.openai(await world.create_key()).models.retrieve("pull")).id == "pull:latest"
            assert (await world.http.get(world.url + "/v1/models/pull")).status_code == 401


async def test_without_a_node_nobody_says_that_there_are_no_models(start: Start) -> None:
    async with start(["http://127.0.0.1:9"]) as world:
        headers = bearer(await world.create_key())
        for path in ("/v1/models", "/api/tags", "/api/ps", "/api/version"):
            reply = await world.http.get(world.url + path, headers=headers)
            assert reply.status_code == 503, path
            assert "no_backend" in reply.text
            assert reply.headers["retry-after"]
            assert (await world.http.get(world.url + path)).status_code == 401


async def test_a_node_without_models_is_an_empty_list(start: Start) -> None:
    async with nodes(()) as (node,), start([node.url]) as world:
        headers = bearer(await world.create_key())
        assert (await world.http.get(world.url + "/v1/models", headers=headers)).json()["data"] == []
        assert (await world.http.get(world.url + "/api/tags", headers=headers)).json() == {"models": []}


async def test_metrics_say_their_charset_once(world: World) -> None:
    reply = await world.http.get(world.url + "/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_the_version_is_the_one_all_nodes_understand(start: Start) -> None:
    async with nodes((LLAMA,), (LLAMA,)) as (one, two):
        one.shelf.version, two.shelf.version = "0.33.0", "0.9.7"
        async with start([one.url, two.url]) as world:
            reply = await world.http.get(world.url + "/api/version", headers=bearer(await world.create_key()))
            assert reply.json() == {"version": "0.9.7"}
