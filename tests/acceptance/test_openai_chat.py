"""OpenAI's chat API as its own client uses it: the typed answers of the real SDK are what is looked at."""

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageFunctionToolCall, ChatCompletionToolParam
from pydantic import BaseModel

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.conftest import Start
from tests.world import World, chat

TEXT = "Blue light scatters most."
THINKING = "qwen3:8b"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather in a city", "parameters": SCHEMA},
}
CLOCK: ChatCompletionToolParam = {"type": "function", "function": {"name": "clock"}}


@pytest.fixture
async def client(world: World) -> AsyncIterator[AsyncOpenAI]:
    async with world.openai(await world.create_key(rate_limit_per_min=1_000)) as one:
        yield one


async def test_a_stream_is_put_together_by_the_clients_own_helper(client: AsyncOpenAI, world: World) -> None:
    options = {"include_usage": True}
    async with client.chat.completions.stream(**chat("(THINK) hi", model=THINKING), stream_options=options) as stream:
        deltas = [event.delta async for event in stream if event.type == "content.delta" and event.delta]
        whole = await stream.get_final_completion()
    (choice,) = whole.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", TEXT, "stop")
    assert deltas == ["Blue", " light", " scatters", " most", "."]
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 7
    assert whole.usage.completion_tokens_details is not None
    assert whole.usage.completion_tokens_details.reasoning_tokens == 2
    assert whole.usage.prompt_tokens_details is None
    (row,) = await world.rows(1)
    assert (row["prompt_tokens"], row["completion_tokens"]) == (whole.usage.prompt_tokens, 7)


async def test_usage_is_only_streamed_when_asked_for(client: AsyncOpenAI, world: World) -> None:
    chunks = [chunk async for chunk in await client.chat.completions.create(**chat(), stream=True)]
    assert not [chunk for chunk in chunks if chunk.usage or not chunk.choices]
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant"] + [None] * (len(chunks) - 1)
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1
    await world.rows(1)


async def test_thoughts_come_under_both_names_and_an_effort_suits_every_model(
    client: AsyncOpenAI, fake: FakeOllama, world: World
) -> None:
    thought = await client.chat.completions.create(**chat("(THINK) hi", model=THINKING, reasoning_effort="high"))
    message: Any = thought.choices[0].message
    assert message.reasoning_content == message.reasoning == "The user asks about the sky."
    assert thought.usage is not None
    assert thought.usage.completion_tokens_details is None  # not known of an answer in one piece
    plain = await client.chat.completions.create(**chat(reasoning_effort="xhigh"))
    assert plain.choices[0].message.content == TEXT
    assert plain.usage is not None
    assert plain.usage.completion_tokens_details is not None
    assert plain.usage.completion_tokens_details.reasoning_tokens == 0
    await client.chat.completions.create(**chat("hi", model=THINKING), extra_body={"think": False})
    assert [one.body.get("think") for one in fake.ledger.inference] == ["high", None, False]
    await world.rows(3)


async def test_a_loop_with_a_tool_ends_in_an_answer(client: AsyncOpenAI, fake: FakeOllama, world: World) -> None:
    messages: list[Any] = [{"role": "user", "content": "(TOOL) How is the weather?"}]
    asked = await client.chat.completions.create(model=THINKING, messages=messages, tools=[WEATHER])
    (choice,) = asked.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    (call,) = choice.message.tool_calls or []
    assert isinstance(call, ChatCompletionMessageFunctionToolCall)
    assert (call.function.name, call.function.arguments) == ("weather", '{"city":"Oslo"}')
    messages[0] = {"role": "user", "content": "How is the weather?"}  # the fake would call again
    messages += [choice.message, {"role": "tool", "tool_call_id": call.id, "content": "It rains."}]
    answer = await client.chat.completions.create(model=THINKING, messages=messages, tools=[WEATHER])
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (TEXT, "stop")
    first, second = (one.body for one in fake.ledger.inference)
    assert first["tools"] == [WEATHER]
    _, called, told = second["messages"]
    assert called["tool_calls"] == [{"id": call.id, "function": {"name": "weather", "arguments": {"city": "Oslo"}}}]
    assert told == {"role": "tool", "content": "It rains.", "tool_name": "weather", "tool_call_id": call.id}
    await world.rows(2)


@pytest.mark.parametrize("apart", [False, True])
async def test_a_streamed_call_is_put_together_by_the_client(
    client: AsyncOpenAI, fake: FakeOllama, world: World, apart: bool
) -> None:
    fake.behaviour = Behaviour(tool_calls_apart=apart)
    async with client.chat.completions.stream(**chat("(THINK TOOL)", model=THINKING), tools=[WEATHER]) as stream:
        final = await stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or []
    assert (call.function.name, call.function.arguments) == ("weather", '{"city":"Oslo"}')
    assert final.choices[0].finish_reason == "tool_calls"
    await world.rows(1)


NAMED: Any = {"type": "function", "function": {"name": "weather"}}


@pytest.mark.parametrize("choice", ["required", NAMED])
async def test_a_call_is_forced_of_a_model_that_knows_no_tools(
    client: AsyncOpenAI, fake: FakeOllama, world: World, choice: Any
) -> None:
    fake.behaviour = Behaviour(text='{"name": "weather", "arguments": {"city": "Oslo"}}')
    fields: dict[str, Any] = {"tools": [WEATHER, CLOCK], "tool_choice": choice}
    whole = await client.chat.completions.create(**chat(**fields))
    async with client.chat.completions.stream(**chat(**fields)) as stream:
        streamed = await stream.get_final_completion()
    for final in (whole, streamed):
        (call,) = final.choices[0].message.tool_calls or []
        assert isinstance(call, ChatCompletionMessageFunctionToolCall)
        assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Oslo"})
        assert (final.choices[0].finish_reason, final.choices[0].message.content) == ("tool_calls", None)
    assert all("tools" not in one.body and one.body["format"] for one in fake.ledger.inference)
    await world.rows(2)


async def test_tools_that_a_model_does_not_know_are_a_clear_400(client: AsyncOpenAI, world: World) -> None:
    with pytest.raises(openai.BadRequestError, match="does not support tools"):
        await client.chat.completions.create(**chat(), tools=[WEATHER])
    await client.chat.completions.create(**chat(), tools=[WEATHER], tool_choice="none")
    await world.rows(2)


class Place(BaseModel):
    city: str
    people: int


async def test_structured_output_is_parsed_into_the_clients_own_type(
    client: AsyncOpenAI, fake: FakeOllama, world: World
) -> None:
    parsed = await client.chat.completions.parse(**chat("Where?"), response_format=Place)
    assert parsed.choices[0].message.parsed == Place(city="Oslo", people=2)
    (asked,) = fake.ledger.inference
    assert set(asked.body["format"]["properties"]) == {"city", "people"}
    with pytest.raises(openai.LengthFinishReasonError):
        await client.chat.completions.parse(**chat("Where? (LIMIT)"), response_format=Place)
    await world.rows(2)


async def test_log_probabilities_are_typed_whole_and_streamed(client: AsyncOpenAI, world: World) -> None:
    whole = await client.chat.completions.create(**chat(), logprobs=True, top_logprobs=1)
    pieces = [
        entry
        async for chunk in await client.chat.completions.create(**chat(), logprobs=True, top_logprobs=1, stream=True)
        for entry in (chunk.choices[0].logprobs and chunk.choices[0].logprobs.content) or []
    ]
    assert whole.choices[0].logprobs is not None
    assert whole.choices[0].logprobs.content == pieces
    assert "".join(entry.token for entry in pieces) == TEXT
    assert bytes(pieces[1].bytes or []) == b" light"
    assert pieces[1].top_logprobs[0].logprob == -0.12
    await world.rows(2)


async def test_ollamas_own_words_go_through_within_the_operators_bounds(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], CONTEXT_TOKENS_MAX="8192", KEEP_ALIVE_SECONDS_MAX="600") as world:
        async with world.openai(await world.create_key()) as client:
            more: dict[str, Any] = {"options": {"num_ctx": 8192, "top_k": 7, "num_gpu": 0}, "keep_alive": -1}
            await client.chat.completions.create(**chat(), max_completion_tokens=9, extra_body=more)
            (asked,) = fake.ledger.inference
            assert asked.body["options"] == {"num_ctx": 8192, "top_k": 7, "num_predict": 9}
            assert asked.body["keep_alive"] == 600
            with pytest.raises(openai.BadRequestError) as refused:
                await client.chat.completions.create(**chat(), extra_body={"options": {"num_ctx": 8193}})
            assert refused.value.code == "context_not_allowed"
            assert "8192" in refused.value.message
        await world.rows(1)


async def test_errors_have_the_clients_own_types(client: AsyncOpenAI, world: World) -> None:
    create = client.chat.completions.create
    with pytest.raises(openai.BadRequestError) as bad:
        await create(**chat(), n=2)
    assert (bad.value.param, bad.value.code, bad.value.type) == ("n", "unsupported", "invalid_request_error")
    with pytest.raises(openai.BadRequestError) as wrong:
        await create(**chat(temperature="hot"))
    assert (wrong.value.param, wrong.value.code) == ("temperature", "invalid_request")
    with pytest.raises(openai.NotFoundError) as absent:
        await create(**chat(model="nope"))
    assert absent.value.code == "model_not_found"
    with pytest.raises(openai.PermissionDeniedError) as cloud:
        await create(**chat(model="gpt-oss:120b-cloud"))
    assert cloud.value.code == "cloud_model_blocked"
    with pytest.raises(openai.BadRequestError) as long:
        await create(**chat("(REJECT)"))
    assert long.value.code == "context_length_exceeded"
    assert long.value.request_id
    (row,) = await world.rows(1)  # what no backend was asked for is no call
    assert (row["status"], row["total_tokens"]) == ("context_length_exceeded", 0)


@pytest.mark.parametrize("marker", ["(MIDERR)", "(NODONE)"])
async def test_a_stream_that_breaks_raises_while_it_is_read(client: AsyncOpenAI, world: World, marker: str) -> None:
    """Ollama's own layer ends it as if nothing were wrong."""
    pieces = []
    with pytest.raises(openai.APIError) as broken:
        async for chunk in await client.chat.completions.create(**chat(f"hi {marker}"), stream=True):
            pieces.append(chunk.choices[0].delta.content)
    assert pieces[0] == "Blue"
    assert broken.value.code == "stream_broken"
    (row,) = await world.rows(1)
    assert (row["status"], row["total_tokens"]) == ("stream_broken", 0)


async def test_a_slow_start_is_bridged_by_signs_of_life_that_the_client_does_not_see(
    start: Start, fake: FakeOllama
) -> None:
    async with start([fake.url], BEAT_SECONDS="0.2") as world:
        async with world.openai(await world.create_key()) as client:
            fake.behaviour = Behaviour(first_byte_ms=1_000)
            async with client.chat.completions.with_streaming_response.create(**chat(), stream=True) as raw:
                lines = [line async for line in raw.iter_lines()]
            beats = [number for number, line in enumerate(lines) if line == ": keep-alive"]
            assert beats[0] == 0  # they come first
            assert len(beats) >= 2
            assert [line for line in lines if line][-1] == "data: [DONE]"
            stream = await client.chat.completions.create(**chat(), stream=True)
            assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == TEXT
            fake.behaviour = Behaviour(first_byte_ms=1_000, status=500)
            with pytest.raises(openai.APIError) as late:  # the 200 is gone: the error is a frame
                async for _ in await client.chat.completions.create(**chat(), stream=True):
                    pass
            assert late.value.code == "backend_failed"
        await world.rows(3)


async def test_a_client_is_told_the_way_of_its_call_where_the_operator_wants_it(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], ROUTING_HEADERS="true") as world, world.openai(await world.create_key()) as client:
        raw = await client.chat.completions.with_raw_response.create(**chat())
        assert raw.headers["x-gateway-backend"] == fake.url.removeprefix("http://")
        assert int(raw.headers["x-gateway-queue-ms"]) >= 0
        assert int(raw.headers["x-gateway-upstream-ms"]) >= 0
        (row,) = await world.rows(1)
        assert raw.headers["x-request-id"] == str(row["id"])
        assert raw.parse().choices[0].message.content == TEXT


async def test_parts_roles_and_the_end_user_reach_their_places(
    client: AsyncOpenAI, fake: FakeOllama, world: World
) -> None:
    pixel = "data:image/png;base64,iVBORw0KGgo="
    parts: list[Any] = [
        {"type": "text", "text": "What"},
        {"type": "image_url", "image_url": {"url": pixel}},
        {"type": "text", "text": "is this?"},
    ]
    messages: list[Any] = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    await client.chat.completions.create(model="qwen3-vl:8b", messages=messages, safety_identifier="somebody")
    (asked,) = fake.ledger.inference
    assert asked.body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What\nis this?", "images": ["iVBORw0KGgo="]},
    ]
    assert asked.body["options"].keys() == {"num_predict"}  # a model's own defaults stay in force
    (row,) = await world.rows(1)
    assert row["end_user"] == "somebody"
