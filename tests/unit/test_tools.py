"""Tools: what a choice among them makes of a request, and of an answer that had to be a call."""

from functools import partial
from typing import Any

import msgspec
import pytest

from gateway.dialects import ollama, tools
from gateway.dialects.forced import Forced
from gateway.dialects.ollama import ChatRequest, Message
from gateway.dialects.openai import chat_answer as openai_answer
from gateway.dialects.openai.chat import parse
from gateway.dialects.tools import Tool
from gateway.errors import BadRequest, Draining, Unsupported

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "pattern": "^[A-Z]", "default": "Oslo"}},
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": SCHEMA}}
CLOCK = {"type": "function", "function": {"name": "clock"}}
NAMED = {"type": "function", "function": {"name": "clock"}}
USER = {"role": "user", "content": "hi"}
LAST = b'{"message":{"content":""},"done":true,"done_reason":"stop"}'


def sent(**fields: Any) -> Any:
    """What a backend is asked for a chat with both tools."""
    body = {"model": "m", "messages": [USER], "tools": [WEATHER, CLOCK]} | fields
    upstream = parse(msgspec.json.encode(body)).upstream
    return msgspec.json.decode(upstream.encode(model="m", stream=True, output_tokens_max=1, thinks=True))


def allowed(mode: str, *names: str) -> dict[str, Any]:
    some = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": some}}


def test_a_schema_is_passed_on_whole_and_every_tool_has_one() -> None:
    weather, clock = sent()["tools"]
    assert weather == WEATHER
    assert clock["function"]["parameters"] == {"type": "object", "properties": {}}
    null = {"type": "function", "function": {"name": "clock", "description": None, "parameters": None}}
    assert sent(tools=[null])["tools"] == [clock]


def test_a_model_that_is_to_call_none_does_not_see_them() -> None:
    assert "tools" not in sent(tool_choice="none")


def test_a_model_may_be_shown_some_of_them() -> None:
    assert [tool["function"]["name"] for tool in sent(tool_choice=allowed("auto", "clock"))["tools"]] == ["clock"]


FORCED: list[tuple[Any, list[str]]] = [
    ("required", ["weather", "clock"]),
    (NAMED, ["clock"]),
    (allowed("required", "weather"), ["weather"]),
]


@pytest.mark.parametrize(("choice", "names"), FORCED)
def test_a_call_is_forced_by_the_form_of_the_answer(choice: Any, names: list[str]) -> None:
    body = sent(tool_choice=choice)
    assert "tools" not in body
    forms = body["format"].get("anyOf", [body["format"]])
    assert [form["properties"]["name"]["enum"] for form in forms] == [[name] for name in names]
    assert all(form["required"] == ["name", "arguments"] for form in forms)
    if "weather" in names:
        assert forms[0]["properties"]["arguments"] == SCHEMA
    system, user = body["messages"]
    assert (system["role"], user) == ("system", USER)
    assert all(f'"name":"{name}"' in system["content"] for name in names)


def test_a_tool_may_be_called_what_a_choice_is() -> None:
    for name in ("none", "auto", "required"):
        named = {"type": "function", "function": {"name": name}}
        body = sent(tools=[named, WEATHER], tool_choice=named)
        assert body["format"]["properties"]["name"]["enum"] == [name]


def test_the_instruction_joins_the_system_message_there_is() -> None:
    first, *others = sent(messages=[{"role": "system", "content": "Be brief."}, USER], tool_choice="required")[
        "messages"
    ]
    assert first["content"].startswith("Be brief.\n\n")
    assert others == [USER]


def test_what_a_forced_call_needs_is_counted_as_prompt() -> None:
    request = ChatRequest(messages=[Message("user", "hi")])
    forced = tools.offer(request, [Tool("f", "x" * 1_000)], "required")
    assert forced.size().text_bytes > 1_000


def test_a_choice_that_nothing_can_fulfil_is_refused() -> None:
    request = ChatRequest(messages=[Message("user", "hi")])
    with pytest.raises(BadRequest):
        tools.offer(request, [], "required")
    with pytest.raises(BadRequest):
        tools.offer(request, [Tool("f")] * (tools.TOOLS_MAX + 1), "auto")
    formed = ChatRequest(messages=[], format=msgspec.Raw(b'"json"'))
    with pytest.raises(Unsupported):
        tools.offer(formed, [Tool("f")], "required")


@pytest.mark.parametrize("text", ["[1]", "1", "{", '"{}"', "null", "{} {}", "[" * 5_000])
def test_arguments_are_an_object(text: str) -> None:
    with pytest.raises(BadRequest):
        tools.arguments(text)


def test_arguments_keep_their_order_and_numbers() -> None:
    assert bytes(tools.arguments(' {"b": 1.50, "a": {"z": 12345678901234567890}} ')) == (
        b'{"b":1.50,"a":{"z": 12345678901234567890}}'
    )
    assert bytes(tools.arguments("")) == bytes(tools.arguments(" ")) == b"{}"


def forced() -> Forced:
    return Forced(openai_answer.Renderer("m", False, "id", 1), frozenset({"f"}))


def line(text: str = "", thinking: str = "", **more: Any) -> ollama.Reply:
    return ollama.read(msgspec.json.encode({"message": {"content": text, "thinking": thinking}} | more))


def deltas(data: bytes) -> list[Any]:
    frames = [frame.removeprefix("data: ") for frame in data.decode().split("\n\n") if frame]
    return [msgspec.json.decode(frame)["choices"][0] for frame in frames if frame != "[DONE]"]


def test_the_text_of_a_forced_answer_becomes_the_call() -> None:
    renderer, last = forced(), ollama.read(LAST)
    quiet = [renderer.feed(line(piece)) for piece in ('{"name":"f",', '"arguments":', '{"a":1}}')]
    assert quiet == [b"", b"", b""]
    call, end = deltas(renderer.last(last, last.counts()))
    (made,) = call["delta"]["tool_calls"]
    assert made["function"] == {"name": "f", "arguments": '{"a":1}'}
    assert (call["delta"]["content"], end["finish_reason"]) == (None, "tool_calls")


def test_thoughts_before_a_forced_call_are_shown_as_they_come() -> None:
    (thought,) = deltas(forced().feed(line(thinking="hm")))
    assert thought["delta"]["reasoning_content"] == "hm"


@pytest.mark.parametrize(
    "text",
    [
        '{"name":"g","arguments":{}}',
        '{"name":"f","argu',
        "sorry",
        "[]",
        '{"name":5,"arguments":{}}',
        '{"name":"f","arguments":"x"}',
    ],
)
def test_text_that_is_no_call_stays_text(text: str) -> None:
    reply = line(text, done=True, done_reason="length")
    choice = msgspec.json.decode(forced().whole(reply, reply.counts()))["choices"][0]
    assert choice["message"]["content"] == text
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "length"


def test_a_failure_within_a_forced_call_is_told_and_half_a_call_is_not() -> None:
    renderer = forced()
    renderer.feed(line('{"name":"f",'))
    assert renderer.error(Draining()) == openai_answer.Renderer("m", False, "id", 1).error(Draining())


def test_a_forced_call_keeps_the_frames_of_its_dialect() -> None:
    inner = partial(openai_answer.Renderer, "m", False)("id", 1)
    outer = Forced(inner, frozenset({"f"}))
    assert (outer.beat, outer.content_type) == (inner.beat, inner.content_type)


REFERRING = {
    "type": "object",
    "properties": {"to": {"$ref": "#/$defs/Place"}, "via": {"type": "array", "items": {"$ref": "#/definitions/Stop"}}},
    "$defs": {"Place": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Place"}}}},
    "definitions": {"Stop": {"type": "string"}},
}


def test_what_a_schema_refers_to_moves_to_the_root_with_it() -> None:
    """References begin at the root, and the tool's schema is no longer there."""
    tool = {"type": "function", "function": {"name": "go", "parameters": REFERRING}}
    form = sent(tools=[tool, WEATHER], tool_choice="required")["format"]
    arguments = form["anyOf"][0]["properties"]["arguments"]
    assert arguments["properties"]["to"] == {"$ref": "#/$defs/f0_Place"}
    assert arguments["properties"]["via"]["items"] == {"$ref": "#/$defs/f0_Stop"}
    assert "$defs" not in arguments
    assert form["$defs"]["f0_Place"]["properties"]["next"] == {"$ref": "#/$defs/f0_Place"}
    assert form["$defs"]["f0_Stop"] == {"type": "string"}


def test_a_schema_may_refer_to_itself_and_to_nothing_else() -> None:
    tree = {"type": "object", "properties": {"child": {"$ref": "#"}}}
    tool = {"type": "function", "function": {"name": "plant", "parameters": tree}}
    form = sent(tools=[tool], tool_choice="required")["format"]
    assert form["properties"]["arguments"] == {"$ref": "#/$defs/f0"}
    assert form["$defs"]["f0"]["properties"]["child"] == {"$ref": "#/$defs/f0"}
    tree["properties"]["child"] = {"$ref": "#/properties/other"}
    with pytest.raises(Unsupported):
        sent(tools=[tool], tool_choice="required")


def test_a_schema_that_says_nothing_is_an_object() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    assert sent(tools=[tool], tool_choice="required")["format"]["properties"]["arguments"] == {"type": "object"}
