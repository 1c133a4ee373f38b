"""The hub's answer as Anthropic's events and messages, in the order the model made it; errors in Anthropic's form."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.tally import Counts
from gateway.dialects.anthropic import errors as anthropic_errors
from gateway.dialects.anthropic.answer import SIGNATURE
from gateway.dialects.anthropic.messages import parse
from gateway.dialects.ollama import CUT, Function, Message, Reply, ToolCall
from gateway.errors import CreditsExhausted, Draining, NoBackend, Unauthorized, every_error

CALL_ID = "019a0000-0000-7000-8000-00000000000b"
HEX = CALL_ID.replace("-", "")
COUNTS = Counts(prompt_tokens=3, completion_tokens=20)
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
TOOL = {"name": "f", "input_schema": {"type": "object"}}
CACHE = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}


def renderer(**fields: Any) -> Any:
    body = {"model": "Full:latest", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]} | fields
    return parse(msgspec.json.encode(body)).renderer(CALL_ID, 1700)


def line(text: str = "", thought: str = "", *calls: str, **fields: Any) -> Reply:
    made = [ToolCall(Function(name, msgspec.Raw(b'{"b":1,"a":2}')), "x") for name in calls]
    return Reply(message=Message(content=text, thinking=thought, tool_calls=made), **fields)


LAST = Reply(message=Message(), done=True, done_reason="stop")


def events(data: bytes) -> list[Any]:
    """The data of each event, whose name says the same as its type."""
    found = []
    for frame in data.decode().split("\n\n")[:-1]:
        name, body = frame.split("\n")
        found.append(msgspec.json.decode(body.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def stream(*lines: Reply, **fields: Any) -> list[Any]:
    """With the pipeline's part played: an ended answer gets `CUT`, not the rest."""
    made, out = renderer(stream=True, **fields), b""
    for one in lines:
        if one.done:
            return events(out + made.last(one, COUNTS))
        out += made.feed(one)
        if made.ended:
            return events(out + made.last(CUT, COUNTS))
    return events(out)


def shape(found: list[Any]) -> list[str]:
    """Of the blocks: how each begins, what each delta adds, how it ends."""
    return [
        one.get("content_block", one.get("delta", {})).get("type", "") or one["type"].removeprefix("content_block_")
        for one in found
        if one["type"].startswith("content_block")
    ]


def blocks(found: list[Any]) -> list[Any]:
    """The content as a client puts it together. Checks that one block is open at a time, in order."""
    made: list[Any] = []
    is_open = False
    for one in found:
        if one["type"] == "content_block_start":
            assert not is_open
            assert one["index"] == len(made)
            made.append(one["content_block"])
            is_open = True
        elif one["type"] == "content_block_delta":
            assert is_open
            assert one["index"] == len(made) - 1
            _add(made[-1], one["delta"])
        elif one["type"] == "content_block_stop":
            assert is_open
            is_open = False
    assert not is_open
    return made


def _add(block: Any, delta: Any) -> None:
    kind = delta["type"].removesuffix("_delta")
    if kind == "input_json":
        assert block["input"] == {}
        block["input"] = msgspec.json.decode(delta["partial_json"])
    else:
        block[kind] += delta[kind]


def test_a_stream_is_a_start_a_block_of_deltas_a_reason_with_the_true_usage_and_a_stop() -> None:
    found = stream(line("a"), line("b"), LAST)
    start, *_, delta, stop = found
    assert start["message"] == {
        "id": f"msg_{HEX}",
        "type": "message",
        "role": "assistant",
        "model": "Full:latest",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 0} | CACHE,
    }
    assert shape(found) == ["text", "text_delta", "text_delta", "stop"]
    assert delta["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    thought = {"output_tokens_details": {"thinking_tokens": 0}}
    assert delta["usage"] == {"input_tokens": 3, "output_tokens": 20} | CACHE | thought
    assert stop == {"type": "message_stop"}


def test_blocks_come_in_the_order_of_the_model_and_text_beside_calls_is_kept() -> None:
    lines = (
        line("", "hm"),
        line("a"),
        line("b", "more"),
        line("c", "", "f", "g"),
        line("d"),
        line("", "", "h", done=True, done_reason="stop"),
    )
    content = blocks(stream(*lines, **THINKING))
    assert [one["type"] for one in content] == [
        "thinking", "text", "thinking", "text", "tool_use", "tool_use", "text", "tool_use",
    ]  # fmt: skip
    assert [one.get("text") or one.get("thinking") or one["name"] for one in content] == [
        "hm", "a", "more", "bc", "f", "g", "d", "h",
    ]  # fmt: skip
    uses = [one for one in content if one["type"] == "tool_use"]
    assert len({one["id"] for one in uses}) == 3
    assert all(
        one["id"].startswith(f"toolu_{HEX}") and list(one["input"].items()) == [("b", 1), ("a", 2)] for one in uses
    )


def test_thinking_is_signed_before_its_block_ends_so_that_clients_send_it_back() -> None:
    found = stream(line("", "hm"), line("", "!"), line("a"), LAST, **THINKING)
    assert shape(found)[:5] == ["thinking", "thinking_delta", "thinking_delta", "signature_delta", "stop"]
    assert blocks(found)[0] == {"type": "thinking", "thinking": "hm!", "signature": SIGNATURE}
    assert found[-2]["usage"]["output_tokens_details"] == {"thinking_tokens": 2}


HIDDEN = [{}, {"thinking": {"type": "disabled"}}, {"thinking": {"type": "adaptive", "display": "omitted"}}]
SHOWN: list[dict[str, Any]] = [THINKING, {"thinking": {"type": "adaptive"}}, {"think": "low"}]


@pytest.mark.parametrize("fields", HIDDEN + SHOWN)
def test_thinking_is_shown_only_to_those_who_asked_for_it(fields: dict[str, Any]) -> None:
    kinds = (["thinking"] if fields in SHOWN else []) + ["text"]
    found = stream(line("", "hm"), line("a"), LAST, **fields)
    assert [one["type"] for one in blocks(found)] == kinds
    assert [one["type"] for one in whole(line("a", "hm", done=True), **fields)["content"]] == kinds
    assert found[-2]["usage"]["output_tokens_details"] == {"thinking_tokens": 1}


REASONS: list[tuple[Reply, str]] = [
    (LAST, "end_turn"),
    (line(done=True), "end_turn"),
    (line("x", done=True, done_reason="length"), "max_tokens"),
    (line("", "", "f", done=True, done_reason="stop"), "tool_use"),
    (line("", "", "f", done=True, done_reason="length"), "max_tokens"),
]


@pytest.mark.parametrize(("last", "reason"), REASONS)
def test_the_stop_reason_is_one_that_anthropic_has(last: Reply, reason: str) -> None:
    assert stream(last)[-2]["delta"] == {"stop_reason": reason, "stop_sequence": None}
    assert whole(last)["stop_reason"] == reason


def test_at_most_one_tool_is_used_when_parallel_use_is_disabled() -> None:
    choice = {"tools": [TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}
    content = blocks(stream(line("", "", "f", "g"), line("", "", "h"), LAST, **choice))
    assert [one["name"] for one in content] == ["f"]


def test_an_empty_answer_is_a_message_without_content() -> None:
    assert [one["type"] for one in stream(LAST)] == ["message_start", "message_delta", "message_stop"]
    assert whole(LAST)["content"] == []


def whole(*lines: Reply, **fields: Any) -> Any:
    """Of one reply, or of the lines of a backend that streams although the client does not."""
    made = renderer(**fields)
    if len(lines) == 1:
        return msgspec.json.decode(made.whole(lines[0], COUNTS))
    for one in lines[:-1]:
        assert made.feed(one) == b""
        if made.ended:
            return msgspec.json.decode(made.last(CUT, COUNTS))
    return msgspec.json.decode(made.last(lines[-1], COUNTS))


def test_a_whole_answer_is_one_message() -> None:
    body = whole(line("ab", "hm", "f", done=True, done_reason="stop"), **THINKING)
    assert body["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": SIGNATURE},
        {"type": "text", "text": "ab", "citations": None},
        {"type": "tool_use", "id": f"toolu_{HEX}1", "name": "f", "input": {"b": 1, "a": 2}},
    ]
    assert (body["type"], body["role"], body["id"], body["model"]) == (
        "message",
        "assistant",
        f"msg_{HEX}",
        "Full:latest",
    )
    assert (body["stop_reason"], body["stop_sequence"]) == ("tool_use", None)
    assert body["usage"] == {"input_tokens": 3, "output_tokens": 20} | CACHE  # how much was thinking, nobody knows


STOPS = {"stop_sequences": ["END", "\n\n"]}


def test_the_stop_sequence_that_was_hit_is_reported_and_ends_the_answer() -> None:
    lines = (line("one\n"), line("two E"), line("ND three"), line("never"), LAST)
    found = stream(*lines, **STOPS)
    assert blocks(found)[0]["text"] == "one\ntwo "
    assert found[-2]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "END"}
    body = whole(*lines, **STOPS)
    assert (body["content"][0]["text"], body["stop_sequence"]) == ("one\ntwo ", "END")
    assert body["stop_reason"] == "stop_sequence"


def test_a_stop_sequence_that_is_not_hit_changes_nothing() -> None:
    lines = (line("one E"), line("N"), LAST)
    assert stream(*lines, **STOPS)[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert blocks(stream(*lines, **STOPS)) == blocks(stream(line("one EN"), LAST))
    assert whole(*lines, **STOPS)["content"] == whole(line("one EN", done=True))["content"]


@given(st.text("abEND\n", max_size=30), st.lists(st.integers(0, 30)), st.booleans())
def test_text_in_front_of_a_stop_is_kept_however_the_backend_cut_it(text: str, cuts: list[int], streamed: bool) -> None:
    found = min((at for one in STOPS["stop_sequences"] if (at := text.find(one)) >= 0), default=None)
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    lines = [line(text[start:end]) for start, end in pairwise(places)] + [LAST]
    content = blocks(stream(*lines, **STOPS)) if streamed else whole(*lines, LAST, **STOPS)["content"]
    assert "".join(one["text"] for one in content) == text[:found]


FORCED = {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "f"}}
CALL_TEXT = ('{"name": "f", ', '"arguments": {"a": "END"}}')


def test_a_forced_call_is_a_call_also_when_its_arguments_hold_a_stop_sequence() -> None:
    for fields in (FORCED, FORCED | STOPS):
        found = stream(*map(line, CALL_TEXT), LAST, **fields)
        (use,) = blocks(found)
        assert (use["type"], use["name"], use["input"]) == ("tool_use", "f", {"a": "END"})
        assert found[-2]["delta"]["stop_reason"] == "tool_use"
        body = whole(line("".join(CALL_TEXT), done=True, done_reason="stop"), **fields)
        assert (body["content"][0]["input"], body["stop_reason"]) == ({"a": "END"}, "tool_use")
        collected = whole(*map(line, CALL_TEXT), LAST, **fields)
        assert collected["content"] == body["content"]


def test_a_forced_call_that_was_cut_is_text_and_says_why() -> None:
    found = stream(line('{"name": "f", "arg', done=True, done_reason="length"), **FORCED)
    assert blocks(found)[0]["text"] == '{"name": "f", "arg'
    assert found[-2]["delta"]["stop_reason"] == "max_tokens"


def test_a_failure_in_the_stream_is_an_error_event_and_no_stop() -> None:
    made = renderer(stream=True, **STOPS)
    start, *_ = events(made.feed(line("a")))
    (failed,) = events(made.error(NoBackend()))
    assert (start["type"], failed["type"], failed["request_id"]) == ("message_start", "error", CALL_ID)
    assert (failed["error"]["type"], failed["error"]["code"]) == ("overloaded_error", "no_backend")


def test_a_sign_of_life_is_a_ping() -> None:
    for fields in ({}, STOPS, FORCED):
        assert events(renderer(stream=True, **fields).beat) == [{"type": "ping"}]


@pytest.mark.parametrize("kind", list(every_error()), ids=lambda kind: kind.__name__)
def test_every_error_has_anthropics_form(kind: Any) -> None:
    status, data = anthropic_errors.render(kind(), "id")
    body = msgspec.json.decode(data)
    assert (status, body["type"], body["request_id"]) == (kind.status, "error", "id")
    assert (body["error"]["code"], body["error"]["details"]) == (kind.code, {"error_code": kind.code})
    assert body["error"]["message"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Unauthorized(), "authentication_error"),
        (CreditsExhausted(), "billing_error"),
        (Draining(), "overloaded_error"),
    ],
)
def test_types_are_those_that_anthropics_client_knows(error: Any, kind: str) -> None:
    assert msgspec.json.decode(anthropic_errors.body(error, ""))["error"]["type"] == kind
