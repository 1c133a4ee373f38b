"""Ollama's native requests into the hub's, and the hub's answers back."""

import json
from typing import Any

import msgspec
import pytest

from gateway.core.tally import Counts
from gateway.dialects import ollama
from gateway.dialects.asked import Asked, Renderer
from gateway.dialects.native import chat as native_chat
from gateway.dialects.native import embed as native_embed
from gateway.dialects.native import errors as native_errors
from gateway.dialects.native import generate as native_generate
from gateway.dialects.ollama import EmbedRequest, Reply
from gateway.errors import BackendFault, BadRequest, LoadBlocked, ModelNotFound, StreamBroken
from tests import exchanges

COUNTS = Counts(prompt_tokens=7, completion_tokens=5, load_ns=0, prompt_ns=0, eval_ns=0, finish_reason="stop")
HELLO = {"role": "user", "content": "hello"}


def upstream(asked: Asked) -> dict[str, Any]:
    """What a backend would get."""
    body: dict[str, Any] = json.loads(
        asked.upstream.encode(model="m", stream=asked.streamed, output_tokens_max=99, thinks=False)
    )
    return body


def chat(**fields: Any) -> Asked:
    return native_chat.parse(json.dumps({"model": "m", "messages": [HELLO], **fields}).encode())


def generate(**fields: Any) -> Asked:
    return native_generate.parse(json.dumps({"model": "m", "prompt": "hello", **fields}).encode())


def test_streams_unless_told_otherwise() -> None:
    assert chat().streamed
    assert generate().streamed
    assert not chat(stream=False).streamed
    assert not native_embed.parse(b'{"model":"m","input":"x"}').streamed


def test_messages_are_ours_with_roles_in_lower_case() -> None:
    call = {"function": {"name": "weather", "arguments": {"city": "Oslo", "deep": {"a": [1]}}, "index": 0}, "id": "c1"}
    asked = chat(
        messages=[
            {"role": "System", "content": "Be brief.", "unknown": 1},
            {"role": "user", "content": "See", "images": ["data:image/png;base64,aGk=", "aGk="]},
            {"role": "assistant", "content": None, "thinking": "hm", "tool_calls": [call]},
            {"role": "tool", "content": "Rain", "tool_name": "weather", "tool_call_id": "c1"},
        ]
    )
    assert upstream(asked)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "See", "images": ["aGk=", "aGk="]},
        {"role": "assistant", "thinking": "hm", "tool_calls": [call]},
        {"role": "tool", "content": "Rain", "tool_name": "weather", "tool_call_id": "c1"},
    ]
    assert asked.upstream.size().images == 2


def test_options_take_whole_numbers_in_either_form_and_leave_loading_alone() -> None:
    options = {
        "top_k": 40.0, "seed": 2**53 + 1, "temperature": 1, "num_ctx": 4096, "stop": "END", "min_p": None,
        "num_gpu": 99, "num_batch": 1, "num_thread": 1, "main_gpu": 1, "use_mmap": False, "mirostat": 1,
    }  # fmt: skip
    assert upstream(chat(options=options))["options"] == {
        "num_predict": 99,
        "top_k": 40,
        "seed": 2**53 + 1,
        "temperature": 1,
        "num_ctx": 4096,
        "stop": ["END"],
    }


@pytest.mark.parametrize(
    ("wanted", "tokens"),
    [({}, None), ({"num_predict": 5.0}, 5), ({"num_predict": -1}, None), ({"num_predict": 0}, None)],
)
def test_num_predict_bounds_the_answer_unless_it_says_no_bound(wanted: dict[str, Any], tokens: int | None) -> None:
    assert chat(options=wanted).output_tokens_max == tokens


@pytest.mark.parametrize(
    ("wanted", "sent"), [("", None), (None, None), ("json", "json"), ({"type": "object"}, {"type": "object"})]
)
def test_a_format_is_json_or_a_schema(wanted: Any, sent: Any) -> None:
    assert upstream(chat(format=wanted)).get("format") == sent
    assert upstream(generate(format=wanted)).get("format") == sent


def test_thinking_is_a_demand() -> None:
    assert upstream(chat(think=True))["think"] is True
    assert upstream(chat(think=False))["think"] is False
    assert "think" not in upstream(chat())


@pytest.mark.parametrize(
    "fields",
    [
        {"format": "yaml"},
        {"format": 5},
        {"format": ["json"]},
        {"options": {"top_k": 1.5}},
        {"options": {"stop": ["x"] * 17}},
        {"options": {"temperature": "hot"}},
        {"options": 5},
        {"think": "enormous"},
        {"top_logprobs": 21},
        {"keep_alive": "soon"},
        {"messages": [{"content": "no role"}]},
        {"messages": [{"role": "user", "content": []}]},
        {"messages": [{"role": "user", "images": ["data:text/plain;base64,aGk="]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": "none"}}]},
        {"tools": [{"type": "function"}]},
        {"tools": [{"function": {"name": "f"}}] * 129},
        {"messages": [HELLO] * 4_097},
    ],
    ids=lambda fields: json.dumps(fields)[:40],
)
def test_malformed_values_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises((BadRequest, msgspec.ValidationError)):
        chat(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"raw": True, "system": "x"},
        {"raw": True, "context": [1]},
        {"context": [-1]},
        {"context": [2**31]},
        {"context": [0] * (2**18 + 1)},
    ],
    ids=lambda fields: json.dumps(fields)[:40],
)
def test_prompts_that_ollama_would_refuse_are_refused_first(fields: dict[str, Any]) -> None:
    with pytest.raises((BadRequest, msgspec.ValidationError)):
        generate(**fields)


@pytest.mark.parametrize(
    ("parse", "body"),
    [
        (native_chat.parse, {}),
        (native_chat.parse, {"messages": []}),
        (native_chat.parse, {"messages": None, "keep_alive": 0}),
        (native_generate.parse, {}),
        (native_generate.parse, {"prompt": "", "keep_alive": -1}),
        (native_embed.parse, {"input": ""}),
        (native_embed.parse, {"input": []}),
        (native_embed.parse_older, {"prompt": ""}),
    ],
)
def test_requests_that_would_only_load_or_unload_a_model_are_refused(parse: Any, body: dict[str, Any]) -> None:
    with pytest.raises(LoadBlocked):
        parse(json.dumps({"model": "m", **body}).encode())


def test_embeddings_take_texts_and_no_tokens() -> None:
    sent = upstream(native_embed.parse(b'{"model":"m","input":"x","dimensions":0}'))
    assert (sent["input"], "dimensions" in sent) == (["x"], False)
    for tokens in (b"[1,2]", b"[[1,2]]", b"5"):
        with pytest.raises(msgspec.ValidationError):
            native_embed.parse(b'{"model":"m","input":' + tokens + b"}")
    with pytest.raises(msgspec.ValidationError):
        native_embed.parse(json.dumps({"input": ["x"] * 2_049}).encode())


def rendered(asked: Asked) -> Renderer:
    return asked.renderer("0198c0de-0000-7000-8000-000000000001", 1_787_299_200)


RECORDED = [
    one
    for one in exchanges.recorded("A", "B")
    if one["response"]["status"] == 200 and one["name"] not in ("chat-load", "generate-unload")
]


@pytest.mark.parametrize("exchange", RECORDED, ids=lambda one: one["name"])
def test_recorded_answers_come_out_as_ollama_sent_them(exchange: dict[str, Any]) -> None:
    """But for the counts, which are the bill's."""
    parse = native_chat.parse if exchange["request"]["path"] == "/api/chat" else native_generate.parse
    asked = parse(exchange["request"]["body"].encode())
    renderer = rendered(asked)
    lines = [line for line in exchange["response"]["body"].splitlines() if line]
    for line in lines:
        try:
            reply = ollama.read(line.encode())
        except StreamBroken as error:
            assert set(json.loads(renderer.error(error))) == {"error", "code"}
            return
        counts = reply.counts()
        if not asked.streamed:
            assert json.loads(renderer.whole(reply, counts)) == json.loads(line)
            continue
        got = renderer.last(reply, counts) if reply.done else renderer.feed(reply)
        assert got.endswith(b"\n")
        assert json.loads(got) == json.loads(line)
        assert list(json.loads(got)) == list(json.loads(line)), "the order, too"


def test_the_bills_counts_win_and_what_is_nothing_is_left_out() -> None:
    reply = ollama.Reply(model="backend's", done=True, prompt_eval_count=1, message=ollama.Message(content="x"))
    said = json.loads(rendered(chat()).last(reply, COUNTS))
    assert said == {
        "model": "m",
        "created_at": "2026-08-21T08:00:00+00:00",
        "message": {"role": "assistant", "content": "x"},
        "done": True,
        "prompt_eval_count": 7,
        "eval_count": 5,
    }


def test_a_request_without_a_model_is_told_which_one_answered() -> None:
    asked = native_generate.parse(b'{"prompt":"x"}')
    said = json.loads(rendered(asked).feed(ollama.Reply(model="llama3.2:3b", response="x")))
    assert (asked.model, said["model"], said["done"]) == ("", "llama3.2:3b", False)


def test_a_stream_has_no_sign_of_life_that_its_clients_would_stumble_over() -> None:
    renderer = rendered(chat())
    assert (renderer.beat, renderer.content_type) == (b"", b"application/x-ndjson")
    error = renderer.error(BackendFault("It stopped."))
    assert error == b'{"error":"It stopped.","code":"backend_failed"}\n'


def test_embeddings_in_both_forms() -> None:
    reply = ollama.read(b'{"model":"x","embeddings":[[0.6,0.8]],"total_duration":5,"prompt_eval_count":9}')
    embed = rendered(native_embed.parse(b'{"model":"M","input":"x"}'))
    assert embed.whole(reply, COUNTS) == (
        b'{"model":"M","embeddings":[[0.6,0.8]],"total_duration":5,"prompt_eval_count":7}'
    )
    older = rendered(native_embed.parse_older(b'{"model":"M","prompt":"x"}'))
    assert older.whole(reply, COUNTS) == b'{"embedding":[0.6,0.8]}'
    with pytest.raises(BackendFault):
        older.whole(ollama.Reply(embeddings=[]), COUNTS)


def test_errors_keep_the_gateways_status_and_have_ollamas_form() -> None:
    status, body = native_errors.render(ModelNotFound(), "id")
    assert status == 404
    assert json.loads(body) == {"error": ModelNotFound().message, "code": "model_not_found"}


def test_empty_texts_have_no_vector_and_are_not_asked_for() -> None:
    parsed = native_embed.parse(json.dumps({"model": "m", "input": ["a", "", "b"]}).encode())
    assert isinstance(parsed.upstream, EmbedRequest)
    assert parsed.upstream.input == ["a", "b"]
    reply = Reply(embeddings=[msgspec.Raw(b"[1]"), msgspec.Raw(b"[2]")])
    assert msgspec.json.decode(parsed.renderer("id", 1).whole(reply, reply.counts()))["embeddings"] == [[1], [2]]
    with pytest.raises(StreamBroken):
        parsed.renderer("id", 1).whole(Reply(embeddings=[msgspec.Raw(b"[1]")]), reply.counts())
    with pytest.raises(LoadBlocked):
        native_embed.parse(b'{"model":"m","input":["",""]}')
