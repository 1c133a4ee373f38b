"""OpenAI's completions and embeddings as its own client uses them."""

import array
import base64
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from gateway.dev.fake_answers import embedding
from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from tests.world import World, bearer, credits_left

TEXT = "Blue light scatters most."
PROMPT: dict[str, Any] = {"model": "llama3.2:3b", "prompt": "Why is the sky blue?"}
EMBED = "nomic-embed-text"


@pytest.fixture
async def client(world: World) -> AsyncIterator[AsyncOpenAI]:
    async with world.openai(await world.create_key(credits=50, rate_limit_per_min=1_000)) as one:
        yield one


async def test_a_completion_is_the_same_whole_and_streamed(client: AsyncOpenAI, fake: FakeOllama, world: World) -> None:
    whole = await client.completions.create(**PROMPT, max_tokens=20, user="somebody")
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == (TEXT, "stop")
    assert whole.id.startswith("cmpl-")
    stream = await client.completions.create(**PROMPT, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    *pieces, end, counted = chunks
    assert "".join(chunk.choices[0].text for chunk in pieces) == TEXT
    assert (end.choices[0].text, end.choices[0].finish_reason) == ("", "stop")
    assert not [chunk for chunk in pieces if chunk.usage or chunk.choices[0].finish_reason]
    assert (counted.choices, counted.usage) == ([], whole.usage)
    first, second = fake.ledger.inference
    assert (first.path, first.body["prompt"], first.body["options"]) == (
        "/api/generate",
        PROMPT["prompt"],
        {"num_predict": 20},
    )
    assert "raw" not in first.body  # the model's own template, as with Ollama
    assert second.body["stream"] is True
    rows = await world.rows(2)
    assert [row["end_user"] for row in rows] == ["somebody", ""]
    assert whole.usage is not None
    for row in rows:
        assert (row["endpoint"], row["total_tokens"]) == ("/v1/completions", whole.usage.total_tokens)


async def test_echo_raw_and_log_probabilities(client: AsyncOpenAI, fake: FakeOllama, world: World) -> None:
    whole = await client.completions.create(**PROMPT, echo=True, logprobs=1, extra_body={"raw": True})
    (choice,) = whole.choices
    assert choice.text == PROMPT["prompt"] + TEXT
    assert choice.logprobs is not None
    assert choice.logprobs.tokens == ["Blue", " light", " scatters", " most", "."]
    assert choice.logprobs.token_logprobs == [-0.12] * 5
    assert choice.logprobs.top_logprobs is not None
    assert choice.logprobs.top_logprobs[1] == {" light": -0.12}
    assert choice.logprobs.text_offset is not None
    for token, offset in zip(choice.logprobs.tokens, choice.logprobs.text_offset, strict=True):
        assert choice.text[offset:].startswith(token)
    stream = await client.completions.create(**PROMPT, echo=True, logprobs=1, stream=True)
    chunks = [chunk.choices[0] async for chunk in stream]
    assert "".join(chunk.text for chunk in chunks) == choice.text
    offsets = [chunk.logprobs.text_offset for chunk in chunks if chunk.logprobs]
    assert offsets == [[offset] for offset in choice.logprobs.text_offset]
    assert fake.ledger.inference[0].body["raw"] is True
    await world.rows(2)


async def test_a_completion_has_no_thoughts(client: AsyncOpenAI, fake: FakeOllama, world: World) -> None:
    answer = await client.completions.create(model="qwen3:8b", prompt="(THINK) hi")
    assert answer.choices[0].text == TEXT
    assert fake.ledger.inference[0].body["think"] is False
    cut = await client.completions.create(**PROMPT, max_tokens=2)
    assert (cut.choices[0].text, cut.choices[0].finish_reason) == ("Blue light", "length")
    await world.rows(2)


async def test_completions_that_are_not_possible_are_refused(client: AsyncOpenAI, world: World) -> None:
    create = client.completions.create
    for fields, param in (
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"best_of": 3}, "best_of"),
    ):
        with pytest.raises(openai.BadRequestError) as bad:
            await create(**(PROMPT | fields))
        assert (bad.value.code, bad.value.param) == ("unsupported", param)
    with pytest.raises(openai.PermissionDeniedError) as empty:
        await create(**(PROMPT | {"prompt": ""}))
    assert empty.value.code == "load_blocked"
    with pytest.raises(openai.APIError) as broken:
        async for _ in await create(**(PROMPT | {"prompt": "hi (MIDERR)"}), stream=True):
            pass
    assert broken.value.code == "stream_broken"
    await world.rows(1)


async def test_vectors_are_the_same_as_numbers_and_as_base64(
    client: AsyncOpenAI, fake: FakeOllama, world: World
) -> None:
    """The client asks for base64 by itself and turns it back."""
    texts = ["first", "second one"]
    packed = await client.embeddings.create(model=EMBED, input=texts)
    plain = await client.embeddings.create(model=EMBED, input=texts, encoding_format="float")
    raw = await client.embeddings.create(model=EMBED, input="first", encoding_format="base64")
    for text, one, other in zip(texts, packed.data, plain.data, strict=True):
        assert other.embedding == embedding(text, 768)
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert one.index == other.index == texts.index(text)
    assert isinstance(raw.data[0].embedding, str)
    assert list(array.array("f", base64.b64decode(raw.data[0].embedding))) == packed.data[0].embedding
    assert (packed.model, packed.usage.prompt_tokens, packed.usage.total_tokens) == (EMBED, 5, 5)
    assert [one.body["truncate"] for one in fake.ledger.inference] == [False] * 3
    rows = await world.rows(3)
    for row, tokens in zip(rows, (5, 5, 2), strict=True):
        assert (row["endpoint"], row["status"], row["completion_tokens"]) == ("/v1/embeddings", "ok", 0)
        assert row["prompt_tokens"] == row["total_tokens"] == tokens
        assert not row["estimated"]


async def test_embeddings_in_ollamas_own_words(client: AsyncOpenAI, fake: FakeOllama, world: World) -> None:
    more = {"truncate": True, "keep_alive": "10m", "options": {"num_ctx": 512}}
    short = await client.embeddings.create(model=EMBED, input="a", dimensions=64, extra_body=more)
    assert len(short.data[0].embedding) == 64
    (asked,) = fake.ledger.inference
    assert asked.body == {
        "model": "nomic-embed-text:latest",
        "input": ["a"],
        "dimensions": 64,
        "truncate": True,
        "keep_alive": 600,
        "options": {"num_ctx": 512},
    }
    await world.rows(1)


async def test_embeddings_that_are_not_possible_are_refused(
    client: AsyncOpenAI, fake: FakeOllama, world: World
) -> None:
    create = client.embeddings.create
    with pytest.raises(openai.BadRequestError) as ids:
        await create(model=EMBED, input=[[1, 2], [3]])
    assert (ids.value.code, ids.value.param) == ("unsupported", "input")
    for nothing in ("", [], ["a", ""]):
        with pytest.raises(openai.BadRequestError) as empty:
            await create(model=EMBED, input=nothing)
        assert (empty.value.code, empty.value.param) == ("invalid_request", "input")
    fake.behaviour = Behaviour(status=400, error="the input length exceeds the context length", remaining=1)
    with pytest.raises(openai.BadRequestError) as long:
        await create(model=EMBED, input="a")
    assert long.value.code == "context_length_exceeded"
    fault = 'do embedding request: Post "http://127.0.0.1:4/embedding": EOF'
    fake.behaviour = Behaviour(status=400, error=fault, remaining=1)
    with pytest.raises(openai.APIStatusError) as broken:  # the node's fault, whatever it says
        await create(model=EMBED, input="a")
    assert (broken.value.status_code, broken.value.code) == (502, "backend_failed")
    assert (await create(model=EMBED, input="a")).usage.prompt_tokens == 2
    rows = await world.rows(3)
    assert [row["status"] for row in rows] == ["context_length_exceeded", "backend_failed", "ok"]


async def test_a_key_with_limits_on_tokens_can_embed(world: World) -> None:
    """An answer of no tokens at all is reserved, granted and settled like any other."""
    key = await world.create_key(tokens_per_min=1_000, monthly_token_limit=1_000, credits=2, concurrency=1)
    async with world.openai(key) as client:
        for _ in range(2):
            await client.embeddings.create(model=EMBED, input="a")
        with pytest.raises(openai.RateLimitError) as spent:
            await client.embeddings.create(model=EMBED, input="a")
    assert spent.value.code == "insufficient_quota"
    left = await world.usage(key)
    assert (left["credits"], left["monthly_tokens"]["spent"]) == (credits_left(0, of=2), 4)
    assert (left["monthly_tokens"]["held"], left["concurrency"]["now"]) == (0, 0)
    await world.rows(2)


async def test_a_list_of_prompts_is_one_call_with_an_answer_to_each(world: World, fake: FakeOllama) -> None:
    key = await world.create_key(credits=5)
    async with world.openai(key) as client:
        prompts = ["Why is the sky blue?", "(LIMIT) Why is the sea?"]
        whole = await client.completions.create(model="llama3.2:3b", prompt=prompts, max_tokens=7)
        assert [(one.index, one.text) for one in whole.choices] == [(n, "Blue light scatters most.") for n in (0, 1)]
        assert [one.finish_reason for one in whole.choices] == ["stop", "length"]
        stream = await client.completions.create(
            model="llama3.2:3b", prompt=prompts, stream=True, stream_options={"include_usage": True}
        )
        texts, usage = ["", ""], None
        async for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                texts[choice.index] += choice.text
        assert texts == ["Blue light scatters most."] * 2
    assert [exchange.body["prompt"] for exchange in fake.ledger.inference] == prompts * 2
    assert [exchange.body["options"]["num_predict"] for exchange in fake.ledger.inference[:2]] == [7, 7]
    rows = await world.rows(2)
    assert whole.usage is not None
    assert usage is not None
    assert [row["total_tokens"] for row in rows] == [whole.usage.total_tokens, usage.total_tokens]
    assert (await world.usage(key))["credits"] == credits_left(3, of=5)


async def test_when_one_of_several_prompts_fails_nothing_is_charged(world: World, fake: FakeOllama) -> None:
    key = await world.create_key(credits=5)
    body = {"model": "llama3.2:3b", "prompt": ["Why?", "(REJECT) long"]}
    reply = await world.http.post(f"{world.url}/v1/completions", headers=bearer(key), json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "context_length_exceeded")
    (row,) = await world.rows(1)
    assert (row["status"], row["total_tokens"], row["credits_micro"]) == ("context_length_exceeded", 0, 0)
    assert (await world.usage(key))["credits"] == credits_left(5, of=5)
