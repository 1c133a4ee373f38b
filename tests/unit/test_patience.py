"""The header by which a client says how long it waits."""

import pytest

from gateway.errors import BadRequest
from gateway.web.patience import DIGITS_MAX, HEADER, wait_ms_max

NAME = HEADER.encode()


@pytest.mark.parametrize(
    ("said", "ms"),
    [(b"0", 0), (b"250", 250), (b" 250 ", 250), (b"007", 7), (b"9" * DIGITS_MAX, 10**DIGITS_MAX - 1)],
)
def test_it_is_a_whole_number_of_milliseconds(said: bytes, ms: int) -> None:
    assert wait_ms_max([(b"accept", b"1"), (NAME, said)]) == ms


def test_without_it_the_client_says_nothing() -> None:
    assert wait_ms_max([(b"x-max-wait", b"0")]) is None


def test_a_number_of_any_length_is_a_long_time() -> None:
    assert wait_ms_max([(NAME, b"9" * 60_000)]) == 10**DIGITS_MAX


@pytest.mark.parametrize("said", [b"", b"-1", b"1.5", b"1e3", b"5s", b"0x5", "٣".encode(), b"1, 2", b"+1", b"1 2"])
def test_anything_else_is_refused_with_its_name(said: bytes) -> None:
    with pytest.raises(BadRequest, match="x-max-wait-ms") as refused:
        wait_ms_max([(NAME, said)])
    assert refused.value.param == HEADER


def test_two_of_them_are_none() -> None:
    with pytest.raises(BadRequest):
        wait_ms_max([(NAME, b"1"), (NAME, b"1")])
