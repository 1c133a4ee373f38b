"""OpenAI's completions: a prompt as the hub has it, and the answer in the older form."""

from typing import Any

import msgspec
import pytest

from gateway.core.tally import Counts
from gateway.dialects import ollama
from gateway.dialects.asked import Asked, Dialect
from gateway.dialects.ollama import GenerateRequest
from gateway.dialects.openai import errors as openai_errors
from gateway.dialects.openai.completions import parse
from gateway.errors import Draining, GatewayError, StreamBroken
from gateway.web.body import decoded

COMPLETIONS = Dialect("openai", parse, openai_errors.render)


def asked_for(**fields: Any) -> Asked:
    return decoded(msgspec.json.encode({"model": "m", "prompt": "Once"} | fields), COMPLETIONS.parse)


def upstream(**fields: Any) -> Any:
    asked = asked_for(**fields)
    assert asked.upstream.path == "/api/generate"
    body = msgspec.json.decode(asked.upstream.encode(model="m", stream=True, output_tokens_max=1, thinks=True))
    del body["model"], body["stream"], body["options"]["num_predict"]
    return body


PLAIN = {"prompt": "Once", "options": {}, "think": False}
PASSED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"prompt": ["Once"]}, {}),
    ({"suffix": "end"}, {"suffix": "end"}),
    ({"raw": True}, {"raw": True}),
    ({"temperature": 0, "top_p": 0.5, "seed": 1}, {"options": {"temperature": 0.0, "top_p": 0.5, "seed": 1}}),
    ({"stop": "a", "presence_penalty": 1}, {"options": {"stop": ["a"], "presence_penalty": 1.0}}),
    ({"frequency_penalty": -1}, {"options": {"frequency_penalty": -1.0}}),
    ({"logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
    ({"logprobs": 0}, {"logprobs": True}),
    ({"options": {"num_ctx": 8192}, "keep_alive": "1m"}, {"options": {"num_ctx": 8192}, "keep_alive": 60.0}),
    ({"truncate": False, "think": False}, {"truncate": False}),
    ({"n": 1, "best_of": 1, "logit_bias": {}, "user": "me", "echo": True}, {}),
]


@pytest.mark.parametrize(("fields", "found"), PASSED)
def test_each_field_goes_where_the_hub_has_it(fields: dict[str, Any], found: dict[str, Any]) -> None:
    assert upstream(**fields) == PLAIN | found


def test_null_is_the_same_as_nothing() -> None:
    names = ["suffix", "raw", "echo", "stream", "stream_options", "max_tokens", "temperature", "top_p", "seed", "stop"]
    names += ["presence_penalty", "frequency_penalty", "logprobs", "user", "n", "best_of", "logit_bias", "options"]
    assert upstream(**dict.fromkeys([*names, "keep_alive", "think", "truncate"])) == PLAIN


def test_the_output_is_bounded_by_the_request_alone() -> None:
    """OpenAI's default of 16 tokens is a trap; Ollama has none."""
    assert asked_for().output_tokens_max is None
    assert asked_for(max_tokens=5).output_tokens_max == 5
    assert (asked_for(stream=True).streamed, asked_for(user="me").end_user) == (True, "me")


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"prompt": ["a", 1]}, "unsupported", "prompt"),
    ({"prompt": ["a"] * 33}, "invalid_request", "prompt"),
    ({"prompt": [1, 2, 3]}, "unsupported", "prompt"),
    ({"prompt": [[1, 2], [3]]}, "unsupported", "prompt"),
    ({"prompt": ["a", ""]}, "load_blocked", "prompt"),
    ({"prompt": []}, "load_blocked", "prompt"),
    ({"prompt": ""}, "load_blocked", "prompt"),
    ({"prompt": None}, "load_blocked", "prompt"),
    ({"prompt": 5}, "invalid_request", "prompt"),
    ({"model": ""}, "invalid_request", "model"),
    ({"n": 2}, "unsupported", "n"),
    ({"best_of": 2}, "unsupported", "best_of"),
    ({"logit_bias": {"1": 1}}, "unsupported", "logit_bias"),
    ({"think": True}, "unsupported", "think"),
    ({"raw": True, "suffix": "x"}, "unsupported", "suffix"),
    ({"max_tokens": 0}, "invalid_request", "max_tokens"),
    ({"logprobs": 21}, "invalid_request", "logprobs"),
    ({"logprobs": True}, "invalid_request", "logprobs"),
]


@pytest.mark.parametrize(("fields", "code", "param"), REFUSED)
def test_the_rest_is_refused(fields: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(GatewayError) as refused:
        asked_for(**fields)
    assert (refused.value.code, refused.value.param) == (code, param)


def events(data: bytes) -> list[Any]:
    frames = [frame.removeprefix("data: ") for frame in data.decode().split("\n\n") if frame]
    return [frame if frame == "[DONE]" else msgspec.json.decode(frame) for frame in frames]


def stream(*lines: bytes, **fields: Any) -> list[Any]:
    renderer, out = asked_for(stream=True, **fields).renderer("019a-b", 1700), b""
    for line in lines:
        reply = ollama.read(line)
        out += renderer.last(reply, reply.counts()) if reply.done else renderer.feed(reply)
    return events(out)


def whole(line: bytes, **fields: Any) -> Any:
    reply = ollama.read(line)
    return msgspec.json.decode(asked_for(**fields).renderer("019a-b", 1700).whole(reply, reply.counts()))


LAST = b'{"response":"","done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":2}'
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def test_a_stream_is_pieces_a_reason_and_done() -> None:
    *frames, done = stream(b'{"response":" upon"}', b'{"response":" a"}', LAST)
    assert [one["choices"][0]["text"] for one in frames] == [" upon", " a", ""]
    assert [one["choices"][0]["finish_reason"] for one in frames] == [None, None, "stop"]
    assert {(one["id"], one["object"], one["created"]) for one in frames} == {("cmpl-019ab", "text_completion", 1700)}
    assert not [one for one in frames if "usage" in one]
    assert done == "[DONE]"


def test_usage_comes_in_a_frame_of_its_own_when_asked_for() -> None:
    *_, usage, done = stream(LAST, stream_options={"include_usage": True})
    assert (usage["choices"], usage["usage"], done) == ([], USAGE, "[DONE]")


def test_text_in_the_last_line_is_not_lost() -> None:
    piece, end, _ = stream(LAST.replace(b'"response":""', b'"response":" end"').replace(b"stop", b"length"))
    assert (piece["choices"][0]["text"], end["choices"][0]["finish_reason"]) == (" end", "length")


def test_what_the_model_thought_is_no_part_of_the_text() -> None:
    thought = b'{"response":"","thinking":"hm"}'
    assert [one["choices"][0]["text"] for one in stream(thought, LAST)[:-1]] == [""]
    assert whole(LAST.replace(b'"response":""', b'"response":"ab","thinking":"hm"'))["choices"][0]["text"] == "ab"


def test_the_echo_stands_before_the_text_once() -> None:
    texts = [one["choices"][0]["text"] for one in stream(b'{"response":" upon"}', LAST, echo=True)[:-1]]
    assert texts == ["Once upon", ""]
    assert [one["choices"][0]["text"] for one in stream(LAST, echo=True)[:-1]] == ["Once", ""]
    assert whole(LAST.replace(b'"response":""', b'"response":" upon"'), echo=True)["choices"][0]["text"] == "Once upon"


def test_a_whole_answer_is_one_object() -> None:
    body = whole(LAST.replace(b'"response":""', b'"response":" upon"'))
    assert body["choices"] == [{"index": 0, "text": " upon", "logprobs": None, "finish_reason": "stop"}]
    assert (body["object"], body["usage"]) == ("text_completion", USAGE)


LIKELY = b'{"token":" up","logprob":-0.1,"top_logprobs":[{"token":" up","logprob":-0.1},{"token":" at","logprob":-2}]}'


def test_log_probabilities_have_the_older_form_and_count_from_the_echo() -> None:
    line = b'{"response":" up","logprobs":[' + LIKELY + b"]}"
    first, second, *_ = stream(line, line, LAST, logprobs=2, echo=True)
    assert first["choices"][0]["logprobs"] == {
        "tokens": [" up"],
        "token_logprobs": [-0.1],
        "top_logprobs": [{" up": -0.1, " at": -2}],
        "text_offset": [4],
    }
    assert second["choices"][0]["logprobs"]["text_offset"] == [7]
    both = b'{"response":" up up","done":true,"logprobs":[' + LIKELY + b"," + LIKELY + b"]}"
    assert whole(both, logprobs=2)["choices"][0]["logprobs"]["text_offset"] == [0, 3]


def test_log_probabilities_that_are_none_are_a_broken_answer() -> None:
    with pytest.raises(StreamBroken):
        stream(b'{"response":"a","logprobs":[{}]}')


def test_a_failure_in_the_stream_is_a_frame_and_no_done() -> None:
    (frame,) = events(asked_for().renderer("id", 1).error(Draining()))
    assert frame["error"]["code"] == "draining"


MANY = [b'{"response":"1","done":true,"done_reason":"length"}', b'{"response":"2","done":true,"done_reason":"stop"}']


def test_each_prompt_of_a_list_is_asked_and_answered() -> None:
    asked = asked_for(prompt=["a", "b"], echo=True)
    prompts = [one.prompt for one in (asked.upstream, *asked.further) if isinstance(one, GenerateRequest)]
    assert prompts == ["a", "b"]
    renderer, (first, second) = asked.renderer("id", 1), map(ollama.read, MANY)
    assert renderer.part(first) == b""
    answer = msgspec.json.decode(renderer.whole(second, Counts(prompt_tokens=3, completion_tokens=2)))
    choices = [(one["index"], one["text"], one["finish_reason"]) for one in answer["choices"]]
    assert choices == [(0, "a1", "length"), (1, "b2", "stop")]
    assert answer["usage"] == USAGE


def test_the_answers_to_a_list_are_streamed_one_after_the_other() -> None:
    renderer = asked_for(prompt=["a", "b"], echo=True, stream=True).renderer("id", 1)
    first, second = map(ollama.read, MANY)
    out = renderer.part(first) + renderer.feed(ollama.read(b'{"response":"x"}')) + renderer.last(second, Counts())
    *frames, done = events(out)
    choices = [(one["choices"][0]["index"], one["choices"][0]["text"]) for one in frames]
    assert choices == [(0, "a1"), (0, ""), (1, "bx"), (1, "2"), (1, "")]
    assert [one["choices"][0]["finish_reason"] for one in frames] == [None, "length", None, None, "stop"]
    assert done == "[DONE]"
