"""Anthropic's messages API: each field and each kind of content block where the hub has it, or a clear refusal."""

from typing import Any

import msgspec
import pytest

from gateway.core import limits
from gateway.dialects.anthropic.messages import parse, parse_count
from gateway.dialects.asked import Asked
from gateway.dialects.ollama import Message, Reply
from gateway.dialects.policy import MESSAGES_MAX, STOP_CHARS_MAX, STOPS_MAX
from gateway.dialects.tools import NAME_CHARS_MAX, TOOLS_MAX
from gateway.errors import BadRequest, Unsupported

USER = {"role": "user", "content": "hi"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "additionalProperties": False}
TOOL = {"name": "f", "description": "does f", "input_schema": SCHEMA}
HUB_TOOL = {"type": "function", "function": {"name": "f", "description": "does f", "parameters": SCHEMA}}
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
NOT_ASKED = {"think": False}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def asked_for(**fields: Any) -> Asked:
    return parse(msgspec.json.encode({"model": "m", "max_tokens": 9, "messages": [USER]} | fields))


def encoded(asked: Asked, *, thinks: bool = True) -> Any:
    """What would be sent, without what is always there."""
    body = msgspec.json.decode(asked.upstream.encode(model="m", stream=True, output_tokens_max=1, thinks=thinks))
    del body["model"], body["stream"], body["options"]["num_predict"]
    return body


def upstream(**fields: Any) -> Any:
    """The same for a request with these fields, without the messages that it has anyway."""
    body = encoded(asked_for(**fields))
    if fields.get("messages") is None and fields.get("system") is None:
        del body["messages"]
    return body


OPTIONS = [
    ("temperature", 0.0, {"temperature": 0.0}),
    ("top_p", 0.5, {"top_p": 0.5}),
    ("top_k", 7, {"top_k": 7}),
    ("options", {"num_ctx": 4096, "stop": ["x"]}, {"num_ctx": 4096, "stop": ["x"]}),
]


@pytest.mark.parametrize(("name", "value", "options"), OPTIONS)
def test_sampling_goes_into_the_options(name: str, value: Any, options: Any) -> None:
    assert upstream(**{name: value}) == {"options": options} | NOT_ASKED


def test_own_sampling_wins_over_the_options() -> None:
    assert upstream(temperature=0.1, options={"temperature": 0.9, "seed": 1})["options"] == {
        "temperature": 0.1,
        "seed": 1,
    }


THINKING: list[tuple[dict[str, Any], Any]] = [
    ({}, False),
    ({"thinking": None}, False),
    ({"thinking": {"type": "disabled"}}, False),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, True),
    ({"thinking": {"type": "adaptive"}}, True),
    ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, "low"),
    ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}, "max"),
    ({"output_config": {"effort": "high"}}, False),
    ({"thinking": {"type": "disabled"}, "think": "high"}, "high"),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}, "think": False}, False),
]


@pytest.mark.parametrize(("fields", "think"), THINKING)
def test_a_model_thinks_when_it_is_asked_to_and_not_otherwise(fields: dict[str, Any], think: Any) -> None:
    assert encoded(asked_for(**fields))["think"] == think


def test_a_model_that_cannot_think_is_not_asked_to_by_fields_that_every_client_sends() -> None:
    for thinking in ({"type": "enabled", "budget_tokens": 1024}, {"type": "disabled"}, None):
        assert "think" not in encoded(asked_for(thinking=thinking), thinks=False)
    assert encoded(asked_for(think=True), thinks=False)["think"] is True  # a demand in Ollama's own words


EVERY = ["stream", "system", "tools", "tool_choice", "thinking", "output_config", "output_format", "stop_sequences"]
EVERY += ["metadata", "container", "mcp_servers", "thread", "compaction", "keep_alive", "think", "truncate"]
EVERY += [name for name, _, _ in OPTIONS]


def test_nothing_is_forced_when_absent_or_null_and_unknown_fields_are_passed_over() -> None:
    others = {"service_tier": "auto", "cache_control": {"type": "ephemeral"}, "diagnostics": {}, "speed": "fast"}
    assert upstream() == upstream(**dict.fromkeys(EVERY)) == upstream(**others) == {"options": {}} | NOT_ASKED
    plain = asked_for()
    assert (plain.streamed, plain.collected, plain.output_tokens_max, plain.end_user) == (False, False, 9, "")


def test_streaming_the_cap_and_the_end_user_are_noted() -> None:
    found = asked_for(stream=True, metadata={"user_id": "me"}, max_tokens=7)
    assert (found.model, found.streamed, found.end_user, found.output_tokens_max) == ("m", True, "me", 7)


def test_stop_sequences_stay_here_and_make_a_whole_answer_stream() -> None:
    assert upstream(stop_sequences=["END"]) == {"options": {}} | NOT_ASKED
    assert asked_for(stop_sequences=["END"]).collected
    assert not asked_for(stop_sequences=["END"], stream=True).collected
    assert not asked_for(stop_sequences=[]).collected


def test_the_rest_of_ollamas_own_fields_are_passed_on() -> None:
    body = upstream(keep_alive="5m", truncate=False)
    assert (body["keep_alive"], body["truncate"]) == (300.0, False)


@pytest.mark.parametrize("field", ["output_config", "output_format"])
def test_a_schema_of_the_output_is_passed_whole(field: str) -> None:
    form = {"type": "json_schema", "schema": SCHEMA}
    assert upstream(**{field: {"format": form} if field == "output_config" else form})["format"] == SCHEMA


def test_tools_are_offered_with_their_whole_schema() -> None:
    assert upstream(tools=[TOOL])["tools"] == [HUB_TOOL]
    assert upstream(tools=[TOOL | {"type": "custom", "strict": True}], tool_choice={"type": "auto"})["tools"]
    assert upstream(tools=[TOOL], tool_choice={"type": "none"}) == {"options": {}} | NOT_ASKED


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "g"}])
def test_a_call_that_must_be_made_is_forced_by_a_format(choice: dict[str, str]) -> None:
    other = {"name": "g", "input_schema": {"type": "object"}}
    body = encoded(asked_for(tools=[TOOL, other], tool_choice=choice, system="Be brief."))
    assert "tools" not in body
    forms = body["format"].get("anyOf", [body["format"]])
    assert [form["properties"]["name"]["enum"] for form in forms] == ([["g"]] if "name" in choice else [["f"], ["g"]])
    assert body["messages"][0]["content"].startswith("Be brief.\n\n")
    assert body["messages"][1] == USER


def test_a_system_prompt_is_the_first_message() -> None:
    for system in ("a\nb", [text("a"), text("b") | {"cache_control": {"type": "ephemeral"}}]):
        assert upstream(system=system)["messages"] == [{"role": "system", "content": "a\nb"}, USER]
    for nothing in ("", []):
        assert upstream(system=nothing)["messages"] == [USER]


def hub(*messages: Any) -> Any:
    return upstream(messages=list(messages))["messages"]


def called(*names: str) -> dict[str, Any]:
    uses = [{"type": "tool_use", "id": f"t{n}", "name": name, "input": {"a": n}} for n, name in enumerate(names)]
    return {"role": "assistant", "content": uses}


def result(number: int, content: Any = "r", **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": f"t{number}", "content": content} | fields


def test_all_blocks_of_a_message_stay_one_message() -> None:
    said = {"role": "user", "content": [text("a"), PNG, text("b")]}
    assert hub(said) == [{"role": "user", "content": "a\nb", "images": ["AAAA"]}]
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    hidden = {"type": "redacted_thinking", "data": "x"}
    use = called("f")["content"][0]
    assert hub(USER, {"role": "assistant", "content": [thought, hidden, text("a"), use]})[1] == {
        "role": "assistant",
        "content": "a",
        "thinking": "hm",
        "tool_calls": [{"id": "t0", "function": {"name": "f", "arguments": {"a": 0}}}],
    }


def test_each_tool_result_is_a_message_in_its_place_with_the_name_of_its_tool() -> None:
    said = [text("before"), result(1), result(0, [text("x"), PNG, text("y")]), text("after"), text("all")]
    assert hub(called("f", "g"), {"role": "user", "content": said})[1:] == [
        {"role": "user", "content": "before"},
        {"role": "tool", "content": "r", "tool_name": "g", "tool_call_id": "t1"},
        {"role": "tool", "content": "x\ny", "images": ["AAAA"], "tool_name": "f", "tool_call_id": "t0"},
        {"role": "user", "content": "after\nall"},
    ]


@pytest.mark.parametrize(
    ("content", "is_error", "said"),
    [("no", True, "Error: no"), ("yes", False, "yes"), (None, None, None), ([text("no")], True, "Error: no")],
)
def test_a_failed_tool_says_so_in_words(content: Any, is_error: bool | None, said: str | None) -> None:
    (*_, made) = hub(called("f"), {"role": "user", "content": [result(0, content, is_error=is_error)]})
    assert made.get("content") == said


def test_documents_of_text_are_text() -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "body"}
    document = {"type": "document", "source": source, "title": "T", "context": None, "citations": {"enabled": False}}
    assert hub({"role": "user", "content": [document, text("?")]}) == [{"role": "user", "content": "T\nbody\n?"}]


def test_messages_without_words_are_still_messages_so_that_nothing_is_only_loaded() -> None:
    hidden = [{"type": "redacted_thinking", "data": "x"}]
    assert hub({"role": "user", "content": []}) == [{"role": "user"}]
    assert hub({"role": "assistant", "content": hidden}) == [{"role": "assistant"}]
    assert hub({"role": "user", "content": ""}) == [{"role": "user"}]


def test_system_messages_within_the_conversation_stay_where_they_are() -> None:
    assert hub(USER, {"role": "system", "content": [text("a"), text("b")]}, USER) == [
        USER,
        {"role": "system", "content": "a\nb"},
        USER,
    ]


def said_by(role: str, *blocks: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": list(blocks)}]}


def source(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "media_type": "image/png", "data": "x", "url": "http://169.254.169.254/"} | fields


MALFORMED: dict[str, dict[str, Any]] = {
    "no model": {"model": None},
    "empty model": {"model": ""},
    "no messages": {"messages": []},
    "too many messages": {"messages": [USER] * (MESSAGES_MAX + 1)},
    "no cap": {"max_tokens": None},
    "no tokens": {"max_tokens": 0},
    "unknown role": {"messages": [{"role": "tool", "content": "x"}]},
    "number as content": {"messages": [{"role": "user", "content": 5}]},
    "unknown block": said_by("user", {"type": "hologram"}),
    "block without a type": said_by("user", {"text": "x"}),
    "text without text": said_by("user", {"type": "text"}),
    "image without source": said_by("user", {"type": "image"}),
    "unknown source": said_by("user", PNG | {"source": source("floppy")}),
    "server tool's use": said_by("assistant", {"type": "server_tool_use", "id": "a", "name": "b", "input": {}}),
    "call by the user": said_by("user", *called("f")["content"]),
    "thought of the user": said_by("user", {"type": "thinking", "thinking": "x"}),
    "result by the assistant": {"messages": [called("f"), {"role": "assistant", "content": [result(0)]}]},
    "image of the assistant": said_by("assistant", PNG),
    "result of no call": said_by("user", result(0)),
    "result of a later call": {"messages": [{"role": "user", "content": [result(0)]}, called("f")]},
    "image in the system prompt": {"system": [PNG]},
    "input no object": said_by("assistant", {"type": "tool_use", "id": "a", "name": "b", "input": [1]}),
    "hot": {"temperature": "hot"},
    "stop is no list": {"stop_sequences": "END"},
    "long stop": {"stop_sequences": ["x" * (STOP_CHARS_MAX + 1)]},
    "many stops": {"stop_sequences": ["x"] * (STOPS_MAX + 1)},
    "tool without name": {"tools": [{"input_schema": SCHEMA}]},
    "tool with a long name": {"tools": [TOOL | {"name": "x" * (NAME_CHARS_MAX + 1)}]},
    "tool without schema": {"tools": [{"name": "f"}]},
    "schema no object": {"tools": [TOOL | {"input_schema": "x"}]},
    "many tools": {"tools": [TOOL] * (TOOLS_MAX + 1)},
    "any of no tools": {"tool_choice": {"type": "any"}},
    "choice of an unknown tool": {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}},
    "choice without a name": {"tools": [TOOL], "tool_choice": {"type": "tool"}},
    "choice with a name that is a mode": {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "none"}},
    "unknown choice": {"tool_choice": {"type": "some"}},
    "unknown thinking": {"thinking": {"type": "deeply"}},
    "format without schema": {"output_config": {"format": {"type": "json_schema"}}},
    "unknown format": {"output_config": {"format": {"type": "xml"}}},
    "user id is a number": {"metadata": {"user_id": 5}},
}  # fmt: skip
UNSUPPORTED: dict[str, tuple[str, dict[str, Any]]] = {
    "image elsewhere": ("messages", said_by("user", PNG | {"source": source("url")})),
    "image in a file": ("messages", said_by("user", PNG | {"source": {"type": "file", "file_id": "f"}})),
    "image that is none": ("messages", said_by("user", PNG | {"source": source("base64", media_type="image/tiff")})),
    "pdf": ("messages", said_by("user", {"type": "document", "source": source("base64")})),
    "document elsewhere": ("messages", said_by("user", {"type": "document", "source": source("url")})),
    "citations": (
        "messages",
        said_by("user", {"type": "document", "source": source("text"), "citations": {"enabled": True}}),
    ),
    "web search": ("tools", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
    "bash": ("tools", {"tools": [{"type": "bash_20250124", "name": "bash"}]}),
    "code execution": ("tools", {"tools": [{"type": "code_execution_20260521", "name": "code_execution"}]}),
    "toolset without a name": ("tools", {"tools": [{"type": "browser_toolset_20260801"}]}),
    "forced and formatted": (
        "tool_choice",
        {
            "tools": [TOOL],
            "tool_choice": {"type": "any"},
            "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
        },
    ),
    "thinking between tools": ("thinking", {"thinking": {"type": "between_tools"}}),
    "container": ("container", {"container": "c"}),
    "mcp": ("mcp_servers", {"mcp_servers": [{"type": "url", "url": "http://x", "name": "x"}]}),
    "thread": ("thread", {"thread": {"type": "create"}}),
    "compaction": ("compaction", {"compaction": {"type": "summarize"}}),
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED)
def test_what_cannot_be_meant_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises((BadRequest, msgspec.ValidationError)):
        asked_for(**fields)


@pytest.mark.parametrize(("param", "fields"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_what_cannot_be_done_is_refused_in_words_that_help(param: str, fields: dict[str, Any]) -> None:
    with pytest.raises(Unsupported) as refused:
        asked_for(**fields)
    assert refused.value.param == param
    assert len(refused.value.message) > 20


def test_a_count_is_of_the_same_prompt_and_needs_no_cap() -> None:
    shared = {"messages": [USER], "system": "Be brief.", "tools": [TOOL], "tool_choice": {"type": "any"}}
    body = msgspec.json.encode({"model": "m", **shared})
    counted = parse_count(body)
    assert counted.upstream.size() == asked_for(**shared).upstream.size()
    with pytest.raises(msgspec.ValidationError):
        parse(body)
    for refused in ({"container": "c"}, {"tools": [{"type": "bash_20250124", "name": "bash"}]}):
        with pytest.raises(Unsupported):
            parse_count(msgspec.json.encode({"model": "m", "messages": [USER]} | refused))


def test_the_start_of_a_stream_tells_the_same_estimate_as_a_count() -> None:
    asked = asked_for(stream=True, messages=[{"role": "user", "content": "x" * 300}])
    frame = asked.renderer("id", 0).feed(Reply(message=Message(content="a")))
    start = msgspec.json.decode(frame.split(b"data: ")[1].split(b"\n")[0])
    size = asked.upstream.size()
    assert start["message"]["usage"]["input_tokens"] == limits.prompt_expected(size.text_bytes, 1, 0) == 104
