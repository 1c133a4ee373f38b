"""OpenAI's chat API: each field of a request where the hub has it, each answer in OpenAI's form."""

from typing import Any

import msgspec
import pytest

from gateway.dialects import ollama, openai_errors
from gateway.dialects.asked import Asked
from gateway.dialects.openai_chat import MESSAGES_MAX, TOOLS_MAX, parse
from gateway.errors import BadRequest, CreditsExhausted, Draining, Unauthorized, every_error

USER = {"role": "user", "content": "hi"}
PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def asked_for(**fields: Any) -> Asked:
    return parse(msgspec.json.encode({"model": "m", "messages": [USER]} | fields))


def upstream(**fields: Any) -> Any:
    """What would be sent for a request with these fields, without what is always there."""
    body = msgspec.json.decode(
        asked_for(**fields).upstream.encode(model="m", stream=True, output_tokens_max=1, thinks=True)
    )
    del body["model"], body["stream"], body["options"]["num_predict"]
    if "messages" not in fields:
        del body["messages"]
    return body


OPTIONS = [
    ("temperature", 0.0, {"temperature": 0.0}),
    ("temperature", 2, {"temperature": 2.0}),
    ("top_p", 0.5, {"top_p": 0.5}),
    ("seed", 0, {"seed": 0}),
    ("presence_penalty", -1.5, {"presence_penalty": -1.5}),
    ("frequency_penalty", 1.5, {"frequency_penalty": 1.5}),
    ("stop", "a", {"stop": ["a"]}),
    ("stop", ["a", "b"], {"stop": ["a", "b"]}),
    ("stop", [], {"stop": []}),
]


@pytest.mark.parametrize(("name", "value", "options"), OPTIONS)
def test_sampling_goes_into_the_options(name: str, value: Any, options: Any) -> None:
    assert upstream(**{name: value}) == {"options": options}


TOP = [
    ("response_format", {"type": "json_object"}, {"format": "json"}),
    ("response_format", {"type": "text"}, {}),
    (
        "response_format",
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"b": 1}}},
        {"format": {"b": 1}},
    ),
    ("reasoning_effort", "none", {"think": False}),
    ("reasoning_effort", "minimal", {"think": "low"}),
    ("reasoning_effort", "low", {"think": "low"}),
    ("reasoning_effort", "medium", {"think": "medium"}),
    ("reasoning_effort", "high", {"think": "high"}),
    ("logprobs", True, {"logprobs": True}),
    ("logprobs", False, {}),
    ("top_logprobs", 3, {"top_logprobs": 3}),
    ("tools", [TOOL], {"tools": [TOOL]}),
    ("tools", [], {}),
]


@pytest.mark.parametrize(("name", "value", "found"), TOP)
def test_the_rest_goes_where_the_hub_has_it(name: str, value: Any, found: Any) -> None:
    assert upstream(**{name: value}) == {"options": {}} | found


EVERY = ["stream", "stream_options", "max_tokens", "max_completion_tokens", "tools", "n", "user"]
EVERY += [name for name, _, _ in OPTIONS + TOP]


def test_nothing_is_forced_when_absent_or_null() -> None:
    assert upstream() == upstream(**dict.fromkeys(EVERY)) == {"options": {}}
    plain = asked_for()
    assert (plain.streamed, plain.output_tokens_max, plain.end_user) == (False, None, "")


def test_tools_are_left_out_when_none_is_to_be_called() -> None:
    assert upstream(tools=[TOOL], tool_choice="none") == {"options": {}}
    for choice in ("auto", "required", {"type": "function", "function": {"name": "f"}}):
        assert upstream(tools=[TOOL], tool_choice=choice)["tools"] == [TOOL]


def test_fields_that_ollama_has_no_use_for_are_passed_over() -> None:
    assert upstream(store=True, metadata={}, logit_bias=None, keep_alive=-1, options={"num_ctx": 9}) == {"options": {}}


@pytest.mark.parametrize(
    ("fields", "cap"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": None}, 5),
    ],
)
def test_either_name_of_the_output_cap_counts(fields: dict[str, Any], cap: int) -> None:
    assert asked_for(**fields).output_tokens_max == cap


def test_streaming_usage_and_the_end_user_are_noted() -> None:
    found = asked_for(stream=True, stream_options={"include_usage": True}, user="me")
    assert (found.streamed, found.end_user) == (True, "me")


def message_of(**message: Any) -> Any:
    (found,) = upstream(messages=[message])["messages"]
    return found


CALLED = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
MESSAGES = [
    ({"role": "system", "content": "s"}, {"role": "system", "content": "s"}),
    ({"role": "developer", "content": "s"}, {"role": "system", "content": "s"}),
    ({"role": "assistant", "content": None}, {"role": "assistant"}),
    ({"role": "assistant"}, {"role": "assistant"}),
    ({"role": "user", "content": []}, {"role": "user"}),
    ({"role": "user", "content": "a", "name": "bob"}, {"role": "user", "content": "a"}),
    ({"role": "assistant", "reasoning_content": "r"}, {"role": "assistant", "thinking": "r"}),
    ({"role": "assistant", "reasoning": "r"}, {"role": "assistant", "thinking": "r"}),
    (
        {"role": "assistant", "content": None, "tool_calls": [CALLED]},
        {"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {"a": 1}}}]},
    ),
    (
        {"role": "tool", "content": "r", "name": "f", "tool_call_id": "c1"},
        {"role": "tool", "content": "r", "tool_name": "f", "tool_call_id": "c1"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("message", "found"), MESSAGES)
def test_each_message_becomes_one_of_the_hubs(message: Any, found: Any) -> None:
    assert message_of(**message) == found


def test_content_parts_stay_one_message() -> None:
    """Ollama's own layer makes a message of each part, which changes what the model sees."""
    parts = [{"type": "text", "text": "a"}, PNG, {"type": "text", "text": "b"}]
    assert message_of(role="user", content=parts) == {"role": "user", "content": "a\nb", "images": ["AAAA"]}
    prompt = asked_for(messages=[{"role": "user", "content": parts}, USER]).upstream.size()
    assert (prompt.images, prompt.messages) == (1, 2)


@pytest.mark.parametrize("arguments", ["", " ", "{}"])
def test_a_call_without_arguments_has_none(arguments: str) -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": arguments}}
    (made,) = message_of(role="assistant", tool_calls=[call])["tool_calls"]
    assert made["function"].get("arguments", {}) == {}


def called(arguments: str) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": arguments}}]}


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


BAD: dict[str, dict[str, Any]] = {
    "no model": {"model": None},
    "no messages": {"messages": []},
    "too many messages": {"messages": [USER] * (MESSAGES_MAX + 1)},
    "too many tools": {"tools": [TOOL] * (TOOLS_MAX + 1)},
    "unknown role": {"messages": [{"role": "wizard", "content": "x"}]},
    "number as content": {"messages": [{"role": "user", "content": 5}]},
    "audio": {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
    "image without its url": {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
    "image elsewhere": {"messages": [{"role": "user", "content": [image("http://169.254.169.254/")]}]},
    "image in a file": {"messages": [{"role": "user", "content": [image("file:///etc/passwd")]}]},
    "arguments no object": {"messages": [called("[1]")]},
    "arguments no JSON": {"messages": [called("{")]},
    "two answers": {"n": 2},
    "no tokens": {"max_tokens": 0},
    "fraction of a token": {"max_completion_tokens": 1.5},
    "hot": {"temperature": "hot"},
    "effort": {"reasoning_effort": "extreme"},
    "format": {"response_format": {"type": "xml"}},
    "schema is missing": {"response_format": {"type": "json_schema"}},
    "schema is missing within": {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
    "stream": {"stream": "yes"},
    "logprobs": {"top_logprobs": 21},
}  # fmt: skip


@pytest.mark.parametrize("fields", BAD.values(), ids=BAD)
def test_what_cannot_be_meant_is_refused_before_anything_is_charged(fields: dict[str, Any]) -> None:
    with pytest.raises((BadRequest, msgspec.ValidationError)):
        asked_for(**fields)


def events(data: bytes) -> list[Any]:
    """The frames as objects; [DONE] as it is."""
    frames = [frame.removeprefix("data: ") for frame in data.decode().split("\n\n") if frame]
    return [frame if frame == "[DONE]" else msgspec.json.decode(frame) for frame in frames]


def stream(*lines: bytes, **fields: Any) -> list[Any]:
    renderer, out = asked_for(stream=True, **fields).renderer("019a-b", 1700), b""
    for line in lines:
        reply = ollama.read(line)
        out += renderer.last(reply, reply.counts()) if reply.done else renderer.feed(reply)
    return events(out)


LAST = b'{"message":{"content":""},"done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":2}'


def test_a_stream_is_deltas_a_reason_and_done() -> None:
    first, second, end, done = stream(b'{"message":{"content":"a"}}', b'{"message":{"content":"b"}}', LAST)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "a"}
    assert second["choices"][0]["delta"] == {"content": "b"}
    assert (end["choices"][0]["delta"], end["choices"][0]["finish_reason"]) == ({}, "stop")
    assert done == "[DONE]"
    assert {one["id"] for one in (first, second, end)} == {"chatcmpl-019ab"}
    assert all("usage" not in one and one["created"] == 1700 for one in (first, second, end))


def test_usage_comes_in_a_frame_of_its_own_when_asked_for() -> None:
    *_, usage, done = stream(b'{"message":{"content":"a"}}', LAST, stream_options={"include_usage": True})
    assert (usage["choices"], done) == ([], "[DONE]")
    assert usage["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def test_an_empty_answer_still_has_its_role() -> None:
    first, end, _ = stream(LAST)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert end["choices"][0]["finish_reason"] == "stop"


CALLS = (
    b'{"message":{"tool_calls":[{"id":"x","function":{"name":"f","arguments":{"b":1,"a":2}}},'
    b'{"id":"x","function":{"name":"g"}}]}}'
)


def test_tool_calls_have_their_own_ids_their_order_and_their_arguments_as_text() -> None:
    first, end, _ = stream(CALLS, LAST)
    one, two = first["choices"][0]["delta"]["tool_calls"]
    assert (one["index"], two["index"], one["function"]["name"], two["function"]["name"]) == (0, 1, "f", "g")
    assert (one["function"]["arguments"], two["function"]["arguments"]) == ('{"b":1,"a":2}', "{}")
    assert len({one["id"], two["id"], "x"}) == 3
    assert end["choices"][0]["finish_reason"] == "tool_calls"


def test_tool_calls_in_the_last_line_are_not_lost() -> None:
    last = CALLS[:-1] + b',"done":true,"done_reason":"stop"}'
    first, end, _ = stream(last)
    assert len(first["choices"][0]["delta"]["tool_calls"]) == 2
    assert end["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(("reason", "told"), [("stop", "stop"), ("length", "length"), ("", "stop"), ("load", "stop")])
def test_the_finish_reason_is_one_that_openai_has(reason: str, told: str) -> None:
    line = msgspec.json.encode({"message": {"content": "a"}, "done": True, "done_reason": reason})
    assert stream(line)[-2]["choices"][0]["finish_reason"] == told


def test_thoughts_go_under_both_names_that_clients_read() -> None:
    first, *_ = stream(b'{"message":{"content":"","thinking":"hm"}}', LAST)
    delta = first["choices"][0]["delta"]
    assert (delta["reasoning_content"], delta["reasoning"], delta["content"]) == ("hm", "hm", "")


def whole(line: bytes) -> Any:
    reply = ollama.read(line)
    return msgspec.json.decode(asked_for().renderer("id", 1).whole(reply, reply.counts()))


def test_a_whole_answer_is_one_object() -> None:
    body = whole(LAST.replace(b'"content":""', b'"content":"ab","thinking":"hm"'))
    (choice,) = body["choices"]
    assert (body["object"], choice["finish_reason"]) == ("chat.completion", "stop")
    assert choice["message"] == {
        "role": "assistant",
        "content": "ab",
        "refusal": None,
        "reasoning_content": "hm",
        "reasoning": "hm",
    }
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def test_a_whole_answer_of_tool_calls_has_no_text() -> None:
    message = whole(CALLS[:-1] + b',"done":true}')["choices"][0]["message"]
    assert message["content"] is None
    assert [sorted(one) for one in message["tool_calls"]] == [["function", "id", "type"]] * 2


def test_a_failure_in_the_stream_is_a_frame_and_no_done() -> None:
    (frame,) = events(asked_for().renderer("id", 1).error(Draining()))
    assert frame["error"]["code"] == "draining"


@pytest.mark.parametrize("kind", list(every_error()), ids=lambda kind: kind.__name__)
def test_every_error_has_openais_form(kind: Any) -> None:
    status, body = openai_errors.render(kind(), "id")
    error = msgspec.json.decode(body)["error"]
    assert (status, error["code"], error["param"]) == (kind.status, kind.code, None)
    assert error["message"]
    assert error["type"].endswith("_error") or error["type"] == "insufficient_quota"


@pytest.mark.parametrize(
    ("error", "kind"), [(Unauthorized(), "authentication_error"), (CreditsExhausted(), "insufficient_quota")]
)
def test_types_are_those_that_openais_client_knows(error: Any, kind: str) -> None:
    assert msgspec.json.decode(openai_errors.body(error))["error"]["type"] == kind
