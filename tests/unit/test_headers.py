"""What a reply says about limits."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.call import Admission, Level, Levels, Queued
from gateway.errors import BadRequest, CreditsExhausted, Draining, GatewayError, LimitsUnavailable, RequestsLimited
from gateway.web.headers import EXPOSED, of_admission, of_error, of_levels, of_place


@pytest.mark.parametrize(
    ("ms", "shown"),
    [(0, "0s"), (1, "0.001s"), (999, "0.999s"), (1_000, "1s"), (1_500, "1.5s"), (59_999, "59.999s"), (60_000, "60s")],
)
def test_a_reset_is_in_seconds_as_openai_writes_them(ms: int, shown: str) -> None:
    assert dict(of_levels(Levels(requests=Level(20, 3, ms)))) == {
        b"x-ratelimit-limit-requests": b"20",
        b"x-ratelimit-remaining-requests": b"3",
        b"x-ratelimit-reset-requests": shown.encode(),
        b"ratelimit-policy": b'"requests";q=20;w=60',
        b"ratelimit": b'"requests";r=3;t=%d' % -(-ms // 1000),
    }


@given(st.integers(0, 10**10))
def test_a_reset_is_a_plain_number_however_long_it_takes(ms: int) -> None:
    """A key deep in debt waits long; no client reads 1e+06s."""
    reset = dict(of_levels(Levels(tokens=Level(1, 0, ms))))[b"x-ratelimit-reset-tokens"].decode()
    assert re.fullmatch(r"[0-9]+(\.[0-9]{1,3})?s", reset)


def test_a_limit_that_is_not_there_is_not_mentioned() -> None:
    assert of_levels(None) == of_levels(Levels()) == []
    assert {name for name, _ in of_levels(Levels(tokens=Level(1, 1, 0)))} == {
        b"x-ratelimit-limit-tokens",
        b"x-ratelimit-remaining-tokens",
        b"x-ratelimit-reset-tokens",
        b"ratelimit-policy",
        b"ratelimit",
    }


def test_the_draft_has_one_list_for_all_limits() -> None:
    said = dict(of_levels(Levels(requests=Level(20, 19, 2_001), tokens=Level(60_000, 0, 60_000))))
    assert said[b"ratelimit-policy"] == b'"requests";q=20;w=60, "tokens";q=60000;w=60'
    assert said[b"ratelimit"] == b'"requests";r=19;t=3, "tokens";r=0;t=60'


def test_a_cap_is_told_only_where_it_is_less_than_was_asked() -> None:
    assert of_admission(None, 5) == []
    assert dict(of_admission(Admission(0, 120, Levels()), 500)) == {b"x-gateway-max-tokens": b"120"}
    assert of_admission(Admission(0, 500, Levels()), 500) == []


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (RequestsLimited(retry_after_s=7), b"7"),
        (RequestsLimited(), b"1"),
        (LimitsUnavailable(), b"5"),
        (Draining(), b"1"),
        (BadRequest(), None),
        (CreditsExhausted(), None),
    ],
)
def test_retry_after_is_said_where_waiting_helps(error: GatewayError, wait: bytes | None) -> None:
    assert dict(of_error(error)).get(b"retry-after") == wait


def test_a_place_in_the_line_is_told_of_calls_that_had_one() -> None:
    assert of_place(None) == []
    assert of_place(Queued(3, 8.0)) == [(b"x-queue-position", b"3")]


def test_a_refusal_by_a_limit_shows_the_limits() -> None:
    error = RequestsLimited(retry_after_s=3)
    error.levels = Levels(requests=Level(20, 0, 3_000), tokens=Level(9, 9, 0))
    assert len(of_error(error)) == 9


def test_pages_of_other_origins_may_read_every_header_that_is_sent() -> None:
    error = RequestsLimited()
    error.levels = Levels(requests=Level(1, 1, 1), tokens=Level(1, 1, 1))
    assert {name.decode() for name, _ in of_error(error)} <= set(EXPOSED)
