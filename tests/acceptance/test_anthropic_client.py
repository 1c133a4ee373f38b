"""The real `anthropic` client against the running gateway. What it parses into its types is the assertion."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic, AsyncStream
from anthropic.types import Message
from pydantic import BaseModel

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.conftest import Start
from tests.world import World

TEXT = "Blue light scatters most."
WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": False},
}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n not really").decode()


def client_of(world: World, key: str) -> AsyncAnthropic:
    """Without retries of its own. Close it."""
    return AsyncAnthropic(api_key=key, base_url=world.url, max_retries=0)


@pytest.fixture
async def client(world: World) -> AsyncIterator[AsyncAnthropic]:
    async with client_of(world, await world.create_key(rate_limit_per_min=1_000)) as one:
        yield one


def ask(content: Any = "Why is the sky blue?", **fields: Any) -> Any:
    return {"model": "llama3.2:3b", "max_tokens": 100, "messages": [{"role": "user", "content": content}], **fields}


def text_of(message: Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


async def streamed(client: AsyncAnthropic, body: Any) -> Message:
    async with client.messages.stream(**body) as stream:
        return await stream.get_final_message()


async def both(client: AsyncAnthropic, body: Any) -> tuple[Message, Message]:
    """The same asked whole and streamed."""
    return await client.messages.create(**body), await streamed(client, body)


async def test_whole_and_streamed_messages_are_the_same_and_make_a_row_each(
    world: World, fake: FakeOllama, client: AsyncAnthropic
) -> None:
    body = ask(system="Be brief.", metadata={"user_id": "somebody"}, extra_body={"temperature": 0.5})
    whole = await client.messages.create(**body)
    async with client.messages.stream(**body) as stream:
        pieces = [piece async for piece in stream.text_stream]
        final = await stream.get_final_message()
        assert stream.request_id == stream.response.headers["x-request-id"]
    assert len(pieces) == 5  # token by token, not in one lump
    assert "".join(pieces) == text_of(final) == text_of(whole) == TEXT
    assert (whole.role, whole.model, whole.stop_reason, whole.stop_sequence) == (
        "assistant",
        "llama3.2:3b",
        "end_turn",
        None,
    )
    assert final.stop_reason == "end_turn"
    assert whole.id != final.id

    sent = fake.ledger.inference[0].body
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]
    assert (sent["options"]["num_predict"], sent["options"]["temperature"]) == (100, 0.5)
    rows = await world.rows(2)
    for row, message in zip(rows, (whole, final), strict=True):
        assert (row["prompt_tokens"], row["completion_tokens"]) == (
            message.usage.input_tokens,
            message.usage.output_tokens,
        )
        assert (row["endpoint"], row["status"], row["end_user"]) == ("/v1/messages", "ok", "somebody")
        assert not row["estimated"]
    assert [row["streamed"] for row in rows] == [False, True]


async def test_a_loop_of_tools_from_the_call_to_the_answer(fake: FakeOllama, client: AsyncAnthropic) -> None:
    question = {"role": "user", "content": "(TOOL) Which weather has Oslo?"}
    fields: Any = {"model": "qwen3:8b", "max_tokens": 100, "tools": [WEATHER]}
    for message in await both(client, {**fields, "messages": [question]}):
        assert message.stop_reason == "tool_use"
        (use,) = message.content
        assert use.type == "tool_use"
        assert (use.name, use.input) == ("get_weather", {"city": "Oslo"})
        result = {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "Rain."}]}
        turns = [
            {"role": "user", "content": "Which weather has Oslo?"},
            message.to_param(),
            {"role": "user", "content": [result]},
        ]
        answer = await client.messages.create(**fields, messages=turns)
        assert (text_of(answer), answer.stop_reason) == (TEXT, "end_turn")
        called, told = fake.ledger.inference[-1].body["messages"][1:]
        assert called["tool_calls"] == [{"id": use.id, "function": {"name": "get_weather", "arguments": use.input}}]
        assert told == {"role": "tool", "content": "Rain.", "tool_name": "get_weather", "tool_call_id": use.id}
    assert fake.ledger.inference[0].body["tools"][0]["function"]["parameters"] == WEATHER["input_schema"]


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
async def test_a_model_without_tools_makes_the_call_that_it_must(
    fake: FakeOllama, client: AsyncAnthropic, choice: Any
) -> None:
    fake.behaviour = Behaviour(text='{"name": "get_weather", "arguments": {"city": "Oslo"}}')
    for message in await both(client, ask(tools=[WEATHER], tool_choice=choice)):
        (use,) = message.content
        assert use.type == "tool_use"
        assert (use.name, use.input, message.stop_reason) == ("get_weather", {"city": "Oslo"}, "tool_use")
    assert "tools" not in fake.ledger.inference[0].body


async def test_thinking_is_shown_to_who_asks_for_it_and_can_be_sent_back(
    fake: FakeOllama, client: AsyncAnthropic
) -> None:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    body = ask("(THINK) Why is the sky blue?", model="qwen3:8b", max_tokens=2048)
    for message in await both(client, {**body, "thinking": thinking}):
        thought, text = message.content
        assert thought.type == "thinking"
        assert (thought.thinking, text.type) == ("The user asks about the sky.", "text")
        turns = [*body["messages"], message.to_param(), {"role": "user", "content": "Sure?"}]
        again = await client.messages.create(**{**body, "messages": turns, "thinking": {"type": "disabled"}})
        assert [block.type for block in again.content] == ["text"]
        assert fake.ledger.inference[-1].body["messages"][1]["thinking"] == thought.thinking
    unasked = await both(client, body)
    assert [[block.type for block in message.content] for message in unasked] == [["text"], ["text"]]
    assert [one.body["think"] for one in fake.ledger.inference] == [True, True, False, False, False, False]
    details = (await streamed(client, {**body, "thinking": {"type": "adaptive"}})).usage.output_tokens_details
    assert details is not None
    assert details.thinking_tokens == 2


async def test_a_model_that_cannot_think_answers_without(fake: FakeOllama, client: AsyncAnthropic) -> None:
    for kind in ({"type": "enabled", "budget_tokens": 1024}, {"type": "disabled"}):
        message = await client.messages.create(**ask(thinking=kind, max_tokens=2048))
        assert [block.type for block in message.content] == ["text"]
        assert "think" not in fake.ledger.inference[-1].body


async def test_the_stop_sequence_that_was_hit_is_told_and_the_backend_is_stopped(
    world: World, fake: FakeOllama, client: AsyncAnthropic
) -> None:
    fake.behaviour = Behaviour(tokens=5_000, tokens_per_s=50)  # "Blue scatters most of all in air light scatters…"
    whole, stream = await both(client, ask(stop_sequences=["nowhere", "st of a"], max_tokens=5_000))
    for message in (whole, stream):
        assert text_of(message) == "Blue scatters mo"
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "st of a")
        assert message.usage.output_tokens == 5
    await fake.ledger.until(lambda ledger: len(ledger.left) == 2)
    assert all("stop" not in one.body["options"] and one.tokens_sent < 100 for one in fake.ledger.inference)
    for row in await world.rows(2):
        assert (row["status"], row["completion_tokens"], row["estimated"]) == ("ok", 5, True)


async def test_sequences_that_are_not_hit_and_caps_that_are(client: AsyncAnthropic) -> None:
    for message in await both(client, ask(stop_sequences=["most!"])):
        assert (text_of(message), message.stop_reason, message.stop_sequence) == (TEXT, "end_turn", None)
    for message in await both(client, ask(max_tokens=2)):
        assert (text_of(message), message.stop_reason, message.usage.output_tokens) == (
            "Blue light",
            "max_tokens",
            2,
        )


class Answer(BaseModel):
    city: str
    degrees: int


async def test_structured_output_is_parsed_by_the_client(fake: FakeOllama, client: AsyncAnthropic) -> None:
    parsed = await client.messages.parse(**ask(), output_format=Answer)
    assert parsed.parsed_output == Answer(city="Oslo", degrees=2)
    assert set(fake.ledger.inference[0].body["format"]["properties"]) == {"city", "degrees"}


async def test_images_reach_the_model(fake: FakeOllama, client: AsyncAnthropic) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    content = [{"type": "text", "text": "What is"}, image, {"type": "text", "text": "this?"}]
    await client.messages.create(**ask(content, model="qwen3-vl:8b"))
    assert fake.ledger.inference[0].body["messages"] == [{"role": "user", "content": "What is\nthis?", "images": [PNG]}]
    elsewhere = {"type": "image", "source": {"type": "url", "url": "http://169.254.169.254/"}}
    with pytest.raises(anthropic.BadRequestError) as refused:
        await client.messages.create(**ask([elsewhere], model="qwen3-vl:8b"))
    assert refused.value.error_code == "unsupported"


async def test_what_the_beta_client_sends_is_understood(fake: FakeOllama, client: AsyncAnthropic) -> None:
    cached: Any = {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}
    message = await client.beta.messages.create(
        **ask(), system=[cached], betas=["context-management-2025-06-27"], context_management={"edits": []}
    )
    assert (message.content[0].type, message.stop_reason) == ("text", "end_turn")
    assert fake.ledger.inference[0].body["messages"][0] == {"role": "system", "content": "Be brief."}


async def test_counting_is_free_and_the_same_estimate_that_a_stream_begins_with(
    world: World, fake: FakeOllama, client: AsyncAnthropic
) -> None:
    prompt: Any = {"model": "llama3.2:3b", "messages": ask("x" * 600)["messages"], "system": "Be brief."}
    counted = await client.messages.count_tokens(**prompt)
    with_tools = await client.messages.count_tokens(**prompt, tools=[WEATHER])
    assert 200 <= counted.input_tokens < with_tools.input_tokens < 300
    assert not fake.ledger.inference
    stream = await client.messages.create(**prompt, max_tokens=9, stream=True)
    first, *_ = [event async for event in stream]
    assert first.type == "message_start"
    assert first.message.usage.input_tokens == counted.input_tokens
    await world.rows(1)


async def test_counting_refuses_what_a_call_would(world: World, client: AsyncAnthropic) -> None:
    messages: Any = ask()["messages"]
    async with client_of(world, "llm_nonsense") as stranger:
        with pytest.raises(anthropic.AuthenticationError) as unknown:
            await stranger.messages.count_tokens(model="llama3.2:3b", messages=messages)
    with pytest.raises(anthropic.NotFoundError) as missing:
        await client.messages.count_tokens(model="nowhere", messages=messages)
    with pytest.raises(anthropic.BadRequestError) as bad:
        await client.messages.count_tokens(model="llama3.2:3b", messages=[])
    codes = [error.value.error_code for error in (unknown, missing, bad)]
    assert codes == ["invalid_api_key", "model_not_found", "invalid_request"]
    wrong = await world.http.get(f"{world.url}/v1/messages/count_tokens")
    assert (wrong.status_code, wrong.headers["allow"], wrong.json()["type"]) == (405, "POST", "error")


async def test_errors_are_those_of_the_client(world: World, client: AsyncAnthropic) -> None:
    async with client_of(world, "llm_nonsense") as stranger:
        with pytest.raises(anthropic.AuthenticationError) as unknown:
            await stranger.messages.create(**ask())
    assert (unknown.value.type, unknown.value.error_code) == ("authentication_error", "invalid_api_key")
    assert unknown.value.request_id == unknown.value.response.json()["request_id"]
    with pytest.raises(anthropic.NotFoundError) as missing:
        await client.messages.create(**ask(model="nowhere"))
    assert missing.value.type == "not_found_error"
    with pytest.raises(anthropic.BadRequestError) as tool:
        await client.messages.create(**ask(tools=[{"type": "web_search_20250305", "name": "web_search"}]))
    assert (tool.value.type, tool.value.error_code) == ("invalid_request_error", "unsupported")
    with pytest.raises(anthropic.BadRequestError) as block:
        await client.messages.create(**ask([{"type": "hologram"}]))
    assert "hologram" in str(block.value.api_message)
    nowhere = await world.http.post(f"{world.url}/v1/messages/batches", json={})
    assert (nowhere.status_code, nowhere.json()["type"], nowhere.json()["error"]["code"]) == (
        404,
        "error",
        "route_not_found",
    )


async def test_limits_and_spent_credits_are_told_apart(world: World) -> None:
    async with client_of(world, await world.create_key(rate_limit_per_min=1)) as limited:
        await limited.messages.create(**ask())
        with pytest.raises(anthropic.RateLimitError) as over:
            await limited.messages.create(**ask())
    assert (over.value.type, over.value.error_code) == ("rate_limit_error", "rate_limit_exceeded")
    assert int(over.value.response.headers["retry-after"]) >= 1
    async with client_of(world, await world.create_key(credits=0)) as poor:
        with pytest.raises(anthropic.RateLimitError) as spent:
            await poor.messages.create(**ask())
    assert (spent.value.type, spent.value.error_code) == ("billing_error", "insufficient_quota")
    await world.rows(1)


@pytest.mark.parametrize("marker", ["(MIDERR)", "(NODONE)"])
async def test_a_stream_that_breaks_raises_and_costs_nothing(world: World, client: AsyncAnthropic, marker: str) -> None:
    said = ""
    with pytest.raises(anthropic.APIStatusError) as broken:
        async with client.messages.stream(**ask(f"{marker} Why?")) as stream:
            async for piece in stream.text_stream:
                said += piece
    assert TEXT.startswith(said)
    assert said
    assert (broken.value.type, broken.value.error_code) == ("api_error", "stream_broken")
    with pytest.raises(anthropic.InternalServerError) as failed:
        await client.messages.create(**ask(f"{marker} Why?", stop_sequences=["x"]))
    assert failed.value.status_code == 502
    rows = await world.rows(2)
    assert all(row["status"] == "stream_broken" and row["total_tokens"] == 0 for row in rows)


async def test_pings_keep_a_slow_stream_alive(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], BEAT_SECONDS="0.2") as world:
        fake.behaviour = Behaviour(first_byte_ms=1_000)
        async with client_of(world, await world.create_key()) as client:
            assert text_of(await streamed(client, ask())) == TEXT
            stream = await client.messages.create(**ask(), stream=True)
            names = [event.event async for event in AsyncStream.raw_events(stream.response)]
        assert names[:3] == ["ping"] * 3
        assert names[-1] == "message_stop"
        await world.rows(2)
