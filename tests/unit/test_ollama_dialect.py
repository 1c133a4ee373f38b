"""The hub: what is sent to Ollama, what its lines mean, what its refusals mean."""

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from gateway.core.tally import Counts
from gateway.dialects import ollama, ollama_faults
from gateway.dialects.ollama import ChatRequest, GenerateRequest, Message, Options
from gateway.errors import (
    BackendBusy,
    BackendFault,
    BadRequest,
    ContextExceeded,
    GatewayError,
    ModelNotFound,
    StreamBroken,
)
from tests import exchanges

DEEP = b"[" * 50_000


def sent(request: ChatRequest | GenerateRequest, **changes: Any) -> Any:
    given = {"model": "Full", "stream": True, "output_tokens_max": 7, "thinks": True} | changes
    return msgspec.json.decode(request.encode(**given))


def test_nothing_is_sent_that_was_not_asked_for() -> None:
    """An option that is left out keeps the model's own default; Ollama's own OpenAI layer forces some."""
    chat = ChatRequest(messages=[Message(role="user", content="hi")])
    common = {"model": "Full", "stream": True, "options": {"num_predict": 7}}
    assert sent(chat) == common | {"messages": [{"role": "user", "content": "hi"}]}
    assert sent(GenerateRequest(prompt="hi")) == common | {"prompt": "hi"}


def test_model_stream_and_cap_are_the_gateways_to_say() -> None:
    request = GenerateRequest(prompt="hi", model="evil", stream=True, options=Options(num_predict=-1, seed=3))
    body = sent(request, stream=False)
    assert (body["model"], body["stream"], body["options"]) == ("Full", False, {"num_predict": 7, "seed": 3})


def test_each_request_has_its_route() -> None:
    assert (ChatRequest(messages=[]).path, GenerateRequest(prompt="").path) == ("/api/chat", "/api/generate")


def test_a_schema_and_a_tool_go_out_as_they_came() -> None:
    request = ChatRequest(messages=[], format=Raw(b'{"b":1,"a":2}'), tools=[Raw(b'{"x": 1}')])
    assert b'"format":{"b":1,"a":2}' in request.encode(model="m", stream=False, output_tokens_max=1, thinks=True)
    assert b'"tools":[{"x": 1}]' in request.encode(model="m", stream=False, output_tokens_max=1, thinks=True)


SUCCESSES = [one for one in exchanges.recorded("A", "B") if one["response"]["status"] == 200]


@pytest.mark.parametrize("exchange", SUCCESSES, ids=lambda one: one["name"])
def test_recorded_lines_are_read_with_their_meaning(exchange: dict[str, Any]) -> None:
    body = exchange["response"]["body"]
    meant = exchanges.native(200, body)
    replies = []
    try:
        for line in body.splitlines():
            replies.append(ollama.read(line.encode()))
    except StreamBroken:
        assert meant.error == "mid-stream"
    assert "".join(reply.text for reply in replies) == meant.text
    assert "".join(reply.thought for reply in replies) == meant.thought
    assert sum(reply.done for reply in replies) == meant.done
    assert sum(reply.eval_count for reply in replies) == (meant.completion_tokens or 0)


@pytest.mark.parametrize(
    ("line", "carries"),
    [
        (b'{"message":{"content":"a"}}', True),
        (b'{"message":{"thinking":"a"}}', True),
        (b'{"message":{"tool_calls":[{"function":{"name":"f"}}]}}', True),
        (b'{"response":"a"}', True),
        (b'{"thinking":"a"}', True),
        (b'{"message":{"content":""},"done":true}', False),
        (b'{"response":"","done":true}', False),
    ],
)
def test_what_carries_tokens_is_counted(line: bytes, carries: bool) -> None:
    assert ollama.read(line).carries_tokens is carries


def test_counts_that_cannot_be_are_none() -> None:
    reply = ollama.read(b'{"done":true,"prompt_eval_count":-1,"eval_count":-2,"load_duration":-3}')
    assert reply.counts() == Counts()


GARBAGE = {
    "no JSON": b"<html>",
    "cut": b'{"message":{"content":"a"',
    "an array": b"[]",
    "wrong type": b'{"done":"yes"}',
    "not UTF-8": b"\xff\xfe",
    "not UTF-8 in a text": b'{"response":"\xff"}',
    "deep": DEEP,
    "deep within": b'{"x":' + DEEP,
    "an error": b'{"error":"boom"}',
    "an error that is an object": b'{"error":{"message":"boom"}}',
    "an empty error": b'{"error":""}',
    "an error that is deep": b'{"error":"' + DEEP + b'"}',
    "a surrogate": b'{"response":"\\ud800"}',
}


@pytest.mark.parametrize("line", GARBAGE.values(), ids=GARBAGE)
def test_what_is_no_line_of_an_answer_breaks_the_stream(line: bytes) -> None:
    with pytest.raises(StreamBroken):
        ollama.read(line)


@given(st.binary() | st.text().map(str.encode))
def test_no_bytes_at_all_make_another_error(line: bytes) -> None:
    for read in (ollama.read, ollama.read_whole):
        with suppress(GatewayError):
            read(line)
    assert isinstance(ollama_faults.fault(500, line), GatewayError)


def test_a_whole_answer_must_be_done() -> None:
    assert ollama.read_whole(b'{"response":"a","done":true}').text == "a"
    with pytest.raises(StreamBroken):
        ollama.read_whole(b'{"response":"a","done":false}')


FAULTS = {
    "chat-midstream-error-nostream": (BackendFault, False),
    "chat-context-overflow": (ContextExceeded, False),
    "chat-404": (ModelNotFound, True),
    "chat-bad-json": (BadRequest, False),
    "chat-tools-unsupported": (BadRequest, False),
    "chat-think-unsupported": (BadRequest, False),
    "embed-404": (ModelNotFound, True),
    "show-404": (ModelNotFound, True),
    "busy-native": (BackendBusy, True),
    "busy-embed": (BackendBusy, True),
}
REFUSALS = {one["name"]: one["response"] for one in exchanges.recorded("A", "B", "C", "I", "J")}


@pytest.mark.parametrize("name", FAULTS)
def test_recorded_refusals_have_their_meaning(name: str) -> None:
    error = ollama_faults.fault(REFUSALS[name]["status"], REFUSALS[name]["body"].encode())
    assert (type(error), error.elsewhere) == FAULTS[name]


@pytest.mark.parametrize(
    ("status", "text", "kind", "elsewhere"),
    [
        (500, 'option "num_predict" must be of type integer', BadRequest, False),
        (500, "invalid format: expected a schema", BadRequest, False),
        (500, "the input length exceeds the context length", ContextExceeded, False),
        (400, "the prompt is longer than the context length currently available", ContextExceeded, False),
        (500, "llama-server process has terminated: signal: killed", BackendFault, True),
        (500, "timed out waiting for llama-server to start", BackendFault, True),
        (500, "model failed to load: out-of-memory during startup", BackendFault, True),
        (500, "model runner has unexpectedly stopped", BackendFault, False),
        (403, "ollama cloud is disabled", BackendFault, False),
        (302, "moved", BackendFault, False),
    ],
)
def test_other_refusals_have_their_meaning(status: int, text: str, kind: type, elsewhere: bool) -> None:
    error = ollama_faults.fault(status, msgspec.json.encode({"error": text}))
    assert (type(error), error.elsewhere) == (kind, elsewhere)
    assert text in error.message


def test_a_clients_mistake_keeps_ollamas_words_and_json_within_text_is_unwrapped() -> None:
    inner = '{"error":{"code":400,"message":"too  long\\nfor me","type":"exceed_context_size_error"}}'
    assert ollama_faults.fault(400, msgspec.json.encode({"error": inner})).message.endswith("too long for me")
    overflow = REFUSALS["chat-context-overflow"]["body"].encode()
    assert "{" not in ollama_faults.fault(400, overflow).message


ODD = {
    "nothing": b"",
    "HTML": b"<html>",
    "a text": b'"boom"',
    "an array": b"[1]",
    "null": b"null",
    "a number": b"5",
    "no error": b'{"message":"x"}',
    "not UTF-8": b'{"error":"\xff"}',
    "deep": DEEP,
    "deep within": b'{"error":' + DEEP,
    "deep within a text": b'{"error":"' + DEEP + b'"}',
}


@pytest.mark.parametrize("status", [500, 400])
@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
def test_a_refusal_in_any_form_is_still_one(status: int, body: bytes) -> None:
    error = ollama_faults.fault(status, body)
    assert type(error) is {500: BackendFault, 400: BadRequest}[status]
    assert len(error.message) < 500


def test_a_long_reason_is_cut() -> None:
    error = ollama_faults.fault(500, msgspec.json.encode({"error": "x" * 10_000}))
    assert len(error.message) < ollama_faults.UPSTREAM_TEXT_CHARS_MAX + 100


def test_a_nodes_own_time_out_is_no_mistake_of_the_client() -> None:
    """Go words it with "exceeded" and "context"."""
    text = 'Post "http://127.0.0.1:4711/completion": context deadline exceeded'
    error = ollama_faults.fault(500, msgspec.json.encode({"error": text}))
    assert (error.status, error.code) == (502, "backend_failed")
    assert "127.0.0.1" not in error.message


def test_addresses_and_files_of_a_node_are_not_told() -> None:
    shown = ollama_faults.shown("open /root/.ollama/models/blobs/sha256-ab: no such file; see https://node:11434/x")
    assert "/root" not in shown
    assert "node:11434" not in shown
    assert "no such file" in shown


@pytest.mark.parametrize("arguments", [b'"x"', b"1", b"[1]", b"true", b'{"a":"\xed\xa0\x80"}'])
def test_arguments_that_are_no_object_are_a_broken_answer(arguments: bytes) -> None:
    with pytest.raises(StreamBroken):
        ollama.read(b'{"message":{"tool_calls":[{"function":{"name":"f","arguments":%b}}]}}' % arguments)


def test_no_arguments_are_an_empty_object() -> None:
    reply = ollama.read(b'{"message":{"tool_calls":[{"function":{"name":"f","arguments":null}}]}}')
    assert bytes(reply.tool_calls[0].function.arguments) == b"{}"


def test_at_least_one_token_is_asked_for() -> None:
    """Some runners take 0 for no bound."""
    sent_body = ChatRequest(messages=[]).encode(model="m", stream=False, output_tokens_max=0, thinks=True)
    assert msgspec.json.decode(sent_body)["options"] == {"num_predict": 1}
