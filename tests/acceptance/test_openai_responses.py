"""The Responses API through OpenAI's own client. Every object that it gives is checked against the client's types."""

import json
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from gateway.dev.fake_faults import Behaviour
from gateway.dev.fake_ollama import FakeOllama
from tests.acceptance.conftest import Start
from tests.world import World, bearer

QUESTION = "Why is the sky blue? One sentence."
ANSWER = "Blue light scatters most."
SMALL, CLEVER = "llama3.2:3b", "qwen3:8b"
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather somewhere.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}
_events = TypeAdapter[Any](ResponseStreamEvent)


@pytest.fixture
async def client(world: World) -> AsyncOpenAI:
    return world.openai(await world.create_key(rate_limit_per_min=1_000, credits=100))


def checked(response: Response) -> Response:
    """The client takes what it gets on trust; this does not."""
    return Response.model_validate(response.to_dict(mode="json"))


async def listened(stream: Any) -> list[Any]:
    """All events, each checked, numbered without a gap."""
    events = [event async for event in stream]
    for number, event in enumerate(events):
        _events.validate_python(event.to_dict(mode="json"))
        assert event.sequence_number == number
    return events


async def test_whole_and_streamed_answers_are_the_same_and_make_one_row_each(
    world: World, client: AsyncOpenAI, fake: FakeOllama
) -> None:
    whole = checked(await client.responses.create(model=SMALL, input=QUESTION, instructions="Be brief."))
    assert (whole.output_text, whole.status, whole.error, whole.instructions) == (
        ANSWER,
        "completed",
        None,
        "Be brief.",
    )
    assert [item.type for item in whole.output] == ["message"]

    events = await listened(
        await client.responses.create(model=SMALL, input=QUESTION, instructions="Be brief.", stream=True)
    )
    assert [events[0].type, events[1].type] == ["response.created", "response.in_progress"]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == ANSWER
    assert len(deltas) == 5  # token by token, not in one lump
    assert events[-1].type == "response.completed"
    final = events[-1].response
    assert final.output_text == ANSWER
    assert final.id != whole.id

    asked = [exchange.body for exchange in fake.ledger.inference]
    assert [body["messages"] for body in asked] == [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    ] * 2
    rows = await world.rows(2)
    for row, counted in zip(rows, (whole.usage, final.usage), strict=True):
        assert (row["prompt_tokens"], row["completion_tokens"]) == (counted.input_tokens, counted.output_tokens)
        assert row["total_tokens"] == counted.total_tokens > 0
        assert (row["status"], row["endpoint"], row["estimated"]) == ("ok", "/v1/responses", False)


async def test_the_stream_helper_puts_the_answer_together(client: AsyncOpenAI) -> None:
    async with client.responses.stream(model=SMALL, input=QUESTION) as stream:
        snapshots = [event.snapshot async for event in stream if event.type == "response.output_text.delta"]
        final = await stream.get_final_response()
    assert snapshots[-1] == final.output_text == ANSWER
    assert final.usage is not None
    assert final.usage.output_tokens == len(snapshots) == 5


class Verdict(BaseModel):
    answer: str
    sure: bool


async def test_structured_output_is_parsed_whole_and_streamed(client: AsyncOpenAI, fake: FakeOllama) -> None:
    parsed = await client.responses.parse(model=SMALL, input=QUESTION, text_format=Verdict)
    assert isinstance(parsed.output_parsed, Verdict)
    async with client.responses.stream(model=SMALL, input=QUESTION, text_format=Verdict) as stream:
        assert (await stream.get_final_response()).output_parsed == parsed.output_parsed
    for exchange in fake.ledger.inference:
        assert set(exchange.body["format"]["properties"]) == {"answer", "sure"}


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tools_loop_goes_round(client: AsyncOpenAI, fake: FakeOllama, streamed: bool) -> None:
    conversation: list[Any] = [{"role": "user", "content": "The weather in Oslo? (THINK TOOL)"}]
    common: dict[str, Any] = {"model": CLEVER, "tools": [WEATHER], "reasoning": {"effort": "low", "summary": "auto"}}
    if streamed:
        events = await listened(await client.responses.create(input=conversation, stream=True, **common))
        first = events[-1].response
        done = [event for event in events if event.type == "response.function_call_arguments.done"]
        assert [json.loads(event.arguments) for event in done] == [{"city": "Oslo"}]
    else:
        first = checked(await client.responses.create(input=conversation, **common))
    reasoning, call = first.output
    assert reasoning.type == "reasoning"
    assert [part.text for part in reasoning.summary] == ["The user asks about Oslo."]
    assert call.type == "function_call"
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Oslo"})
    assert first.usage is not None
    assert 0 < first.usage.output_tokens_details.reasoning_tokens <= first.usage.output_tokens

    conversation += [item.to_dict(mode="json") for item in first.output]
    conversation += [{"type": "function_call_output", "call_id": call.call_id, "output": "Rain."}]
    conversation += [{"role": "user", "content": "So?"}]
    fake.behaviour = Behaviour(text="Take an umbrella.")
    conversation[0] = {"role": "user", "content": "The weather in Oslo?"}
    second = checked(await client.responses.create(input=conversation, **common))
    assert second.output_text == "Take an umbrella."

    asked = fake.ledger.inference[-1].body
    assert asked["tools"][0]["function"]["parameters"] == WEATHER["parameters"]
    user, assistant, tool, again = asked["messages"]
    assert assistant["thinking"] == "The user asks about Oslo."
    assert assistant["tool_calls"][0]["function"]["arguments"] == {"city": "Oslo"}
    assert tool == {"role": "tool", "content": "Rain.", "tool_name": "weather", "tool_call_id": call.call_id}
    assert (user["role"], again["role"]) == ("user", "user")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "weather"}])
async def test_a_forced_call_is_made_even_by_a_model_that_knows_no_tools(client: AsyncOpenAI, choice: Any) -> None:
    call: Any
    common: dict[str, Any] = {"model": SMALL, "input": QUESTION, "tools": [WEATHER], "tool_choice": choice}
    events = await listened(await client.responses.create(stream=True, **common))
    for response in (checked(await client.responses.create(**common)), events[-1].response):
        [call] = response.output
        assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "weather", {"city": "Oslo"})


async def test_reasoning_comes_as_a_summary_of_its_own(client: AsyncOpenAI) -> None:
    common: dict[str, Any] = {"model": CLEVER, "input": f"{QUESTION} (THINK)"}
    events = await listened(await client.responses.create(stream=True, **common))
    thoughts = [event.delta for event in events if event.type == "response.reasoning_summary_text.delta"]
    assert "".join(thoughts) == "The user asks about the sky."
    final = events[-1].response
    assert [item.type for item in final.output] == ["reasoning", "message"]
    assert final.output_text == ANSWER
    assert final.usage.output_tokens_details.reasoning_tokens == len(thoughts) == 2
    none = checked(await client.responses.create(reasoning={"effort": "none"}, **common))
    assert [item.type for item in none.output] == ["message"]
    assert none.usage is not None
    assert none.usage.output_tokens_details.reasoning_tokens == 0


async def test_log_probabilities_come_where_they_are_asked_for(client: AsyncOpenAI) -> None:
    common: dict[str, Any] = {"model": SMALL, "input": QUESTION, "include": ["message.output_text.logprobs"]}
    whole: Any = checked(await client.responses.create(top_logprobs=1, **common))
    entries = whole.output[0].content[0].logprobs
    assert "".join(entry.token for entry in entries) == ANSWER
    assert all(entry.top_logprobs for entry in entries)
    events = await listened(await client.responses.create(stream=True, **common))
    done = next(event for event in events if event.type == "response.output_text.done")
    assert [entry.token for entry in done.logprobs] == [entry.token for entry in entries]


async def test_an_answer_cut_by_its_limit_is_incomplete(client: AsyncOpenAI) -> None:
    common: dict[str, Any] = {"model": SMALL, "input": QUESTION, "max_output_tokens": 3}
    whole: Any = checked(await client.responses.create(**common))
    events = await listened(await client.responses.create(stream=True, **common))
    assert events[-1].type == "response.incomplete"
    for response in (whole, events[-1].response):
        assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
        assert (response.output[0].status, response.usage.output_tokens) == ("incomplete", 3)
        assert response.max_output_tokens == 3


async def test_what_needs_memory_is_refused_and_named(world: World, client: AsyncOpenAI, fake: FakeOllama) -> None:
    wrong: list[dict[str, Any]] = [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"background": True},
        {"tools": [{"type": "web_search"}]},
    ]
    for fields in wrong:
        with pytest.raises(BadRequestError) as refused:
            await client.responses.create(model=SMALL, input=QUESTION, **fields)
        assert (refused.value.param, refused.value.code) == (next(iter(fields)), "unsupported")
    with pytest.raises(BadRequestError) as reference:
        await client.responses.create(model=SMALL, input=[{"type": "item_reference", "id": "msg_1"}])
    assert (reference.value.param, reference.value.code) == ("input", "unsupported")
    assert fake.ledger.inference == []


@pytest.mark.parametrize("marker", ["(MIDERR)", "(NODONE)"])
async def test_a_failure_within_the_answer_is_a_failed_response_and_costs_nothing(
    world: World, client: AsyncOpenAI, marker: str
) -> None:
    events = await listened(await client.responses.create(model=SMALL, input=f"{QUESTION} {marker}", stream=True))
    assert events[-1].type == "response.failed"
    failed = events[-1].response
    assert (failed.status, failed.error.code, failed.error.type) == ("failed", "server_error", "stream_broken")
    assert failed.output_text == "".join(e.delta for e in events if e.type == "response.output_text.delta") != ""
    assert "response.completed" not in [event.type for event in events]
    [row] = await world.rows(1)
    assert (row["status"], row["total_tokens"], row["credits_micro"]) == ("stream_broken", 0, 0)


async def test_signs_of_life_come_before_the_first_event_and_before_a_failure(start: Start, fake: FakeOllama) -> None:
    async with start([fake.url], BEAT_SECONDS="0.1") as world:
        key = await world.create_key()
        body = {"model": SMALL, "input": QUESTION, "stream": True}
        fake.behaviour = Behaviour(first_byte_ms=500)
        reply = await world.http.post(f"{world.url}/v1/responses", headers=bearer(key), json=body)
        assert reply.text.startswith(": keep-alive\n\n")
        assert "event: response.completed\n" in reply.text

        events = await listened(await world.openai(key).responses.create(model=SMALL, input=QUESTION, stream=True))
        assert events[-1].response.output_text == ANSWER

        fake.behaviour = Behaviour(first_byte_ms=500, error_after_tokens=0)
        failed = await listened(await world.openai(key).responses.create(model=SMALL, input=QUESTION, stream=True))
        assert [event.type for event in failed] == ["response.created", "response.in_progress", "response.failed"]
        assert [row["status"] for row in await world.rows(3)] == ["ok", "ok", "stream_broken"]
