"""OpenAI's chat API: each field of a request where the hub has it, each answer in OpenAI's form."""

from typing import Any

import msgspec
import pytest

from gateway.dialects import ollama
from gateway.dialects.asked import Asked, Dialect
from gateway.dialects.openai import errors as openai_errors
from gateway.dialects.openai.chat import parse
from gateway.dialects.policy import MESSAGES_MAX, STOPS_MAX
from gateway.dialects.tools import TOOLS_MAX
from gateway.errors import (
    BadRequest,
    CreditsExhausted,
    Draining,
    GatewayError,
    StreamBroken,
    Unauthorized,
    Unsupported,
    every_error,
)
from gateway.web.body import decoded

CHAT = Dialect("openai", parse, openai_errors.render)
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
    ("stop", [], {}),
    ("stop", ["", "a"], {"stop": ["a"]}),
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
    ("reasoning_effort", "xhigh", {"think": "max"}),
    ("reasoning_effort", "ultra", {"think": "max"}),
    ("reasoning_effort", "max", {"think": "max"}),
    ("reasoning", {"effort": "low"}, {"think": "low"}),
    ("reasoning", {}, {}),
    ("logprobs", True, {"logprobs": True}),
    ("logprobs", False, {}),
    ("top_logprobs", 0, {}),
    ("tools", [TOOL], {"tools": [TOOL]}),
    ("tools", [], {}),
    ("tool_choice", "auto", {}),
    ("parallel_tool_calls", False, {}),
    ("keep_alive", "5m", {"keep_alive": 300.0}),
    ("keep_alive", -1, {"keep_alive": -1.0}),
    ("think", True, {"think": True}),
    ("think", "high", {"think": "high"}),
    ("truncate", False, {"truncate": False}),
    ("options", {"num_ctx": 8192, "top_k": 5, "num_gpu": 1}, {"options": {"num_ctx": 8192, "top_k": 5}}),
]


@pytest.mark.parametrize(("name", "value", "found"), TOP)
def test_the_rest_goes_where_the_hub_has_it(name: str, value: Any, found: Any) -> None:
    assert upstream(**{name: value}) == {"options": {}} | found


EVERY = ["stream", "stream_options", "max_tokens", "max_completion_tokens", "tools", "n", "user", "safety_identifier"]
EVERY += ["logit_bias", "modalities", "audio", "web_search_options", "moderation", "functions", "function_call"]
EVERY += [name for name, _, _ in OPTIONS + TOP]


def test_nothing_is_forced_when_absent_or_null() -> None:
    assert upstream() == upstream(**dict.fromkeys(EVERY)) == {"options": {}}
    plain = asked_for()
    assert (plain.streamed, plain.output_tokens_max, plain.end_user) == (False, None, "")


def test_top_logprobs_come_with_logprobs() -> None:
    assert upstream(logprobs=True, top_logprobs=3) == {"options": {}, "logprobs": True, "top_logprobs": 3}


def test_an_effort_is_for_models_that_think_and_a_wish_of_ollamas_own_for_all() -> None:
    asked = asked_for(reasoning_effort="high").upstream
    assert b"think" not in asked.encode(model="m", stream=True, output_tokens_max=1, thinks=False)
    asked = asked_for(reasoning_effort="low", think="high").upstream
    assert b'"think":"high"' in asked.encode(model="m", stream=True, output_tokens_max=1, thinks=False)


def test_the_requests_own_fields_come_before_the_options() -> None:
    found = upstream(temperature=0.5, options={"temperature": 1, "top_k": 3, "stop": ["b"]}, stop="a")
    assert found == {"options": {"temperature": 0.5, "top_k": 3, "stop": ["a"]}}


def test_fields_that_ollama_has_no_use_for_are_passed_over() -> None:
    ignored = {
        "store": True,
        "metadata": {"a": "b"},
        "service_tier": "flex",
        "verbosity": "low",
        "prompt_cache_key": "k",
    }
    assert upstream(**ignored, logit_bias={}, functions=[], modalities=["text"], n=1) == {"options": {}}


@pytest.mark.parametrize(
    ("fields", "cap"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": None}, 5),
        ({"max_tokens": 5, "options": {"num_predict": 7}}, 5),
        ({"options": {"num_predict": 7}}, 7),
        ({"options": {"num_predict": -1}}, None),
    ],
)
def test_either_name_of_the_output_cap_counts(fields: dict[str, Any], cap: int | None) -> None:
    assert asked_for(**fields).output_tokens_max == cap


def test_streaming_usage_and_the_end_user_are_noted() -> None:
    found = asked_for(stream=True, stream_options={"include_usage": True}, user="me")
    assert (found.streamed, found.end_user) == (True, "me")
    assert asked_for(safety_identifier="hashed").end_user == "hashed"
    assert asked_for(safety_identifier="hashed", user="me").end_user == "me"


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
    ({"role": "assistant", "refusal": "no"}, {"role": "assistant", "content": "no"}),
    (
        {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "no"}]},
        {"role": "assistant", "content": "a\nno"},
    ),
    (
        {"role": "user", "content": [{"type": "image_url", "image_url": "data:image/WebP;base64,BBBB"}]},
        {"role": "user", "images": ["BBBB"]},
    ),
    (
        {"role": "tool", "content": [{"type": "text", "text": "r"}], "tool_call_id": "c1"},
        {"role": "tool", "content": "r", "tool_call_id": "c1"},
    ),
    (
        {"role": "tool", "content": "r", "name": "f", "tool_call_id": "c1"},
        {"role": "tool", "content": "r", "tool_name": "f", "tool_call_id": "c1"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("message", "found"), MESSAGES)
def test_each_message_becomes_one_of_the_hubs(message: Any, found: Any) -> None:
    assert message_of(**message) == found


def test_a_tools_answer_is_given_its_tools_name() -> None:
    """Templates know it by name, clients of OpenAI by the id of the call."""
    given = [{"role": "assistant", "tool_calls": [CALLED]}, {"role": "tool", "content": "r", "tool_call_id": "c1"}]
    assert upstream(messages=given)["messages"][1]["tool_name"] == "f"


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


def message(**fields: Any) -> dict[str, Any]:
    return {"messages": [fields]}


def part(**fields: Any) -> dict[str, Any]:
    return message(role="user", content=[fields])


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"model": None}, "model"),
    "no messages": ({"messages": []}, "messages"),
    "too many messages": ({"messages": [USER] * (MESSAGES_MAX + 1)}, "messages"),
    "too many tools": ({"tools": [TOOL] * (TOOLS_MAX + 1)}, "tools"),
    "too many stops": ({"stop": ["a"] * (STOPS_MAX + 1)}, "stop"),
    "unknown role": (message(role="wizard", content="x"), "messages"),
    "number as content": (message(role="user", content=5), "messages"),
    "image without its url": (part(type="image_url"), "messages"),
    "image elsewhere": (message(role="user", content=[image("http://169.254.169.254/")]), "messages"),
    "image in a file": (message(role="user", content=[image("file:///etc/passwd")]), "messages"),
    "image that is none": (message(role="user", content=[image("data:image/svg+xml;base64,AAAA")]), "messages"),
    "arguments no object": ({"messages": [called("[1]")]}, "messages"),
    "arguments no JSON": ({"messages": [called("{")]}, "messages"),
    "no tokens": ({"max_tokens": 0}, "max_tokens"),
    "fraction of a token": ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
    "hot": ({"temperature": "hot"}, "temperature"),
    "effort": ({"reasoning_effort": "extreme"}, "reasoning_effort"),
    "thinking": ({"think": "a lot"}, "think"),
    "keep_alive": ({"keep_alive": "soon"}, "keep_alive"),
    "num_ctx": ({"options": {"num_ctx": "big"}}, "options"),
    "format": ({"response_format": {"type": "xml"}}, "response_format"),
    "schema is missing": ({"response_format": {"type": "json_schema"}}, "response_format"),
    "schema is missing within": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format",
    ),
    "schema is a list": (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": [1]}}}, "response_format",
    ),
    "stream": ({"stream": "yes"}, "stream"),
    "logprobs": ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    "alternatives of nothing": ({"top_logprobs": 2}, "top_logprobs"),
    "tool without a function": ({"tools": [{"type": "function"}]}, "tools"),
    "tool without a name": ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools"),
    "parameters no schema": ({"tools": [{"function": {"name": "f", "parameters": "x"}}]}, "tools"),
    "choice of nothing": ({"tool_choice": "required"}, "tool_choice"),
    "choice of a word": ({"tools": [TOOL], "tool_choice": "f"}, "tool_choice"),
    "choice that is not offered": (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice",
    ),
    "none allowed": (
        {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}},
        "tool_choice",
    ),
}  # fmt: skip


def refusal(fields: dict[str, Any]) -> GatewayError:
    """What a client gets for these fields."""
    with pytest.raises(BadRequest) as refused:
        decoded(msgspec.json.encode({"model": "m", "messages": [USER]} | fields), CHAT.parse)
    return refused.value


@pytest.mark.parametrize(("fields", "param"), BAD.values(), ids=BAD)
def test_what_cannot_be_meant_is_refused_before_anything_is_charged(fields: dict[str, Any], param: str) -> None:
    error = refusal(fields)
    assert (error.param, error.code) == (param, "invalid_request")


CUSTOM = {"type": "custom", "custom": {"name": "f"}}
UNSUPPORTED: dict[str, tuple[dict[str, Any], str]] = {
    "two answers": ({"n": 2}, "n"),
    "no answer": ({"n": 0}, "n"),
    "weights": ({"logit_bias": {"50256": -100}}, "logit_bias"),
    "a voice": ({"modalities": ["text", "audio"]}, "modalities"),
    "which voice": ({"audio": {"voice": "ash", "format": "mp3"}}, "audio"),
    "the web": ({"web_search_options": {}}, "web_search_options"),
    "moderation": ({"moderation": {"model": "m"}}, "moderation"),
    "functions": ({"functions": [{"name": "f"}]}, "functions"),
    "function_call": ({"function_call": "auto"}, "function_call"),
    "audio heard": (part(type="input_audio", input_audio={}), "messages"),
    "a file": (part(type="file", file={}), "messages"),
    "audio said before": (message(role="assistant", audio={"id": "a"}), "messages"),
    "a function's answer": (message(role="function", name="f", content="r"), "messages"),
    "a function called": (message(role="assistant", function_call={"name": "f"}), "messages"),
    "a custom tool called": (message(role="assistant", tool_calls=[{"id": "c"} | CUSTOM]), "messages"),
    "a custom tool": ({"tools": [CUSTOM]}, "tools"),
    "a custom tool chosen": ({"tools": [TOOL], "tool_choice": CUSTOM}, "tool_choice"),
    "both forms": (
        {"tools": [TOOL], "tool_choice": "required", "response_format": {"type": "json_object"}}, "tool_choice",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "param"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_what_ollama_cannot_do_is_refused_rather_than_left_out(fields: dict[str, Any], param: str) -> None:
    error = refusal(fields)
    assert isinstance(error, Unsupported)
    assert (error.param, error.code) == (param, "unsupported")


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


USAGE = {
    "prompt_tokens": 3,
    "completion_tokens": 2,
    "total_tokens": 5,
    "completion_tokens_details": {"reasoning_tokens": 0},
}
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
    assert usage["usage"] == USAGE


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
    assert first["choices"][0]["delta"]["content"] is None
    assert end["choices"][0]["finish_reason"] == "tool_calls"


def test_calls_in_several_lines_are_counted_on() -> None:
    one, two, *_ = stream(CALLS, CALLS, LAST)
    calls = one["choices"][0]["delta"]["tool_calls"] + two["choices"][0]["delta"]["tool_calls"]
    assert [call["index"] for call in calls] == [0, 1, 2, 3]
    assert len({call["id"] for call in calls}) == 4


def test_without_parallel_calls_only_the_first_is_given() -> None:
    one, two, end, _ = stream(CALLS, CALLS, LAST, parallel_tool_calls=False)
    assert [call["function"]["name"] for call in one["choices"][0]["delta"]["tool_calls"]] == ["f"]
    assert "tool_calls" not in two["choices"][0]["delta"]
    assert end["choices"][0]["finish_reason"] == "tool_calls"
    (call,) = whole(CALLS[:-1] + b',"done":true}', parallel_tool_calls=False)["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "f"


def test_text_is_kept_beside_tool_calls() -> None:
    line = CALLS.replace(b'"message":{', b'"message":{"content":"let me see",')
    assert stream(line, LAST)[0]["choices"][0]["delta"]["content"] == "let me see"
    assert whole(line[:-1] + b',"done":true}')["choices"][0]["message"]["content"] == "let me see"


def test_an_answer_cut_within_its_calls_is_cut() -> None:
    assert stream(CALLS, LAST.replace(b"stop", b"length"))[-2]["choices"][0]["finish_reason"] == "length"


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


def test_thoughts_are_counted_where_they_come_one_by_one() -> None:
    thought = b'{"message":{"content":"","thinking":"hm"}}'
    *_, frame, _ = stream(thought, LAST, stream_options={"include_usage": True})
    assert frame["usage"]["completion_tokens_details"] == {"reasoning_tokens": 1}
    *_, frame, _ = stream(thought, thought, thought, LAST, stream_options={"include_usage": True})
    assert frame["usage"]["completion_tokens_details"] == {"reasoning_tokens": 2}  # never more than there were in all


LIKELY = b'{"token":"a","logprob":-0.1,"top_logprobs":[{"token":"a","logprob":-0.1},{"token":"\xc3\xa9","logprob":-2}]}'


def test_log_probabilities_have_every_field_of_openais_type() -> None:
    line = b'{"message":{"content":"a"},"logprobs":[' + LIKELY + b"]"
    (entry,) = stream(line + b"}", LAST, logprobs=True)[0]["choices"][0]["logprobs"]["content"]
    assert entry == {
        "token": "a",
        "logprob": -0.1,
        "bytes": [97],
        "top_logprobs": [
            {"token": "a", "logprob": -0.1, "bytes": [97]},
            {"token": "é", "logprob": -2, "bytes": [195, 169]},
        ],
    }
    assert whole(line + b',"done":true}')["choices"][0]["logprobs"] == {"content": [entry], "refusal": None}


def test_log_probabilities_without_text_are_not_lost() -> None:
    first, *_ = stream(b'{"message":{"content":""},"logprobs":[' + LIKELY + b"]}", LAST)
    assert first["choices"][0]["logprobs"]["content"][0]["token"] == "a"
    assert first["choices"][0]["delta"]["content"] == ""


@pytest.mark.parametrize("odd", [b'"x"', b"[1]", b'[{"token":1}]', b"[{}]"])
def test_log_probabilities_that_are_none_are_a_broken_answer(odd: bytes) -> None:
    with pytest.raises(StreamBroken):
        stream(b'{"message":{"content":"a"},"logprobs":' + odd + b"}")


def whole(line: bytes, **fields: Any) -> Any:
    reply = ollama.read(line)
    return msgspec.json.decode(asked_for(**fields).renderer("id", 1).whole(reply, reply.counts()))


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


def test_that_nothing_was_thought_is_known_of_a_whole_answer_too() -> None:
    assert whole(LAST)["usage"] == USAGE


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
