"""`{"prompt"}` in, `{"response"}` out."""

from typing import Any

import msgspec
import pytest

from gateway.dialects import ollama, plain
from gateway.dialects.asked import Asked
from gateway.errors import CreditsExhausted, ModelNotFound, MonthlyTokensExhausted, StreamBroken, every_error


def parsed(**fields: Any) -> Asked:
    return plain.parse(msgspec.json.encode({"prompt": "hi"} | fields))


def upstream(**fields: Any) -> Any:
    body = msgspec.json.decode(
        parsed(**fields).upstream.encode(model="m", stream=True, output_tokens_max=1, thinks=True)
    )
    del body["model"], body["stream"], body["options"]["num_predict"]
    return body


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, {}),
        ({"system": "s"}, {"system": "s"}),
        ({"temperature": 0}, {"options": {"temperature": 0.0}}),
        ({"top_p": 0.5, "seed": 0}, {"options": {"top_p": 0.5, "seed": 0}}),
        ({"stop": "a"}, {"options": {"stop": ["a"]}}),
        ({"stop": ["a", "b"]}, {"options": {"stop": ["a", "b"]}}),
        ({"images": ["x"], "raw": True, "keep_alive": -1, "options": {"num_ctx": 1}, "context": [1]}, {}),
        ({"system": None, "temperature": None, "stop": None, "stream": None, "user": None}, {}),
    ],
)
def test_only_what_was_asked_for_goes_upstream(fields: dict[str, Any], found: dict[str, Any]) -> None:
    assert upstream(**fields) == {"prompt": "hi", "options": {}} | found


def test_the_rest_is_noted() -> None:
    found = parsed(model="M", stream=True, max_tokens=5, user="me")
    assert (found.model, found.streamed, found.output_tokens_max, found.end_user) == ("M", True, 5, "me")
    assert (parsed().model, parsed().streamed, parsed().output_tokens_max) == ("", False, None)


@pytest.mark.parametrize(
    "fields",
    [{"prompt": ""}, {"prompt": None}, {"prompt": ["a"]}, {"max_tokens": 0}, {"stream": 1}, {"stop": 5}, {"model": 5}],
)
def test_what_cannot_be_meant_is_refused(fields: dict[str, Any]) -> None:
    """An empty prompt would load or unload the model for everybody."""
    with pytest.raises(msgspec.ValidationError):
        parsed(**fields)


def test_errors_keep_the_words_that_users_of_these_routes_know() -> None:
    table = [
        (CreditsExhausted(), 403, "Insufficient credits"),
        (ModelNotFound(), 400, "Invalid model name"),
        (MonthlyTokensExhausted(), 429, MonthlyTokensExhausted().message),
    ]
    for error, status, words in table:
        found, body = plain.render_error(error)
        assert (found, msgspec.json.decode(body)["error"]) == (status, words)


@pytest.mark.parametrize("kind", list(every_error()), ids=lambda kind: kind.__name__)
def test_every_error_has_words_and_a_code(kind: Any) -> None:
    status, body = plain.render_error(kind())
    found = msgspec.json.decode(body)
    assert 400 <= status < 600
    assert (found["code"], bool(found["error"]), bool(found["detail"])) == (kind.code, True, True)


LAST = ollama.read(
    b'{"model":"m","response":"","done":true,"done_reason":"length","prompt_eval_count":3,"eval_count":2}'
)


def test_a_stream_is_lines_and_the_last_one_counts() -> None:
    renderer = plain.Renderer("id", 1)
    out = renderer.feed(ollama.read(b'{"response":"a"}')) + renderer.last(LAST, LAST.counts())
    first, last = (msgspec.json.decode(line) for line in out.splitlines())
    assert first == {"response": "a", "done": False}
    assert (last["done"], last["done_reason"], last["id"]) == (True, "length", "id")
    assert last["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def test_a_whole_answer_is_one_object_and_a_failure_one_line() -> None:
    renderer = plain.Renderer("id", 1)
    reply = ollama.read(b'{"response":"ab","done":true}')
    whole = msgspec.json.decode(renderer.whole(reply, reply.counts()))
    assert (whole["response"], whole["done"], whole["done_reason"]) == ("ab", True, "stop")
    failure = renderer.error(StreamBroken())
    assert failure.endswith(b"}\n")
    assert msgspec.json.decode(failure)["code"] == "stream_broken"
