"""The running gateway as Ollama's own client sees it."""

from collections.abc import AsyncIterator
from typing import Any

import ollama
import pytest

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from tests.world import World, bearer

PIXEL = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
    b"\x00\x00\x00\rIDATx\x9cc\xf8\xcf\xc0\xf0\x1f\x00\x05\x00\x01\xff\x89\x99=\x1d\x00\x00\x00\x00IEND\xaeB`\x82"
)
SKY = {"role": "user", "content": "Why is the sky blue? One sentence."}


@pytest.fixture
async def client(world: World) -> AsyncIterator[ollama.AsyncClient]:
    one = ollama.AsyncClient(host=world.url, headers=bearer(await world.create_key(rate_limit_per_min=1_000)))
    yield one
    await one.close()


def weather(city: str) -> str:
    """The weather now.

    Args:
      city: where
    """
    return f"Rain in {city}."


async def test_chat_whole_and_streamed(world: World, fake: FakeOllama, client: ollama.AsyncClient) -> None:
    whole = await client.chat("LLAMA3.2:3B", messages=[SKY], options={"seed": 1, "num_gpu": 99}, keep_alive="10m")
    assert whole.message.role == "assistant"
    assert whole.message.content == "Blue light scatters most."
    assert (whole.model, whole.done, whole.done_reason) == ("LLAMA3.2:3B", True, "stop")
    assert whole.eval_count == 5
    assert whole.prompt_eval_count
    assert whole.total_duration
    assert whole.created_at
    parts = [part async for part in await client.chat("llama3.2:3b", messages=[SKY], stream=True)]
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert [part.done for part in parts] == [False] * 5 + [True]
    assert (parts[-1].prompt_eval_count, parts[-1].eval_count) == (whole.prompt_eval_count, 5)
    asked = fake.ledger.inference[0].body
    assert asked["keep_alive"] == 600
    assert asked["options"]["seed"] == 1
    assert "num_gpu" not in asked["options"], "it would reload the model for everybody"
    rows = await world.rows(2)
    assert [(row["endpoint"], row["model"], row["completion_tokens"]) for row in rows] == [
        ("/api/chat", "llama3.2:3b", 5)
    ] * 2


async def test_chat_calls_a_tool_and_goes_on(fake: FakeOllama, client: ollama.AsyncClient) -> None:
    said: list[Any] = [{"role": "user", "content": "(TOOL) Weather in Oslo?"}]
    first = await client.chat("qwen3:8b", messages=said, tools=[weather])
    assert first.message.tool_calls is not None
    (call,) = first.message.tool_calls
    assert (call.function.name, dict(call.function.arguments)) == ("weather", {"city": "Oslo"})
    said += [first.message, {"role": "tool", "tool_name": "weather", "content": weather(**call.function.arguments)}]
    said.append({"role": "user", "content": "And now?"})
    await client.chat("qwen3:8b", messages=[one for one in said if "(TOOL)" not in str(one)], tools=[weather])
    asked = fake.ledger.inference[-1].body["messages"]
    assert asked[0]["tool_calls"] == [{"function": {"name": "weather", "arguments": {"city": "Oslo"}}}]
    assert asked[1] == {"role": "tool", "tool_name": "weather", "content": "Rain in Oslo."}


async def test_thinking_is_apart_from_the_answer_and_is_a_demand(client: ollama.AsyncClient) -> None:
    whole = await client.chat("qwen3:8b", messages=[SKY], think=True)
    assert whole.message.thinking == "The user asks about the sky."
    parts = [part async for part in await client.chat("qwen3:8b", messages=[SKY], think="high", stream=True)]
    assert "".join(part.message.thinking or "" for part in parts) == whole.message.thinking
    with pytest.raises(ollama.ResponseError, match="does not support thinking") as refused:
        await client.chat("llama3.2:3b", messages=[SKY], think=True)
    assert refused.value.status_code == 400


async def test_a_format_an_image_and_logprobs(fake: FakeOllama, client: ollama.AsyncClient) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    formed = await client.chat("llama3.2:3b", messages=[SKY], format=schema)
    assert formed.message.content == '{"city":"Oslo"}'
    seen = await client.chat(
        "qwen3-vl:8b",
        messages=[{"role": "user", "content": "What is this?", "images": [PIXEL]}],
        logprobs=True,
        top_logprobs=1,
    )
    assert len(fake.ledger.inference[-1].body["messages"][0]["images"]) == 1
    assert seen.logprobs
    assert seen.logprobs[0].token == "Blue"
    assert seen.logprobs[0].top_logprobs


async def test_generate_whole_and_streamed(world: World, fake: FakeOllama, client: ollama.AsyncClient) -> None:
    whole = await client.generate("llama3.2:3b", "Why is the sky blue?", system="Be brief.", options={"num_predict": 3})
    assert (whole.response, whole.done_reason, whole.eval_count) == ("Blue light scatters", "length", 3)
    assert whole.context
    asked = fake.ledger.inference[-1].body
    assert (asked["system"], asked["options"]["num_predict"]) == ("Be brief.", 3)
    stream = await client.generate("llama3.2:3b", "And at night?", context=whole.context, stream=True)
    parts = [part async for part in stream]
    assert "".join(part.response or "" for part in parts) == "Blue light scatters most."
    assert parts[-1].context
    assert all(part.context is None for part in parts[:-1])
    assert fake.ledger.inference[-1].body["context"] == whole.context
    assert [row["endpoint"] for row in await world.rows(2)] == ["/api/generate"] * 2


async def test_both_embedding_routes_give_the_same_vector_and_are_counted(
    world: World, fake: FakeOllama, client: ollama.AsyncClient
) -> None:
    two = await client.embed("nomic-embed-text", ["the sky", "the sea"])
    assert [len(vector) for vector in two.embeddings] == [768, 768]
    assert two.prompt_eval_count == 6
    short = await client.embed("nomic-embed-text", "the sky", dimensions=64)
    assert len(short.embeddings[0]) == 64
    older = await client.embeddings("nomic-embed-text", "the sky")
    assert list(older.embedding) == list(two.embeddings[0])
    assert {one.path for one in fake.ledger.inference} == {"/api/embed"}
    rows = await world.rows(3)
    assert [(row["endpoint"], row["prompt_tokens"]) for row in rows] == [
        ("/api/embed", 6),
        ("/api/embed", 3),
        ("/api/embeddings", 3),
    ]


async def test_what_went_wrong_reaches_the_client_in_its_own_words(world: World, client: ollama.AsyncClient) -> None:
    with pytest.raises(ollama.ResponseError, match=r"No backend .* has that model") as missing:
        await client.chat("nope", messages=[SKY])
    assert missing.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match=r"ollama\.com") as cloud:
        await client.generate("gpt-oss:120b-cloud", "hello")
    assert cloud.value.status_code == 403
    with pytest.raises(ollama.ResponseError, match="makes no images") as unsupported:
        await client.generate("llama3.2:3b", "hello", width=64)
    assert unsupported.value.status_code == 400
    stranger = ollama.AsyncClient(host=world.url, headers=bearer("llm-" + "a" * 43))
    with pytest.raises(ollama.ResponseError, match="does not know that API key") as unknown:
        await stranger.chat("llama3.2:3b", messages=[SKY], stream=False)
    assert unknown.value.status_code == 401
    await stranger.close()


@pytest.mark.parametrize("marker", ["(MIDERR)", "(NODONE)"])
async def test_a_stream_that_breaks_raises_after_its_pieces(
    world: World, client: ollama.AsyncClient, marker: str
) -> None:
    parts: list[ollama.ChatResponse] = []
    with pytest.raises(ollama.ResponseError, match="model server"):
        async for part in await client.chat("llama3.2:3b", messages=[{"role": "user", "content": marker}], stream=True):
            parts.append(part)
    assert parts
    assert not any(part.done for part in parts)
    (row,) = await world.rows(1)
    assert (row["status"], row["total_tokens"]) == ("stream_broken", 0)


async def test_a_refusal_before_the_stream_keeps_its_status(fake: FakeOllama, client: ollama.AsyncClient) -> None:
    fake.behaviour = Behaviour(queue_full=True)
    with pytest.raises(ollama.ResponseError, match="busy") as busy:
        async for _ in await client.generate("llama3.2:3b", "hello", stream=True):
            pass
    assert busy.value.status_code == 503


async def test_nobody_loads_or_unloads_a_model(fake: FakeOllama, client: ollama.AsyncClient) -> None:
    for empty in (
        client.chat("llama3.2:3b"),
        client.generate("llama3.2:3b"),
        client.generate("llama3.2:3b", keep_alive=0),
        client.embed("nomic-embed-text", ""),
        client.embeddings("nomic-embed-text"),
    ):
        with pytest.raises(ollama.ResponseError) as refused:
            await empty
        assert refused.value.status_code == 403
    assert not fake.ledger.inference


async def test_the_library_of_models(fake: FakeOllama, client: ollama.AsyncClient) -> None:
    models = {model.model: model for model in (await client.list()).models}
    assert set(models) == {"llama3.2:3b", "nomic-embed-text:latest", "qwen3-vl:8b", "qwen3:8b"}
    llama = models["llama3.2:3b"]
    assert llama.details is not None
    assert (llama.size, llama.details.family, llama.details.parameter_size) == (2019393189, "llama", "3.2B")
    assert llama.modified_at is not None
    shown = await client.show("qwen3:8b")
    assert shown.capabilities == ["completion", "tools", "thinking"]
    assert shown.modelinfo is not None
    assert shown.modelinfo["qwen3.context_length"] == 40960
    assert (shown.modelfile, shown.license) == ("FROM qwen3:8b\n", "Apache License 2.0")
    assert shown.modified_at is not None
    with pytest.raises(ollama.ResponseError, match="No backend") as missing:
        await client.show("nope")
    assert missing.value.status_code == 404


async def test_clients_methods_that_change_nodes_are_refused_with_what_to_do(client: ollama.AsyncClient) -> None:
    for refused, words in (
        (client.pull("llama3.2:3b"), "POST /v1/models/pull"),
        (client.push("me/llama"), "cannot be pushed"),
        (client.create("mine", from_="llama3.2:3b"), "on the node itself"),
        (client.copy("llama3.2:3b", "mine"), "on the node itself"),
        (client.delete("llama3.2:3b"), "on the node itself"),
        (client.create_blob(__file__), "cannot be uploaded"),
    ):
        with pytest.raises(ollama.ResponseError, match=words) as error:
            await refused
        assert error.value.status_code == 403
