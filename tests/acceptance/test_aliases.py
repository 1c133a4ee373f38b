"""Names that operators give to models: clients call them as any model, and are charged and limited as for the model."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import ollama
import pytest

from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.conftest import Start
from tests.acceptance.operators import Operator
from tests.world import World, bearer

LLAMA, QWEN, EMBEDDER = "llama3.2:3b", "qwen3:8b", "nomic-embed-text:latest"
USER = [{"role": "user", "content": "Why?"}]
SOON_S = 10.0
POLL_S = 0.02
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": USER},
    "/v1/completions": {"prompt": "Why?"},
    "/v1/responses": {"input": "Why?"},
    "/v1/messages": {"messages": USER, "max_tokens": 50},
    "/api/chat": {"messages": USER, "stream": False},
    "/api/generate": {"prompt": "Why?", "stream": False},
    "/v1/generate": {"prompt": "Why?"},
}


@pytest.fixture
def operator(world: World) -> Operator:
    return Operator(world)


async def until(asked: Callable[[], Awaitable[Any]], wanted: Callable[[Any], bool]) -> Any:
    async with asyncio.timeout(SOON_S):
        while not wanted(found := await asked()):
            await asyncio.sleep(POLL_S)
    return found


async def listed(world: World, key: str) -> list[str]:
    reply = await world.http.get(world.url + "/v1/models", headers=bearer(key))
    return [model["id"] for model in reply.json()["data"]]


async def known(world: World, key: str, name: str) -> None:
    """Until the replica lists it."""
    await until(lambda: listed(world, key), lambda found: name in found)


async def test_every_dialect_takes_an_alias_for_a_model(operator: Operator, fake: FakeOllama) -> None:
    world = operator.world
    key = await world.create_key(models=["llama*"])
    options = {"temperature": 0.25, "top_k": 3}
    await operator.make("/aliases", name="fast", targets=["none:1b", LLAMA], options=options, context_tokens=40_000)
    await operator.make("/prices", model=LLAMA, per_request=5)
    await known(world, key, "fast:latest")
    for path, body in BODIES.items():
        asked = {"model": "fast", "temperature": 2, "options": {"top_p": 0.5, "num_ctx": 50_000}} | body
        if path == "/v1/generate":
            asked = {"model": "fast"} | body
        reply = await world.http.post(world.url + path, headers=bearer(key), json=asked)
        assert reply.status_code == 200, (path, reply.text)
        sent = fake.ledger.inference[-1].body
        assert sent["model"] == LLAMA
        assert {name: sent["options"].get(name) for name in ("temperature", "top_k", "num_ctx")} == {
            "temperature": 0.25,
            "top_k": 3,
            "num_ctx": 40_000,
        }, path
        if path != "/v1/generate":
            assert sent["options"]["top_p"] == 0.5, "what the operator does not say is the client's"
            assert reply.json()["model"] == "fast", path
    rows = await world.rows(len(BODIES))
    assert {row["model"] for row in rows} == {LLAMA}
    counted = await world.http.post(
        world.url + "/v1/messages/count_tokens", headers=bearer(key), json={"model": "fast", "messages": USER}
    )
    assert counted.status_code == 200


async def test_an_alias_is_listed_and_shown_as_its_model_to_those_who_may_use_it(operator: Operator) -> None:
    world = operator.world
    all_models, llama, qwen = await world.create_key(), *[await world.create_key(models=[g]) for g in ("llama*", "q*")]
    await operator.make("/aliases", name="team/fast", targets=[LLAMA])
    await operator.make("/aliases", name="gone", targets=["none:1b"])
    await operator.make("/aliases", name=QWEN, targets=[LLAMA])
    await known(world, all_models, "team/fast:latest")
    await until(lambda: listed(world, qwen), lambda found: QWEN not in found)
    assert {"team/fast:latest", QWEN, LLAMA} <= set(await listed(world, llama))
    assert "team/fast:latest" not in await listed(world, qwen)
    assert "gone:latest" not in await listed(world, all_models)
    client = ollama.AsyncClient(host=world.url, headers=bearer(llama))
    tags = {model.model: model for model in (await client.list()).models}
    assert tags["team/fast:latest"].digest == tags[LLAMA].digest == tags[QWEN].digest
    assert (await client.show("Team/Fast")).modelfile == f"FROM {LLAMA}\n"
    assert (await client.chat("team/fast", messages=USER)).done
    with pytest.raises(ollama.ResponseError) as refused:
        await client.chat("gone", messages=USER)
    assert refused.value.status_code == 404
    one = await world.http.get(f"{world.url}/v1/models/team/fast", headers=bearer(llama))
    assert (one.status_code, one.json()["id"], one.json()["owned_by"]) == (200, "team/fast:latest", "team")
    for name in ("team/fast", QWEN):
        reply = await world.http.get(f"{world.url}/v1/models/{name}", headers=bearer(qwen))
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")
        body = {"model": name, "messages": USER}
        reply = await world.http.post(f"{world.url}/v1/chat/completions", headers=bearer(qwen), json=body)
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found"), "its model is not theirs"
    await client._client.aclose()


async def test_it_can_be_the_default_and_falls_back(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], OLLAMA_DEFAULT_MODEL="fast") as world:
        operator, key = Operator(world), await world.create_key(rate_limit_per_min=1_000)
        await operator.make("/aliases", name="fast", targets=[QWEN, LLAMA])

        async def answered() -> str:
            reply = await world.http.post(world.url + "/generate", headers=bearer(key), json={"prompt": "Why?"})
            return str(reply.json().get("model"))

        await until(answered, lambda model: model == QWEN)
        await operator.change("/aliases/fast", targets=["none:1b", LLAMA])
        await until(answered, lambda model: model == LLAMA)
        await operator.make("/aliases", name="vectors", targets=[EMBEDDER], options={"num_predict": 9})
        await known(world, key, "vectors:latest")
        body = {"model": "vectors", "input": "x"}
        reply = await world.http.post(world.url + "/v1/embeddings", headers=bearer(key), json=body)
        assert (reply.status_code, reply.json()["model"]) == (200, "vectors")
