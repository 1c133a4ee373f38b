"""The operator's bounds, which are the same in every dialect, and the values that have bounds of their own."""

from typing import Any

import pytest
from msgspec import UNSET, Raw

from gateway.dialects.ollama import ChatRequest, EmbedRequest, GenerateRequest, Message, Options
from gateway.dialects.policy import (
    DURATION_CHARS_MAX,
    FORMAT_BYTES_MAX,
    IMAGES_MAX,
    KEEP_ALIVE_S_MIN,
    MESSAGES_MAX,
    Policy,
    seconds,
)
from gateway.errors import BadRequest, ContextNotAllowed

POLICY = Policy(context_tokens_max=8_192, keep_alive_s_max=3_600, output_tokens_max=100)
USER = Message("user", "hi")


def applied(policy: Policy, request: ChatRequest | GenerateRequest | EmbedRequest) -> Any:
    return policy.apply(request, request.size())


def kept(keep_alive: float, **bounds: Any) -> Any:
    policy = Policy(**{"context_tokens_max": 0, "keep_alive_s_max": 3_600, "output_tokens_max": 1} | bounds)
    bounded = applied(policy, EmbedRequest(input=["x"], keep_alive=keep_alive))
    assert isinstance(bounded, EmbedRequest)
    return bounded.keep_alive


def test_a_model_stays_as_long_as_asked_within_the_bounds() -> None:
    assert [kept(one) for one in (600, 10**9, -1, 0, 1)] == [600, 3_600, 3_600, KEEP_ALIVE_S_MIN, KEEP_ALIVE_S_MIN]
    assert kept(600, keep_alive_s_max=0) is UNSET
    assert kept(600, keep_alive_s_max=30) == 30


@pytest.mark.parametrize("tokens", [0, -1, 8_193])
def test_a_context_out_of_bounds_is_refused_and_says_where_the_bound_is(tokens: int) -> None:
    with pytest.raises(ContextNotAllowed, match="CONTEXT_TOKENS_MAX") as refused:
        applied(POLICY, GenerateRequest(prompt="x", options=Options(num_ctx=tokens)))
    assert refused.value.param == "options"
    assert applied(POLICY, GenerateRequest(prompt="x", options=Options(num_ctx=8_192)))


TOO_MUCH = {
    "images": ChatRequest(messages=[Message("user", "x", images=["A"] * (IMAGES_MAX + 1))]),
    "messages": ChatRequest(messages=[USER] * (MESSAGES_MAX + 1)),
    "schema": ChatRequest(messages=[USER], format=Raw(b'{"x":"' + b"a" * FORMAT_BYTES_MAX + b'"}')),
}


@pytest.mark.parametrize("request_", TOO_MUCH.values(), ids=TOO_MUCH)
def test_too_much_of_anything_is_refused(request_: ChatRequest) -> None:
    with pytest.raises(BadRequest):
        applied(POLICY, request_)


def test_durations_are_read_as_go_writes_them() -> None:
    texts = ("5m", "1h30m", "1.5s", "0", "-1", "-1s", "100ms", " 2h ")
    assert [seconds(text) for text in texts] == [300, 5_400, 1.5, 0, -1, -1, 0.1, 7_200]
    assert seconds(7) == 7.0


@pytest.mark.parametrize("text", ["5", "", "m", "5 m", "5x", "1h-5m", "1s" * DURATION_CHARS_MAX])
def test_other_texts_are_no_durations(text: str) -> None:
    with pytest.raises(BadRequest) as refused:
        seconds(text)
    assert refused.value.param == "keep_alive"
