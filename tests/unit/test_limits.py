"""Buckets in integers, and estimates that are never below the truth."""

from fractions import Fraction
from math import gcd
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.limits import IMAGE_TOKENS_MAX, PER_MINUTE_MAX, Limits, ModelLimits, estimate, overlay, said
from gateway.core.record import ApiKey, Tier, resolve
from gateway.dialects import plain
from gateway.dialects.asked import Asked
from gateway.dialects.openai import chat as openai_chat
from tests import exchanges
from tests.buckets import MINUTE_US, per_minute


@given(st.integers(1, PER_MINUTE_MAX))
@example(1)
@example(PER_MINUTE_MAX)
@example(PER_MINUTE_MAX - 1)
@example(MINUTE_US)
@example(MINUTE_US + 1)
def test_a_rate_is_exact_in_lowest_terms_and_fits_a_double(limit: int) -> None:
    rate = per_minute(limit)
    assert Fraction(rate.num, rate.den) == Fraction(limit, MINUTE_US)
    assert gcd(rate.num, rate.den) == 1
    assert rate.full == limit * rate.den < 2**53


@pytest.mark.parametrize("limit", [0, -1, PER_MINUTE_MAX + 1])
def test_a_limit_out_of_range_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match="between 1 and"):
        per_minute(limit)


SIZES = st.integers(0, 10**7)


@given(SIZES, st.integers(0, 1024), st.integers(0, 8), SIZES)
def test_an_estimate_expects_no_more_than_it_bounds(size: int, messages: int, images: int, output: int) -> None:
    made = estimate(prompt_bytes=size, messages=messages, images=images, output_max=output)
    assert 0 <= made.prompt_expected <= made.prompt_max
    assert made.prompt_max >= size + images * IMAGE_TOKENS_MAX
    assert made.output_max == output


@given(SIZES, SIZES)
def test_a_longer_prompt_is_never_estimated_shorter(one: int, more: int) -> None:
    short, long = (estimate(prompt_bytes=size, messages=1, images=0, output_max=9) for size in (one, one + more))
    assert short.prompt_max <= long.prompt_max
    assert short.prompt_expected <= long.prompt_expected


NOTHING = Limits()
DEFAULTS = Limits(rate_limit_per_min=20, monthly_token_limit=1_000_000)


def test_the_last_word_counts_and_silence_is_none() -> None:
    tier = Limits(rate_limit_per_min=60, tokens_per_min=6_000, concurrency=None)
    own = Limits(tokens_per_min=None, concurrency=3, model_limits={"qwen*": ModelLimits(tokens_per_min=9)})
    assert overlay(DEFAULTS, tier, own) == Limits(
        rate_limit_per_min=60,
        tokens_per_min=None,
        concurrency=3,
        monthly_token_limit=1_000_000,
        model_limits={"qwen*": ModelLimits(tokens_per_min=9)},
    )
    assert overlay(DEFAULTS, NOTHING, NOTHING) == DEFAULTS
    assert overlay() == NOTHING


def test_a_key_without_a_tier_pays_the_price_as_it_is() -> None:
    key = ApiKey(id="a", secrets=(), limits=Limits(burst=2))
    tier = Tier(name="basic", multiplier_milli=2_000, limits=Limits(burst=9, tokens_per_min=5), weight=3)
    alone = resolve(key, None, DEFAULTS)
    assert (alone.multiplier_milli, alone.weight) == (1_000, 1)
    found = resolve(key, tier, DEFAULTS)
    assert (found.limits.burst, found.limits.tokens_per_min, found.multiplier_milli) == (2, 5, 2_000)
    assert found.weight == 3


def test_what_limits_say_is_what_is_stored() -> None:
    limits = Limits(rate_limit_per_min=None, burst=3, model_limits={"*": ModelLimits(rate_limit_per_min=1)})
    stored = {"rate_limit_per_min": None, "burst": 3, "model_limits": {"*": {"rate_limit_per_min": 1}}}
    assert said(limits) == stored
    assert msgspec.convert(stored, Limits) == limits
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"rate_limit": 1}, Limits)


def _prompt_max(asked: Asked) -> int:
    prompt = asked.upstream.size()
    made = estimate(prompt_bytes=prompt.text_bytes, messages=prompt.messages, images=prompt.images, output_max=1)
    return made.prompt_max


RECORDED = [
    (one, body)
    for one in exchanges.recorded("A", "B", "D")
    if (body := exchanges.body_of(one))
    and one["response"]["status"] == 200
    and (body.get("messages") or body.get("prompt"))
]


@pytest.mark.parametrize(("exchange", "body"), RECORDED, ids=lambda value: value.get("name", ""))
def test_recorded_prompts_were_never_larger_than_their_bound(exchange: dict[str, Any], body: dict[str, Any]) -> None:
    response = exchange["response"]
    mean = exchanges.openai if exchange["section"].startswith("D") else exchanges.native
    counted = mean(response["status"], response["body"]).prompt_tokens or 0
    if "prompt" in body:
        assert counted <= _prompt_max(plain.parse(msgspec.json.encode({"prompt": body["prompt"]})))
    else:
        said = {name: body[name] for name in ("model", "messages", "tools") if name in body}
        assert counted <= _prompt_max(openai_chat.parse(msgspec.json.encode(said)))


LONG = "word " * 2_000
ARGUMENTS = f'{{"a":"{LONG}"}}'
CALLED = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
MESSAGES: dict[str, dict[str, Any]] = {
    "text": {"role": "user", "content": LONG},
    "parts": {"role": "user", "content": [{"type": "text", "text": LONG}]},
    "reasoning": {"role": "assistant", "content": "", "reasoning_content": LONG},
    "arguments": {"role": "assistant", "tool_calls": [CALLED | {"function": {"name": "f", "arguments": ARGUMENTS}}]},
    "name of a called tool": {"role": "assistant", "tool_calls": [CALLED | {"function": {"name": LONG}}]},
    "name of an answering tool": {"role": "tool", "content": "", "name": LONG},
    "id of a call": {"role": "assistant", "tool_calls": [CALLED | {"id": LONG}]},
    "id of an answered call": {"role": "tool", "content": "", "tool_call_id": LONG},
}  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_everything_that_a_template_may_show_the_model_counts(message: dict[str, Any]) -> None:
    asked = openai_chat.parse(msgspec.json.encode({"model": "m", "messages": [message]}))
    assert asked.upstream.size().text_bytes >= len(LONG)


def test_tools_and_system_texts_count() -> None:
    tool = {"type": "function", "function": {"name": "f", "description": LONG}}
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "tools": [tool]}
    assert openai_chat.parse(msgspec.json.encode(body)).upstream.size().text_bytes > len(LONG)
    assert plain.parse(msgspec.json.encode({"prompt": "x", "system": LONG})).upstream.size().text_bytes > len(LONG)


def test_text_is_measured_in_bytes_of_utf_8() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "漢字"}]}
    assert openai_chat.parse(msgspec.json.encode(body)).upstream.size().text_bytes == 6
    assert plain.parse(msgspec.json.encode({"prompt": "漢字"})).upstream.size().text_bytes == 6
