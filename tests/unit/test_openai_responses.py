"""OpenAI's Responses API: each field of a request where the hub has it, or a clear refusal."""

from typing import Any

import msgspec
import pytest
from openai.types.responses import Response

from gateway.core.tally import Counts
from gateway.dialects.asked import Asked
from gateway.dialects.ollama import ChatRequest, Message, Reply
from gateway.dialects.openai.responses import parse
from gateway.dialects.openai.responses_echo import ECHO_BYTES_MAX
from gateway.dialects.openai.responses_request import ENCRYPTED, LOGPROBS
from gateway.errors import BadRequest, Unsupported
from tests.fields.responses import SURFACE

PNG = "data:image/png;base64,AAAA"
TOOL = {"type": "function", "name": "f", "description": "F.", "parameters": {"type": "object", "minProperties": 1}}
OTHER = {"type": "function", "name": "auto", "strict": True}
HUB_TOOL = {"name": "f", "description": "F.", "parameters": TOOL["parameters"]}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": '{"a": 1}', "status": "x"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "42"}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]}
ANSWER = {
    "type": "message",
    "role": "assistant",
    "id": "msg_1",
    "status": "completed",
    "content": [{"type": "output_text", "text": "So", "annotations": []}],
}


def asked_for(**fields: Any) -> Asked:
    return parse(msgspec.json.encode({"model": "m", "input": "hi"} | fields))


def upstream(**fields: Any) -> Any:
    """What would be sent for a request with these fields, without what is always there."""
    body = msgspec.json.decode(
        asked_for(**fields).upstream.encode(model="m", stream=True, output_tokens_max=1, thinks=True)
    )
    del body["model"], body["stream"], body["options"]["num_predict"]
    if not {"input", "instructions"} & set(fields):
        del body["messages"]
    return body


def conversation(*items: Any, **fields: Any) -> Any:
    return upstream(input=list(items), **fields)["messages"]


def answer(asked: Asked) -> Any:
    """What the client gets for a short answer."""
    reply = Reply(model="m", done=True, done_reason="stop", message=Message(content="Yes", thinking="hm"))
    body = asked.renderer("0190-aa", 1_700_000_000).whole(reply, Counts(completion_tokens=2))
    Response.model_validate_json(body)
    return msgspec.json.decode(body)


PLACES = [
    ("temperature", 0, {"options": {"temperature": 0.0}}),
    ("top_p", 0.5, {"options": {"top_p": 0.5}}),
    ("options", {"seed": 1, "top_k": 3}, {"options": {"seed": 1, "top_k": 3}}),
    ("keep_alive", "5m", {"keep_alive": 300.0}),
    ("think", "max", {"think": "max"}),
    ("truncate", False, {"truncate": False}),
    ("truncation", "auto", {"truncate": True}),
    ("truncation", "disabled", {"truncate": False}),
    ("reasoning", {"effort": "none"}, {"think": False}),
    ("reasoning", {"effort": "minimal"}, {"think": "low"}),
    ("reasoning", {"effort": "medium", "summary": "auto"}, {"think": "medium"}),
    ("reasoning", {"effort": "xhigh", "mode": "standard"}, {"think": "max"}),
    ("reasoning", {"summary": "detailed"}, {}),
    ("text", {"format": {"type": "text"}, "verbosity": "low"}, {}),
    ("text", {"format": {"type": "json_object"}}, {"format": "json"}),
    ("text", {"format": {"type": "json_schema", "name": "x", "schema": {"oneOf": []}}}, {"format": {"oneOf": []}}),
    ("include", [LOGPROBS], {"logprobs": True}),
    ("include", [ENCRYPTED, "message.input_image.image_url"], {}),
    ("top_logprobs", 3, {}),
    ("tools", [], {}),
    ("tools", [TOOL], {"tools": [{"type": "function", "function": HUB_TOOL}]}),
]


@pytest.mark.parametrize(("name", "value", "found"), PLACES)
def test_each_field_goes_where_the_hub_has_it(name: str, value: Any, found: Any) -> None:
    assert upstream(**{name: value}) == {"options": {}} | found


@pytest.mark.parametrize("name", sorted(SURFACE.known - {"input"}))
def test_null_is_the_same_as_nothing(name: str) -> None:
    assert asked_for(**{name: None}).upstream == asked_for().upstream


def test_what_is_asked_beside_the_prompt() -> None:
    asked = asked_for(stream=True, max_output_tokens=7, user="u", model=None)
    assert (asked.streamed, asked.output_tokens_max, asked.end_user, asked.model) == (True, 7, "u", "")
    assert asked_for(user="u", safety_identifier="s").end_user == "s"
    assert asked_for(options={"num_predict": 9}).output_tokens_max == 9
    assert asked_for(truncation="auto", truncate=False).upstream == asked_for(truncate=False).upstream
    assert upstream(include=[LOGPROBS], top_logprobs=3) == {"options": {}, "logprobs": True, "top_logprobs": 3}


def test_text_is_a_message_of_the_user_and_instructions_come_first() -> None:
    user = {"role": "user", "content": "hi"}
    assert upstream(input="hi")["messages"] == [user]
    assert upstream(instructions="Be brief.")["messages"] == [{"role": "system", "content": "Be brief."}, user]
    system = {"role": "developer", "content": "Be kind."}
    assert conversation(system, user, system, instructions="Be brief.") == [
        {"role": "system", "content": "Be brief.\n\nBe kind."},
        user,
        {"role": "system", "content": "Be kind."},
    ]


def test_items_of_an_assistant_that_follow_each_other_are_one_message() -> None:
    called = {"function": {"name": "f", "arguments": {"a": 1}}, "id": "c1"}
    output = {"role": "tool", "content": "42", "tool_name": "f", "tool_call_id": "c1"}
    other = CALL | {"call_id": "c2", "name": "g", "arguments": ""}
    user = {"role": "user", "content": "hi"}
    assert conversation(user, REASONING, ANSWER, CALL, other, OUTPUT, OUTPUT | {"call_id": "c2"}, ANSWER) == [
        user,
        {
            "role": "assistant",
            "content": "So",
            "thinking": "hm",
            "tool_calls": [called, {"function": {"name": "g", "arguments": {}}, "id": "c2"}],
        },
        output,
        output | {"tool_name": "g", "tool_call_id": "c2"},
        {"role": "assistant", "content": "So"},
    ]
    assert conversation(ANSWER, REASONING, ANSWER) == [{"role": "assistant", "content": "So\nSo", "thinking": "hm"}]
    assert conversation(CALL, OUTPUT, CALL | {"call_id": "c3"})[2]["tool_calls"][0]["id"] == "c3"


def test_parts_become_one_text_and_its_images() -> None:
    parts = [
        {"type": "input_text", "text": "What"},
        {"type": "input_image", "image_url": PNG, "detail": "auto"},
        {"type": "input_text", "text": "is this?"},
    ]
    assert conversation({"role": "user", "content": parts}) == [
        {"role": "user", "content": "What\nis this?", "images": ["AAAA"]}
    ]
    refusal = ANSWER | {"content": [{"type": "refusal", "refusal": "No."}]}
    assert conversation(refusal) == [{"role": "assistant", "content": "No."}]
    assert conversation(CALL, OUTPUT | {"output": parts})[1] | {"tool_name": "", "tool_call_id": ""} == {
        "role": "tool",
        "content": "What\nis this?",
        "images": ["AAAA"],
        "tool_name": "",
        "tool_call_id": "",
    }


def test_a_thought_is_its_content_or_else_its_summary_and_never_its_cipher() -> None:
    full = REASONING | {"content": [{"type": "reasoning_text", "text": "all of it"}]}
    assert conversation(full, ANSWER)[0]["thinking"] == "all of it"
    cipher = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "xyz"}
    assert conversation(cipher, ANSWER) == [{"role": "assistant", "content": "So"}]


CHOICES = [
    ("auto", ["f", "auto"], None),
    ("none", [], None),
    ("required", [], ["f", "auto"]),
    ({"type": "function", "name": "auto"}, [], ["auto"]),
    ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}, ["f"], None),
    ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]}, [], ["f"]),
    ({"type": "allowed_tools", "mode": "auto", "tools": []}, [], None),
]


@pytest.mark.parametrize(("choice", "offered", "forced"), CHOICES)
def test_a_choice_of_tools_leaves_offers_or_forces_them(choice: Any, offered: Any, forced: Any) -> None:
    """Also a function that is called like one of the words a choice may be."""
    found = upstream(tools=[TOOL, OTHER], tool_choice=choice)
    assert [tool["function"]["name"] for tool in found.get("tools", [])] == offered
    form = found.get("format")
    forms = form and form.get("anyOf", [form])
    assert (forms and [one["properties"]["name"]["enum"][0] for one in forms]) == forced


REFUSED: list[tuple[dict[str, Any], type[BadRequest], str]] = [
    ({"input": None}, BadRequest, "input"),
    ({"input": [CALL, OUTPUT | {"call_id": "c2"}]}, BadRequest, "input"),
    ({"input": [OUTPUT]}, BadRequest, "input"),
    ({"input": [{"type": "reasoning", "summary": []}]}, BadRequest, "input"),
    ({"input": [CALL | {"arguments": "[1]"}]}, BadRequest, "input"),
    ({"input": [CALL | {"arguments": {}}]}, BadRequest, "input"),
    ({"input": [{"role": "tool", "content": "x"}]}, BadRequest, "input"),
    ({"input": [{"role": "user"}]}, BadRequest, "input"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, Unsupported, "input"),
    ({"input": [{"id": "msg_1"}]}, Unsupported, "input"),
    ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, Unsupported, "input"),
    ({"input": [{"type": ["message"], "role": "user", "content": "x"}]}, Unsupported, "input"),
    ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, Unsupported, "input"),
    ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, Unsupported, "input"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, Unsupported, "input"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://x/y.png"}]}]},
        BadRequest,
        "input",
    ),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, BadRequest, "text"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, BadRequest, "tools"),
    ({"tools": [{"type": "function", "name": "f" * 129}]}, BadRequest, "tools"),
    *(
        ({"tools": [TOOL, {"type": kind}]}, Unsupported, "tools")
        for kind in ("web_search", "web_search_preview", "file_search", "computer", "mcp", "code_interpreter",
                     "image_generation", "custom", "local_shell", "namespace", None)
    ),
    ({"tools": [TOOL], "tool_choice": {"type": "mcp", "server_label": "x"}}, Unsupported, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "g"}}, BadRequest, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "function"}}, BadRequest, "tool_choice"),
    ({"tool_choice": "required"}, BadRequest, "tool_choice"),
    (
        {"tools": [TOOL], "tool_choice": "required", "text": {"format": {"type": "json_object"}}},
        Unsupported,
        "tool_choice",
    ),
    ({"previous_response_id": "resp_1"}, Unsupported, "previous_response_id"),
    ({"conversation": {"id": "conv_1"}}, Unsupported, "conversation"),
    ({"prompt": {"id": "pmpt_1"}}, Unsupported, "prompt"),
    ({"background": True}, Unsupported, "background"),
    ({"context_management": [{"type": "compaction"}]}, Unsupported, "context_management"),
    ({"moderation": {"model": "x"}}, Unsupported, "moderation"),
    ({"reasoning": {"mode": "pro"}}, Unsupported, "reasoning"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "kind", "param"), REFUSED)
def test_what_cannot_be_done_is_refused_and_named(fields: Any, kind: type[BadRequest], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        asked_for(**fields)
    assert type(refused.value) is kind
    assert refused.value.param == param


INVALID = [
    {"input": []},
    {"input": 5},
    {"input": ["hi"]},
    {"include": ["everything"]},
    {"max_output_tokens": 0},
    {"temperature": 2.1},
    {"top_p": -0.1},
    {"top_logprobs": 21},
    {"truncation": "some"},
    {"tool_choice": "any"},
    {"reasoning": {"effort": "huge"}},
    {"text": {"format": {"type": "xml"}}},
    {"text": {"format": {"type": "json_schema", "schema": True}}},
    {"metadata": {"a": 1}},
    {"metadata": {"a" * 65: ""}},
    {"metadata": {"a": "b" * 513}},
    {"metadata": {str(number): "" for number in range(17)}},
    {"tools": [TOOL] * 129},
]


@pytest.mark.parametrize("fields", INVALID)
def test_what_cannot_be_meant_is_refused(fields: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        asked_for(**fields)


def test_the_answer_repeats_the_request_as_it_was_understood() -> None:
    given: dict[str, Any] = {
        "instructions": "Be brief.",
        "metadata": {"a": "b"},
        "max_output_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.25,
        "parallel_tool_calls": False,
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
        "truncation": "disabled",
        "reasoning": {"effort": "low", "summary": "auto"},
        "user": "u",
    }
    shown = answer(asked_for(tools=[TOOL], store=True, **given))
    assert {name: shown[name] for name in given} == given
    assert shown["tools"] == [TOOL | {"strict": None}]
    assert (shown["store"], shown["background"], shown["previous_response_id"]) == (False, False, None)
    form = {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "description": "X.", "strict": True}
    assert answer(asked_for(text={"format": form}))["text"] == {"format": form}
    plain = answer(asked_for())
    assert (plain["temperature"], plain["top_p"], plain["truncation"]) == (None, None, "auto")
    assert (plain["text"], plain["tool_choice"], plain["tools"]) == ({"format": {"type": "text"}}, "auto", [])
    assert answer(asked_for(options={"temperature": 0.75}))["temperature"] == 0.75


def test_what_is_too_long_to_be_repeated_is_left_out_of_the_answer_only() -> None:
    """Three events of a stream carry it, and what waits for a client is bounded."""
    long = "x" * ECHO_BYTES_MAX
    asked = asked_for(instructions=long, tools=[TOOL | {"description": long}])
    assert isinstance(asked.upstream, ChatRequest)
    assert asked.upstream.messages[0].content == long
    shown = answer(asked)
    assert (shown["instructions"], shown["tools"]) == (None, [])
