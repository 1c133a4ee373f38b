"""The answer of the Responses API: the events in their order, and the same items streamed or whole."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from gateway.core.tally import Counts
from gateway.dialects.ollama import Function, Message, Reply, ToolCall
from gateway.dialects.openai.responses import parse
from gateway.dialects.openai.responses_request import ENCRYPTED, LOGPROBS
from gateway.errors import BadRequest, ContextExceeded, GatewayError, RateLimited, StreamBroken

CALL_ID = "01900000-0000-7000-8000-00000000abcd"
TAIL = CALL_ID.replace("-", "")
COUNTS = Counts(prompt_tokens=11, completion_tokens=4)
SUNNY = ToolCall(Function("weather", Raw(b'{"city":"Oslo"}')), id="x")
events_of_the_library = TypeAdapter[Any](ResponseStreamEvent)


def renderer(**fields: Any) -> Any:
    asked = parse(msgspec.json.encode({"model": "m", "input": "hi"} | fields))
    return asked.renderer(CALL_ID, 1_700_000_000)


def line(text: str = "", thought: str = "", *calls: ToolCall, **fields: Any) -> Reply:
    return Reply(message=Message(content=text, thinking=thought, tool_calls=list(calls)), **fields)


def end(text: str = "", *calls: ToolCall, reason: str = "stop") -> Reply:
    return line(text, "", *calls, done=True, done_reason=reason)


def events(frames: bytes) -> Iterator[dict[str, Any]]:
    """Every event, each of which the client library can read, numbered from 0 without a gap."""
    for number, frame in enumerate(frames.decode().removesuffix("\n\n").split("\n\n")):
        kind, _, data = frame.partition("\n")
        event = msgspec.json.decode(data.removeprefix("data: "))
        assert kind == f"event: {event['type']}"
        assert event["sequence_number"] == number
        events_of_the_library.validate_python(event)
        yield event


def streamed(lines: list[Reply], last: Reply, **fields: Any) -> list[dict[str, Any]]:
    one = renderer(stream=True, **fields)
    return list(events(b"".join(map(one.feed, lines)) + one.last(last, COUNTS)))


def whole(reply: Reply, counts: Counts = COUNTS, **fields: Any) -> dict[str, Any]:
    body = renderer(**fields).whole(reply, counts)
    Response.model_validate_json(body)
    found: dict[str, Any] = msgspec.json.decode(body)
    return found


def kinds(found: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in found]


def test_the_events_of_a_thought_a_text_and_a_call_come_in_their_order() -> None:
    found = streamed([line(thought="Let me"), line(thought=" see."), line("So"), line(" it is")], end("", SUNNY))
    assert kinds(found) == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert [event["output_index"] for event in found if "output_index" in event] == [0] * 7 + [1] * 7 + [2] * 4
    assert found[0]["response"] == found[1]["response"]
    assert (found[0]["response"]["status"], found[0]["response"]["output"]) == ("in_progress", [])
    response = found[-1]["response"]
    assert response["output"] == [
        {
            "id": f"rs_{TAIL}0",
            "type": "reasoning",
            "status": "completed",
            "summary": [{"type": "summary_text", "text": "Let me see."}],
        },
        {
            "id": f"msg_{TAIL}1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "So it is", "annotations": [], "logprobs": []}],
        },
        {
            "id": f"fc_{TAIL}2",
            "type": "function_call",
            "status": "completed",
            "call_id": f"call_{TAIL}2",
            "name": "weather",
            "arguments": '{"city":"Oslo"}',
        },
    ]
    assert [event["item"] for event in found if event["type"] == "response.output_item.done"] == response["output"]
    assert response["usage"] == {
        "input_tokens": 11,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 15,
    }


def test_what_comes_with_the_first_line_is_not_in_the_created_response() -> None:
    found = streamed([], end("", SUNNY))
    assert [event["response"]["output"] for event in found[:2]] == [[], []]
    assert len(found[-1]["response"]["output"]) == 1


def test_each_change_of_kind_begins_an_item() -> None:
    output = streamed([line("a"), line(thought="b"), line("c", "", SUNNY, SUNNY), line("d")], end())[-1]["response"]
    found = [item["type"] for item in output["output"]]
    assert found == ["message", "reasoning", "message", "function_call", "function_call", "message"]
    assert len({item["id"] for item in output["output"]}) == 6
    assert len({item.get("call_id") for item in output["output"]}) == 3  # two calls, and none


@st.composite
def answers(draw: st.DrawFn) -> tuple[str, str, list[ToolCall], list[Reply]]:
    """A thought, a text, calls, and the lines they came in, cut anywhere."""
    thought, text = draw(st.text(max_size=20)), draw(st.text(max_size=20))
    calls = draw(st.lists(st.just(SUNNY), max_size=2))
    lines = [line(thought=piece) for piece in draw(_cuts(thought))]
    lines += [line(piece) for piece in draw(_cuts(text))]
    return thought, text, calls, lines


def _cuts(text: str) -> st.SearchStrategy[list[str]]:
    places = st.lists(st.integers(0, len(text)), max_size=5).map(sorted)
    return places.map(lambda cuts: [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)])


@given(answers(), st.sampled_from(["stop", "length"]))
def test_a_stream_adds_up_to_the_whole_answer(answer: tuple[str, str, list[ToolCall], list[Reply]], end_: str) -> None:
    thought, text, calls, lines = answer
    found = streamed(lines, end("", *calls, reason=end_))
    final = found[-1]["response"]
    complete = whole(line(text, thought, *calls, done=True, done_reason=end_))
    assert final["output"] == complete["output"]
    assert {**final, "usage": None} == {**complete, "usage": None}
    deltas = {"reasoning_summary_text": "", "output_text": "", "function_call_arguments": ""}
    for event in found:
        kind = event["type"].removeprefix("response.").removesuffix(".delta")
        if kind in deltas:
            deltas[kind] += event["delta"]
    arguments = '{"city":"Oslo"}' * len(calls)
    assert list(deltas.values()) == [thought, text, arguments]


def test_an_answer_without_anything_is_an_empty_message() -> None:
    output = whole(end())["output"]
    assert [(item["type"], item["content"][0]["text"]) for item in output] == [("message", "")]
    assert streamed([], end())[-1]["response"]["output"] == output


def test_an_answer_that_was_cut_is_incomplete_and_so_is_its_last_item() -> None:
    found = streamed([line(thought="hm"), line("So")], end(reason="length"))
    response = found[-1]["response"]
    assert (found[-1]["type"], response["status"]) == ("response.incomplete", "incomplete")
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]
    assert whole(line("So", "hm", done=True, done_reason="length"))["output"] == response["output"]
    complete = whole(end("So"))
    assert (complete["status"], complete["incomplete_details"]) == ("completed", None)


def test_reasoning_tokens_of_a_whole_answer_are_the_thoughts_share() -> None:
    def reasoning(reply: Reply, tokens: int) -> Any:
        usage = whole(reply, Counts(completion_tokens=tokens))["usage"]
        return usage["output_tokens_details"]["reasoning_tokens"]

    assert reasoning(line("abcd", "", done=True), 9) == 0
    assert reasoning(line("abcd", "abcdefgh", done=True), 9) == 6
    assert reasoning(line("", "abc", done=True), 9) == 9
    assert reasoning(line("", "x" * 15, SUNNY, done=True), 10) == 5


def test_reasoning_tokens_are_never_more_than_the_tokens() -> None:
    lines = [line(thought="x")] * 9
    assert streamed(lines, end())[-1]["response"]["usage"]["output_tokens_details"] == {"reasoning_tokens": 4}


def test_only_the_first_call_is_kept_where_parallel_ones_are_not_wanted() -> None:
    assert len(whole(end("", SUNNY, SUNNY))["output"]) == 2
    assert len(whole(end("", SUNNY, SUNNY), parallel_tool_calls=False)["output"]) == 1
    one = streamed([line("", "", SUNNY)], end("", SUNNY), parallel_tool_calls=False)
    assert len(one[-1]["response"]["output"]) == 1


def test_log_probabilities_are_shown_where_they_are_asked_for() -> None:
    given = [{"token": "So", "logprob": -0.5, "top_logprobs": [{"token": "So", "logprob": -0.5}]}]
    expected = {"token": "So", "logprob": -0.5, "bytes": [83, 111]}
    first = line("So", logprobs=given)
    found = streamed([first, first], end(), include=[LOGPROBS])
    message = found[-1]["response"]["output"][0]["content"][0]
    assert message["logprobs"] == [expected | {"top_logprobs": [expected]}] * 2
    deltas = [event["logprobs"] for event in found if event["type"] == "response.output_text.delta"]
    assert deltas == [message["logprobs"][:1]] * 2
    done = next(event for event in found if event["type"] == "response.output_text.done")
    assert done["logprobs"] == message["logprobs"]
    assert streamed([first], end())[-1]["response"]["output"][0]["content"][0]["logprobs"] == []


def test_encrypted_content_is_there_but_empty_where_it_is_asked_for() -> None:
    reply = line("So", "hm", done=True)
    assert "encrypted_content" not in whole(reply)["output"][0]
    assert whole(reply, include=[ENCRYPTED])["output"][0]["encrypted_content"] is None


def test_without_a_model_in_the_request_the_answer_names_the_one_that_answered() -> None:
    reply = Reply(model="served", message=Message(content="So"), done=True)
    assert whole(reply, model=None)["model"] == "served"
    assert {event["response"]["model"] for event in streamed([], reply, model=None) if "response" in event} == {
        "served"
    }
    assert whole(reply)["model"] == "m"


FAILURES: list[tuple[GatewayError, str]] = [
    (StreamBroken(), "server_error"),
    (RateLimited(), "rate_limit_exceeded"),
    (ContextExceeded(), "invalid_prompt"),
    (BadRequest(param="input"), "invalid_prompt"),
]


@pytest.mark.parametrize(("error", "code"), FAILURES)
def test_a_failure_ends_the_stream_with_the_output_so_far(error: GatewayError, code: str) -> None:
    one = renderer(stream=True)
    frames = one.feed(line(thought="hm")) + one.feed(line("So")) + one.error(error)
    found = list(events(frames))
    assert found[-1]["type"] == "response.failed"
    response = found[-1]["response"]
    assert (response["status"], response["usage"]) == ("failed", None)
    assert response["error"] == {"code": code, "message": error.message, "type": error.code, "param": error.param}
    assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]
    assert response["output"][1]["content"][0]["text"] == "So"


def test_a_failure_after_beats_only_begins_with_the_created_response() -> None:
    """The client library insists on it."""
    one = renderer(stream=True)
    assert one.beat.startswith(b":")
    assert kinds(list(events(one.error(StreamBroken())))) == ["created", "in_progress", "failed"]


TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}}


def test_a_forced_call_is_made_of_its_text_streamed_and_whole() -> None:
    forced: dict[str, Any] = {"tools": [TOOL], "tool_choice": "required"}
    text = '{"name": "weather", "arguments": {"city": "Oslo"}}'
    lines = [line(thought="hm"), line(text[:9]), line(text[9:])]
    final = streamed(lines, end(), **forced)[-1]["response"]
    assert [item["type"] for item in final["output"]] == ["reasoning", "function_call"]
    assert msgspec.json.decode(final["output"][1]["arguments"]) == {"city": "Oslo"}
    assert final["usage"]["output_tokens_details"] == {"reasoning_tokens": 1}
    assert whole(line(text, "hm", done=True, done_reason="stop"), **forced)["output"] == final["output"]
    cut = streamed([line(text[:9])], end(reason="length"), **forced)[-1]["response"]
    assert (cut["status"], cut["output"][0]["content"][0]["text"]) == ("incomplete", text[:9])
