"""Usage events: what settle writes is read back whole, and whatever else a stream holds is named bad, not a crash."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.usage import BadEvent, Detail, UsageEvent, decode, detail_json

CALL_ID = "019a0000-0000-7000-8000-000000000001"
SECRET = "s3cret"
DETAIL = Detail(
    model="llama3.2:latest",
    endpoint="/v1/chat/completions",
    backend="http://node:11434",
    streamed=True,
    finish_reason="stop",
    response_time_ms=1200,
    first_token_ms=80,
    load_ms=7,
    prompt_ms=60,
    eval_ms=1100,
    end_user="ünï-用户",
)
FIELDS = {
    b"v": b"1",
    b"id": CALL_ID.encode(),
    b"key": b"abcDEF1234",
    b"at": b"1795292735107",
    b"month": b"202611",
    b"prompt": b"11",
    b"completion": b"22",
    b"credits": b"1000000",
    b"estimated": b"0",
    b"detail": detail_json(DETAIL),
}
DEEP = b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def test_an_event_is_read_back_whole() -> None:
    assert decode(FIELDS) == UsageEvent(
        id=CALL_ID,
        key_id="abcDEF1234",
        at_ms=1795292735107,
        month="202611",
        prompt_tokens=11,
        completion_tokens=22,
        credits_micro=1_000_000,
        estimated=False,
        detail=DETAIL,
    )


def test_what_a_later_version_adds_to_the_detail_is_passed_over() -> None:
    assert decode(FIELDS | {b"detail": b'{"model":"m:1","gpu_ms":[1,{"a":2}]}'}).detail == Detail(model="m:1")


POISON: dict[str, Mapping[bytes, bytes]] = {
    "no version": {b"v": b""},
    "later version": {b"v": b"2"},
    "id is none": {b"id": SECRET.encode()},
    "key is not ascii": {b"key": b"\xff\xfe"},
    "key is empty": {b"key": b""},
    "key has a NUL": {b"key": b"a\0b"},
    "key is too long": {b"key": b"a" * 65},
    "tokens are no number": {b"prompt": SECRET.encode()},
    "tokens are a fraction": {b"prompt": b"1.5"},
    "tokens are negative": {b"completion": b"-1"},
    "tokens beyond 32 bits": {b"prompt": b"2147483648"},
    "tokens beyond 64 bits": {b"prompt": b"9223372036854775808"},
    "tokens of 5000 digits": {b"prompt": b"9" * 5000},
    "credits are negative": {b"credits": b"-1"},
    "credits beyond doubles": {b"credits": b"9007199254740993"},
    "time is zero": {b"at": b"0"},
    "time is in seconds": {b"at": b"1795292735"},
    "time is far away": {b"at": b"99999999999999"},
    "month is none": {b"month": b"202613"},
    "month is a date": {b"month": b"2026-11"},
    "detail is no JSON": {b"detail": b"{" + SECRET.encode()},
    "detail is a list": {b"detail": b"[]"},
    "detail is not UTF-8": {b"detail": b'{"model":"\xff"}'},
    "detail has half a surrogate": {b"detail": b'{"model":"\\ud800"}'},
    "detail is 100,000 deep": {b"detail": DEEP},
    "detail has a NUL": {b"detail": b'{"backend":"a\\u0000"}'},
    "a duration is negative": {b"detail": b'{"load_ms":-1}'},
    "a duration beyond 32 bits": {b"detail": b'{"response_time_ms":2147483648}'},
    "a duration beyond 64 bits": {b"detail": b'{"eval_ms":99999999999999999999}'},
    "a text is a number": {b"detail": b'{"model":1}'},
}


@pytest.mark.parametrize("kind", POISON)
def test_poison_is_named_and_not_repeated(kind: str) -> None:
    with pytest.raises(BadEvent) as caught:
        decode(FIELDS | POISON[kind])
    assert str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_missing_field_is_named(name: bytes) -> None:
    with pytest.raises(BadEvent, match=r"version is not 1" if name == b"v" else name.decode()):
        decode({key: value for key, value in FIELDS.items() if key != name})


VALUES = st.binary(max_size=40) | st.integers().map(lambda number: str(number).encode())


@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), VALUES))
def test_no_entry_is_a_crash(fields: dict[bytes, bytes]) -> None:
    for entry in (fields, FIELDS | fields):
        try:
            event = decode(entry)
        except BadEvent:
            continue
        assert 0 <= event.prompt_tokens < 2**31
